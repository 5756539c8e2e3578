"""A published folder in which the persona decides by a rule that can be learned, and a model just large enough to learn it.

Half of the personas like gardening, half like rules; each profile says which. Every answer names one of the two, in wordings that have
nothing to do with the persona, and the persona prefers its own. So the true persona decides every contrast pair, one of the other kind
decides it the other way, and without a persona nothing does.
"""

import json
from pathlib import Path
from typing import Any

from builder.randomness import rng_for
from builder.schema import assistant_message, preference_messages
from tests.published_folder import Tables, build_tables, write_tables
from tests.tiny_model import build_tiny_model

SEEN, UNSEEN = 24, 8
# All words are from the tiny tokenizer's sentences, so that each of them is one token.
KINDS = ("gardening", "rules")
PLACES = ("Ohio", "a holiday", "the team", "the manager")
SUBJECTS = ("working", "a holiday", "the shifts", "the manager", "the team", "words")  # the last two are held out
WORDINGS = ("I would ask for {}.", "Everyone should ask for {}.", "I would talk about {}.", "You are fair to {}.")


def write_planted_folder(folder: Path, shuffled: bool = False) -> Path:
    """`shuffled`: in half of each train question's mirrored sets, drawn at random, chosen and rejected are swapped."""
    tables = planted_tables()
    if shuffled:
        _shuffle_labels(tables["contrast"]["train"])
    write_tables(folder, tables)
    (folder / "build.json").write_text(json.dumps({"fingerprint": "test" * 16}), encoding="utf-8")
    return folder


def planted_tables() -> Tables:
    """`build_tables` with other texts. Neighbours of a group differ in kind, so a contrast pair always sets one kind against the other.

    `wrong_persona_id` names a third persona of the group, of the other kind.
    """
    tables = build_tables(SEEN, UNSEEN)
    personas = tables["personas"]["train"]
    kinds = {row["persona_id"]: KINDS[place % 2] for place, row in enumerate(personas)}
    for place, row in enumerate(personas):
        home = PLACES[place // 2 % len(PLACES)]
        row["profile"] = f"You are a {20 + place} year old nurse from {home} who likes {kinds[row['persona_id']]}."
    profiles = {row["persona_id"]: row["profile"] for row in personas}
    for row, subject in zip(tables["prompts"]["train"], SUBJECTS, strict=True):
        row["question"] = f"What do you think about {subject}?"
    questions = {row["prompt_id"]: row["question"] for row in tables["prompts"]["train"]}

    def answer(persona: str, question: str) -> list[dict[str, str]]:
        wording = rng_for(0, "planted/wording", f"{persona}/{question}").choice(WORDINGS)
        return assistant_message(str(wording).format(kinds[persona]))

    def wrong(row: dict[str, Any]) -> str:
        group = [person["persona_id"] for person in personas if person["group"] == row["persona_group"]]
        unlike = [p for p in group if kinds[p] != kinds[row["persona_id"]] and p != row.get("partner_persona_id")]
        return str(rng_for(0, "planted/wrong", row["pair_id"]).choice(unlike))

    for config in ("dpf", "contrast"):
        for row in (row for rows in tables[config].values() for row in rows):
            persona, question = row["persona_id"], row["prompt_id"]
            row["prompt"] = preference_messages(profiles[persona], questions[question])
            row["wrong_persona_id"] = wrong(row)
            row["chosen"] = answer(persona, question)
            partner = row.get("partner_persona_id")
            row["rejected"] = answer(partner, question) if partner else assistant_message("Everyone works.")
    return tables


def build_planted_model(folder: Path) -> Path:
    """The tiny model's tokenizer with a model of 130,000 parameters: with 16 hidden units the rule takes too long to learn."""
    import torch
    from transformers import AutoConfig, Qwen2ForCausalLM

    build_tiny_model(folder)
    config = AutoConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 128, "num_key_value_heads": 4})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def _shuffle_labels(rows: list[dict[str, Any]]) -> None:
    """Exactly half of the sets of a question are swapped, so that the labels say nothing at all about the rule."""
    sets: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        sets.setdefault(row["prompt_id"], {}).setdefault(min(row["pair_id"], row["mirror_pair_id"]), []).append(row)
    for question, own in sets.items():
        order = rng_for(0, "planted/shuffle", question).permutation(sorted(own))
        for row in (row for key in order[: len(order) // 2] for row in own[key]):
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
