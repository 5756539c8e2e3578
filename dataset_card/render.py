"""The dataset card: the statistics of a build in, Markdown with YAML front matter out. Imports nothing of ours.

A pure function: no clock, no file but the template, no machine path. The same statistics give the same bytes.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_card import judges, texts
from dataset_card.captions import by_size, figures
from dataset_card.columns import COLUMNS, CONFIG_MEANINGS, SPLIT_MEANINGS
from dataset_card.configs import PAIR_CONFIGS, pair_rows
from dataset_card.fidelity import fidelity_lines, fidelity_table
from dataset_card.front_matter import front_matter
from dataset_card.models import model_table, models_used, weights_note
from dataset_card.origin import persona_origin
from dataset_card.snippets import max_length, persona_snippets, snippets, tag, training_command
from dataset_card.tables import cell, code, flat, number, table, table_of
from dataset_card.terms import terms_table

TEMPLATE = Path(__file__).parent / "template.md"
SMALL = 1_000  # below so many rows in every pair config the card warns at the top
# Recipe keys that name a file: only its name is printed. Keys that say where a model stands are not printed at all.
FILE_KEYS = ("census.source", "census.household_source", "personas.source", "prompts.source")
PLACE_KEYS = ("path", "base_url", "api_key_env")


def render_card(statistics: Mapping[str, Any]) -> str:
    """The card as text.

    `statistics` holds `version`, `recipe_name` and `configs` ({config: {split: {"rows", "file", "groups"?}}}); everything else
    (`repo_id`, `licence`, `build`, `audit`, `flip_rate`, `personas`, `topics`, `question_sources`, `templates`, `example_persona`,
    `longest_row` of the training rows in tokens, `fidelity` or why there is none in `fidelity_note`, `figures`) may be absent, and the card
    then says that it was not measured or leaves the section out. Raises KeyError for a missing required key.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(_values(statistics))
    # Sections that are left out leave blank lines behind.
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    return f"---\n{front_matter(statistics)}\n---\n\n{body}\n"


