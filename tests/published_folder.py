"""A small valid published folder: what builder/publishing writes, made from a few sentences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.files import sha256_file
from builder.randomness import rng_for
from builder.schema import (
    ATTRIBUTES,
    BIG_FIVE,
    CANARY,
    assistant_message,
    contrast_pair_id,
    dpf_pair_id,
    features,
    persona_id,
    preference_messages,
    prompt_id,
    split_for,
)

TRADES = ("nurse", "farmer", "teacher", "plumber", "painter", "lawyer", "baker", "pilot")
SUBJECTS = ("working late", "eating meat", "paying taxes", "public schools", "old cars", "city noise", "pets", "sport")
Tables = dict[str, dict[str, list[dict[str, Any]]]]  # config -> split -> rows


def write_published_folder(
    folder: Path,
    seen: int = 4,
    unseen: int = 2,
    change: Callable[[Tables], None] | None = None,
    profile_words: int = 4,
) -> Path:
    """`seen` + `unseen` personas (two of each group at least), six prompts, two of them held out.

    Every persona has 3 train-pool pairs (`train` or `support`), 1 seen_test and 2 heldout_test pairs in `dpf`, and each of its pairs
    is contrasted with the next persona of its group, both mirrors. `change` may spoil the tables before they are written.
    """
    tables = build_tables(seen, unseen, profile_words)
    if change is not None:
        change(tables)
    write_tables(folder, tables, strict=change is None)
    build = {"fingerprint": "test" * 16, "recipe": {"name": "test"}}
    (folder / "build.json").write_text(json.dumps(build), encoding="utf-8")
    return folder


def build_tables(seen: int = 4, unseen: int = 2, profile_words: int = 4) -> Tables:
    groups = ["seen"] * seen + ["unseen"] * unseen
    ids = [persona_id(index) for index in range(len(groups))]
    profiles = {
        p: f"You are a {TRADES[i % len(TRADES)]}, person {i}." + " plain words" * (profile_words // 2)
        for i, p in enumerate(ids)
    }
    questions = {prompt_id(i): f"What do you think about {SUBJECTS[i]}?" for i in range(6)}
    parts = {"q00000": "train", "q00001": "train", "q00002": "train", "q00003": "seen_test"}
    parts |= {"q00004": "heldout_test", "q00005": "heldout_test"}
    revisions = {
        (p, q): f"As a {TRADES[i % len(TRADES)]} I like {SUBJECTS[j]}."
        for i, p in enumerate(ids)
        for j, q in enumerate(questions)
    }
    base = {q: f"Rules about {SUBJECTS[j]} are rules." for j, q in enumerate(questions)}

    dpf: dict[str, list[dict[str, Any]]] = {split: [] for split in ("train", "seen_test", "heldout_test", "support")}
    contrast: dict[str, list[dict[str, Any]]] = {split: [] for split in dpf}
    for persona, group in zip(ids, groups, strict=True):
        fellows = [p for p, g in zip(ids, groups, strict=True) if g == group]
        partner = fellows[(fellows.index(persona) + 1) % len(fellows)]
        for question_id, question in questions.items():
            split = split_for(parts[question_id], group)
            wrong = str(rng_for(0, "wrong_persona", persona + question_id).choice([p for p in fellows if p != persona]))
            shared = {
                "prompt_id": question_id,
                "topic": "life",
                "persona_group": group,
                "is_adult": True,
                "wrong_persona_id": wrong,
                "judge": "scripted",
                "judge_verdict": "chosen",
                "judge_score": 0.5,
                "prompt_tokens": 20,
                "chosen_tokens": 8,
                "rejected_tokens": 8,
                "length_violation": False,
                "attribute_leak": False,
                "inferable_attributes": [],
            }
            dpf[split].append(
                shared
                | {
                    "pair_id": dpf_pair_id(persona, question_id),
                    "persona_id": persona,
                    "prompt": preference_messages(profiles[persona], question),
                    "chosen": assistant_message(revisions[persona, question_id]),
                    "rejected": assistant_message(base[question_id]),
                    "base_id": f"base/{question_id}",
                    "critique": "Say it as this person would.",
                }
            )
            for own, other in ((persona, partner), (partner, persona)):
                row = shared | {
                    "pair_id": contrast_pair_id(own, other, question_id),
                    "mirror_pair_id": contrast_pair_id(other, own, question_id),
                    "persona_id": own,
                    "partner_persona_id": other,
                    "partner_distance": 0.5,
                    "wrong_persona_id": next(p for p in [*fellows, other] if p != own),
                    "prompt": preference_messages(profiles[own], question),
                    "chosen": assistant_message(revisions[own, question_id]),
                    "rejected": assistant_message(revisions[other, question_id]),
                    "flips": [{"judge": "scripted", "flip": True, "margin": 0.1, "is_selector": True}],
                }
                if row["pair_id"] not in {r["pair_id"] for r in contrast[split]}:
                    contrast[split].append(row)

    nothing = dict.fromkeys(ATTRIBUTES)
    personas = [
        nothing
        | {
            "persona_id": persona,
            "group": group,
            "is_adult": True,
            "weight": 10,
            "profile": profiles[persona],
            "age": 40,
            "income": 50000,
            "big_five_scores": dict.fromkeys(BIG_FIVE, "Average"),
            "extras": {"core_values": ["honesty"], "entertainment_preferences": ["books"]},
            "null_reasons": nothing,
            "provenance": nothing,
        }
        for persona, group in zip(ids, groups, strict=True)
    ]
    prompts = [
        {
            "prompt_id": question_id,
            "question": question,
            "topic": "life",
            "pool": "heldout" if parts[question_id] == "heldout_test" else "train",
            "controversy_score": 1.0,
            "controversy_votes": [True],
            "source": "test",
            "source_id": question_id,
            "licence": "CC0-1.0",
            "canary": CANARY,
        }
        for question_id, question in questions.items()
    ]
    return {"dpf": dpf, "contrast": contrast, "personas": {"train": personas}, "prompts": {"train": prompts}}


def write_tables(folder: Path, tables: Tables, strict: bool = True) -> None:
    """Parquet files and a README.md whose front matter names every config and split.

    A table that no longer fits the declared columns is an error, unless `strict` is off: then it is written as it is.
    """
    import yaml
    from datasets import Dataset

    configs = []
    for config, splits in tables.items():
        files = []
        for split, rows in splits.items():
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = features(config)
            spoilt = rows and (set(rows[0]) != set(columns) or not isinstance(rows[0].get("prompt", []), list))
            if strict or not spoilt:
                data = {name: [row[name] for row in rows] for name in columns}
                table = Dataset.from_dict(data, features=columns)
            else:
                table = Dataset.from_list(rows)
            table.to_parquet(str(path))
            # The content's hash in the name, as builder.publish does and for the same reason.
            path = path.rename(path.with_stem(f"{path.stem}-{sha256_file(path)[:12]}"))
            files.append({"split": split, "path": f"{config}/{path.name}"})
        configs.append({"config_name": config, "data_files": files} | ({"default": True} if config == "dpf" else {}))
    header = yaml.safe_dump({"configs": configs}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{header}---\n\n# Test data\n", encoding="utf-8")