def _values(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template names, as text or None."""
    configs = statistics["configs"]
    build = statistics.get("build") or {}
    stages = build.get("stages") or {}
    usage = build.get("usage") or {}
    pairs = [config for config in PAIR_CONFIGS if config in configs]
    flips = (stages.get("contrast") or {}).get("flips") or {}
    fidelity = statistics.get("fidelity")
    origin = persona_origin(build)
    used = models_used(build)
    return {
        "texts": texts,
        "recipe_name": cell(statistics["recipe_name"]),
        "version": cell(statistics["version"]),
        "tag": tag(statistics["version"]),
        "is_hub": bool(statistics.get("repo_id")),
        "origin": origin,
        "has_matched": "dpf_matched" in configs,
        "has_contrast": "contrast" in configs,
        "snippets": snippets(statistics),
        "persona_snippets": persona_snippets(statistics),
        "training_command": training_command(statistics),
        "max_length": max_length(statistics),
        "longest_row": number(statistics.get("longest_row")),
        "pair_rows": number(pair_rows(configs)),
        "too_small": all(pair_rows({config: configs[config]}) < SMALL for config in pairs),
        "personas": _personas_line(statistics.get("personas") or {}),
        "split_table": _split_table(configs),
        "view_table": _view_table(configs, pairs),
        "quadrant_tables": [(config, _quadrants(configs[config])) for config in pairs],
        "column_tables": [
            (config, CONFIG_MEANINGS[config], _columns(config)) for config in configs if config in COLUMNS
        ],
        "stage_table": _stages(stages),
        "model_table": model_table(used),
        "weights_note": weights_note(used),
        "template_table": _templates(build.get("templates") or {}, statistics.get("templates") or {}),
        "template_texts": _template_texts(statistics.get("templates") or {}),
        "judge_table": judges.judge_table(build.get("judge") or {}),
        "temperature_note": judges.temperature_note(build.get("judge") or {}),
        "question_notes": _question_notes(stages.get("prompts") or {}),
        # The responses that the data consists of. What one run happened to replay or to ask anew is no property of the data.
        "usage_table": _usage(usage.get("recorded", usage), stages),
        "source_table": table_of(("input", "value"), _known(flat(build.get("sources") or {}))),
        "recipe_table": table_of(("key", "value"), _recipe(build.get("recipe") or {})),
        "fingerprint": cell(build.get("fingerprint"))[:12],
        "code_version": cell(build.get("code_version")),
        "fidelity_lines": fidelity_lines(fidelity) if fidelity else [],
        "fidelity_table": fidelity_table(fidelity) if fidelity else "",
        "fidelity_note": cell(statistics.get("fidelity_note")),
        "audit_table": _audit(_shortcuts(statistics.get("audit") or {})),
        "proof_table": _audit(_proofs(statistics.get("audit") or {})),
        "proofs": len(_proofs(statistics.get("audit") or {})),
        "verdicts": _verdicts(statistics.get("audit") or {}),
        "flip_rate": judges.flip_rate(statistics.get("flip_rate") or {}),
        "judge_check_table": judges.judge_check((stages.get("pairs") or {}).get("judge_check") or {}),
        "flip_table": judges.flips(flips),
        "flip_details": judges.flip_details(flips),
        "judge_agreement": judges.agreement(flips),
        "canary": cell(build.get("canary")),
        "topic_table": table(
            ("topic", "questions"), [(cell(t), number(n)) for t, n in by_size(statistics.get("topics") or {})]
        ),
        "figures": figures(statistics),
        "licence": cell(statistics.get("licence", "cc-by-4.0")),
        "terms_table": terms_table(statistics),
        "citation": texts.citation(statistics),
        "changes": _changes(build.get("changelog") or []),
        "first_version": _first_version(build.get("changelog") or [], statistics["version"]),
    }


# --- sections


def _split_table(configs: Mapping[str, Any]) -> str:
    rows = [
        (
            code(config),
            code(split),
            number(entry["rows"]) if entry["rows"] else "0, not listed",
            SPLIT_MEANINGS[split] if config in PAIR_CONFIGS else "all",
        )
        for config, splits in configs.items()
        for split, entry in splits.items()
    ]
    return table(("config", "split", "rows", "what"), rows)


def _view_table(configs: Mapping[str, Any], pairs: Sequence[str]) -> str:
    """The two ways to count training rows: without and with the unseen personas' support rows."""
    rows = []
    for config in pairs:
        train, support = (configs[config].get(split, {}).get("rows", 0) for split in ("train", "support"))
        rows.append((code(config), number(train), number(train + support) if support else "no support rows"))
    return table(("config", '`split="train"` (default)', '`split="train+support"` (the paper\'s view)'), rows)


def _quadrants(splits: Mapping[str, Any]) -> str:
    """Persona group by kind of question; a count that the statistics do not hold is left open."""
    rows = []
    for group in ("seen", "unseen"):
        cells = []
        for split in ("seen_test", "heldout_test"):
            groups = splits.get(split, {}).get("groups")
            # A split without rows has no groups to count.
            is_empty = split in splits and not splits[split]["rows"]
            cells.append("0" if is_empty else "not counted" if groups is None else number(groups.get(group, 0)))
        rows.append((f"{group} personas", *cells))
    return table(("", "`seen_test`", "`heldout_test`"), rows)


def _columns(config: str) -> str:
    return table(("column", "meaning"), [(code(column), meaning) for column, meaning in COLUMNS[config].items()])


def _stages(stages: Mapping[str, Any]) -> str:
    rows = []
    for name, counts in stages.items():
        dropped = {reason: n for reason, n in (counts.get("dropped") or {}).items() if n}
        why = ", ".join(f"{reason}: {number(n)}" for reason, n in dropped.items()) or "none"
        rows.append((cell(name), number(counts.get("in")), number(counts.get("out")), cell(why)))
    return table(("stage", "in", "out", "dropped"), rows)


def _question_notes(counts: Mapping[str, Any]) -> str:
    """What the prompts stage has to say beyond its counts: the classifier's natural pass rate, pools smaller than asked for."""
    notes = []
    classifier = counts.get("classifier") or {}
    if classifier.get("pass_rate") is not None:
        notes.append(
            f"Of {number(classifier.get('scored'))} questions that the classifier scored, {100 * classifier['pass_rate']:.1f} % reached "
            f"the threshold of {number(classifier.get('threshold'))}; where more passed than were wanted, the highest scores were taken."
        )
    if counts.get("note"):
        notes.append(cell(counts["note"]))
    return " ".join(notes)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _templates(versions: Mapping[str, str], shown: Mapping[str, Any]) -> str:
    rows = [(code(n), code(version), "below" if n in shown else "not packaged") for n, version in versions.items()]
    return table(("template", "version", "text"), rows)


def _template_texts(templates: Mapping[str, Sequence[Mapping[str, str]]]) -> list[tuple[str, str]]:
    """(name, text) of each template; a fence that no text can close."""
    found = []
    for name, messages in templates.items():
        text = "\n\n".join(f"[{message['role']}]\n{message['content'].strip()}" for message in messages)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        found.append((name, f"{fence}text\n{text}\n{fence}"))
    return found


def _usage(usage: Mapping[str, Any], stages: Mapping[str, Any]) -> str:
    """Calls and tokens by stage and role, and in all. Prices are the publisher's and change; what follows from them is left out."""
    rows = [
        (cell(stage), cell(role), *map(number, numbers))
        for stage, counts in stages.items()
        for role, numbers in (counts.get("usage") or {}).items()
    ]
    names = ("responses", "prompt_tokens", "completion_tokens")
    if any(name in usage for name in names):
        rows.append(("all", "", *(number(usage.get(name)) for name in names)))
    return table(("stage", "role", "replies", "tokens read", "tokens written"), rows)


def _proofs(audit: Mapping[str, Any]) -> dict[str, Any]:
    """The checks that hold or do not (splits, ids, mirrors) and do hold: many rows without news."""
    return {name: check for name, check in audit.items() if check.get("proof") and check.get("verdict") == "pass"}


def _shortcuts(audit: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, and any proof that failed."""
    return {name: check for name, check in audit.items() if name not in _proofs(audit)}


def _verdicts(audit: Mapping[str, Any]) -> str:
    counts = Counter(cell(check.get("verdict") or "none") for check in audit.values())
    return ", ".join(f"{verdict}: {number(n)}" for verdict, n in sorted(counts.items()))


def _audit(audit: Mapping[str, Any]) -> str:
    rows = []
    for name, check in audit.items():
        low, high, n = check.get("low"), check.get("high"), check.get("n")
        interval = "" if low is None or high is None else f"{number(low)} to {number(high)}"
        note = check.get("note") or ""
        # A share of few rows says little; a proof (no interval) holds at any number.
        if low is not None and n is not None and n < judges.FEWEST:
            note = f"{note} Only {n} rows: too few to conclude from.".strip()
        verdict = check.get("verdict") or ""
        rows.append((cell(name), cell(verdict), number(check.get("value")), interval, number(n), cell(note)))
    # What decides stands where a narrow screen shows it.
    return table(("check", "verdict", "value", "95 % interval", "n", "note"), rows)


def _personas_line(personas: Mapping[str, Any]) -> str | None:
    if not personas:
        return None
    seen, unseen = personas.get("seen", 0), personas.get("unseen", 0)
    adults = personas.get("adults")
    of_age = "" if adults is None else f", {number(adults)} of them adults"
    return f"{number(seen + unseen)} ({number(seen)} seen, {number(unseen)} unseen{of_age})"


def _recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's flat keys, without anything that tells where something stands on a machine."""
    shown = {}
    for key, value in flat(recipe).items():
        if key.rpartition(".")[2] in PLACE_KEYS or value is None:
            continue
        shown[key] = re.split(r"[/\\]", value)[-1] if key in FILE_KEYS and isinstance(value, str) else value
    return shown


def _changes(changelog: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(heading, sentences) by version, newest first."""
    return [
        (
            f"{cell(entry['version'])} ({cell(entry['step'])}, after {cell(entry['previous'])})",
            [cell(sentence) for sentence in entry["changes"]] or ["No row, column or split changed."],
        )
        for entry in changelog
    ]


def _first_version(changelog: Sequence[Mapping[str, Any]], version: str) -> str:
    return cell(changelog[-1]["previous"] if changelog else version)
