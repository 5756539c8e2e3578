"""The dataset card: the statistics of a build in, Markdown with YAML front matter out. Imports nothing of ours.

A pure function: no clock, no file but the template, no machine path. The same statistics give the same bytes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_card.columns import COLUMNS, CONFIG_MEANINGS, SPLIT_MEANINGS

TEMPLATE = Path(__file__).parent / "template.md"
PAIR_CONFIGS = ("dpf", "dpf_matched", "contrast")
DEFAULT_CONFIG = "dpf"
FEWEST = 20  # below so many rows a share says next to nothing, and the card says that
SMALL = 1_000  # below so many rows in every pair config the card warns at the top
# Recipe keys that name a file: only its name is printed. Keys that say where a model stands are not printed at all.
FILE_KEYS = ("census.source", "census.household_source", "personas.source", "prompts.source")
PLACE_KEYS = ("path", "base_url", "api_key_env")
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def render_card(statistics: Mapping[str, Any]) -> str:
    """The card as text.

    `statistics` holds `version`, `recipe_name` and `configs` ({config: {split: {"rows", "file", "groups"?}}}); everything else
    (`repo_id`, `licence`, `build`, `audit`, `flip_rate`, `personas`, `topics`, `figures`) may be absent, and the card then says that it
    was not measured or leaves the section out. Raises KeyError for a missing required key.
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


def front_matter(statistics: Mapping[str, Any]) -> str:
    """The YAML header: licence, size, tags, and each config's files by split.

    Files are listed by split because the Hub otherwise guesses splits from file names and puts `seen_test` and `heldout_test` together.
    A split without a row is left out: `datasets` fails on an empty Parquet file, and with it on the whole config.
    """
    from huggingface_hub import DatasetCardData

    configs = _with_rows(statistics["configs"])
    default = DEFAULT_CONFIG if DEFAULT_CONFIG in configs else next(iter(configs), None)
    listed = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": entry["file"]} for split, entry in splits.items()],
            **({"default": True} if config == default else {}),
        }
        for config, splits in configs.items()
    ]
    data = DatasetCardData(
        license=statistics.get("licence", "cc-by-4.0"),
        language=["en"],
        pretty_name=f"PERSONA testbed, {statistics['recipe_name']} {statistics['version']}",
        size_categories=[_size(_pair_rows(configs))],
        task_categories=["text-generation"],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        multilinguality=["monolingual"],
        tags=["preference", "dpo", "reward-model", "personas", "pluralistic-alignment", "synthetic", "trl"],
        configs=listed,
    )
    return data.to_yaml(line_break="\n")


def _values(statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template names, as text or None."""
    configs = statistics["configs"]
    build = statistics.get("build") or {}
    stages = build.get("stages") or {}
    usage = build.get("usage") or {}
    pairs = [config for config in PAIR_CONFIGS if config in configs]
    return {
        "recipe_name": statistics["recipe_name"],
        "version": statistics["version"],
        "snippet": _snippet(statistics.get("repo_id") or ".", _with_rows(configs)),
        "is_hub": bool(statistics.get("repo_id")),
        "pair_rows": _number(_pair_rows(configs)),
        "too_small": all(_pair_rows({config: configs[config]}) < SMALL for config in pairs),
        "personas": _personas_line(statistics.get("personas") or {}),
        "split_table": _split_table(configs),
        "view_table": _view_table(configs, pairs),
        "quadrant_tables": [(config, _quadrants(configs[config])) for config in pairs],
        "column_tables": [
            (config, CONFIG_MEANINGS[config], _columns(config)) for config in configs if config in COLUMNS
        ],
        "stage_table": _stages(stages),
        "model_table": _models(build.get("models") or {}),
        "template_table": _pairs_of(("template", "version"), build.get("templates") or {}),
        "judge_table": _pairs_of(("judge", "value"), _flat(build.get("judge") or {})),
        "question_notes": _question_notes(stages.get("prompts") or {}),
        # The responses that the data consists of. What one run happened to replay or to ask anew is no property of the data.
        "usage_table": _pairs_of(("usage", "value"), _flat(usage.get("recorded", usage))),
        "source_table": _pairs_of(("input", "value"), _known(_flat(build.get("sources") or {}))),
        "recipe_table": _pairs_of(("key", "value"), _recipe(build.get("recipe") or {})),
        "fingerprint": build.get("fingerprint"),
        "code_version": build.get("code_version"),
        "audit_table": _audit(statistics.get("audit") or {}),
        "flip_rate": _flip_rate(statistics.get("flip_rate") or {}),
        "judge_check_table": _judge_check((stages.get("pairs") or {}).get("judge_check") or {}),
        "flip_table": _flips((stages.get("contrast") or {}).get("flips") or {}),
        "flip_details": _flip_details((stages.get("contrast") or {}).get("flips") or {}),
        "canary": build.get("canary"),
        "topic_table": _table(
            ("topic", "questions"), [(t, _number(n)) for t, n in _by_size(statistics.get("topics") or {})]
        ),
        "figures": statistics.get("figures") or {},
        "licence": statistics.get("licence", "cc-by-4.0"),
        "fewest": FEWEST,
    }


# --- sections


def _snippet(where: str, configs: Mapping[str, Any]) -> str:
    """Python that loads what this build has."""
    lines = ["from datasets import load_dataset", ""]
    for name, config, wanted in (
        ("pairs", DEFAULT_CONFIG, "train"),
        ("contrast", "contrast", "heldout_test"),
        ("personas", "personas", "train"),
    ):
        if configs.get(config):
            split = wanted if wanted in configs[config] else next(iter(configs[config]))
            lines.append(f'{name} = load_dataset("{where}", "{config}", split="{split}")')
    if "heldout_test" in configs.get(DEFAULT_CONFIG, {}):
        lines += [
            "",
            "# Personas and questions that no training row has seen:",
            f'heldout = load_dataset("{where}", "{DEFAULT_CONFIG}", split="heldout_test")',
            'unseen = heldout.filter(lambda row: row["persona_group"] == "unseen")',
        ]
    return "\n".join(lines)


def _split_table(configs: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{config}`",
            f"`{split}`",
            _number(entry["rows"]) if entry["rows"] else "0, not listed",
            SPLIT_MEANINGS[split] if config in PAIR_CONFIGS else "all",
        )
        for config, splits in configs.items()
        for split, entry in splits.items()
    ]
    return _table(("config", "split", "rows", "what"), rows)


def _view_table(configs: Mapping[str, Any], pairs: Sequence[str]) -> str:
    """The two ways to count training rows: without and with the unseen personas' support rows."""
    rows = []
    for config in pairs:
        train, support = (configs[config].get(split, {}).get("rows", 0) for split in ("train", "support"))
        rows.append((f"`{config}`", _number(train), _number(train + support) if support else "no support rows"))
    return _table(("config", '`split="train"` (default)', '`split="train+support"` (the paper\'s view)'), rows)


def _quadrants(splits: Mapping[str, Any]) -> str:
    """Persona group by kind of question; a count that the statistics do not hold is left open."""
    rows = []
    for group in ("seen", "unseen"):
        cells = []
        for split in ("seen_test", "heldout_test"):
            groups = splits.get(split, {}).get("groups")
            cells.append("not counted" if groups is None else _number(groups.get(group, 0)))
        rows.append((f"{group} personas", *cells))
    return _table(("", "`seen_test`", "`heldout_test`"), rows)


def _columns(config: str) -> str:
    return _table(("column", "meaning"), [(f"`{column}`", meaning) for column, meaning in COLUMNS[config].items()])


def _stages(stages: Mapping[str, Any]) -> str:
    rows = []
    for name, counts in stages.items():
        dropped = {reason: number for reason, number in (counts.get("dropped") or {}).items() if number}
        why = ", ".join(f"{reason} {_number(number)}" for reason, number in dropped.items()) or "none"
        rows.append((name, _number(counts.get("in")), _number(counts.get("out")), why))
    return _table(("stage", "in", "out", "dropped"), rows)


def _question_notes(counts: Mapping[str, Any]) -> str:
    """What the prompts stage has to say beyond its counts: the classifier's natural pass rate, pools smaller than asked for."""
    notes = []
    classifier = counts.get("classifier") or {}
    if classifier.get("pass_rate") is not None:
        notes.append(
            f"Of {_number(classifier.get('scored'))} questions that the classifier scored, {100 * classifier['pass_rate']:.1f} % reached "
            f"the threshold of {_number(classifier.get('threshold'))}; where more passed than were wanted, the highest scores were taken."
        )
    if counts.get("note"):
        notes.append(_cell(counts["note"]))
    return " ".join(notes)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _models(models: Mapping[str, Any]) -> str:
    rows = [
        (
            role,
            model.get("model") if model.get("provider") != "none" else None,
            model.get("revision"),
            model.get("provider"),
        )
        for role, model in models.items()
    ]
    return _table(("role", "model", "revision", "through"), [[_cell(value, "none") for value in row] for row in rows])


def _audit(audit: Mapping[str, Any]) -> str:
    rows = []
    for name, check in audit.items():
        low, high, number = check.get("low"), check.get("high"), check.get("n")
        interval = "" if low is None or high is None else f"{_number(low)} to {_number(high)}"
        note = check.get("note") or ""
        # A share of few rows says little; a proof (no interval) holds at any number.
        if low is not None and number is not None and number < FEWEST:
            note = f"{note} Only {number} rows: too few to conclude from.".strip()
        rows.append((name, _number(check.get("value")), interval, _number(number), check.get("verdict") or "", note))
    return _table(("check", "value", "95 % interval", "n", "verdict", "note"), rows)


def _judge_check(check: Mapping[str, Any]) -> str:
    """Per judge how often it prefers an unselected revision to the base answer; the paper reports 96 %."""
    rows = []
    for entry in check.get("judges") or ():
        judge = f"{entry['judge']}{' (also wrote the revisions)' if entry['judge_wrote_it'] else ''}"
        shares = [_share(entry[name], entry[f"{name}_interval"]) for name in ("rate", "rate_ties_half")]
        rows.append((_cell(judge), *shares, *(_number(entry[name]) for name in ("n", "ties", "unscored"))))
    return _table(("judge", "prefers the revision", "ties counted half", "pairs", "ties", "unscored"), rows)


def _flips(flips: Mapping[str, Any]) -> str:
    """Per judge how often its preference turns round with the persona, beside how often it turns the wrong way."""
    rows = []
    for entry in flips.get("judges") or ():
        rate = (
            "withheld: it chose among the revisions"
            if entry["selected_by_this_judge"]
            else _share(entry["rate"], entry["interval"])
        )
        rows.append(
            (
                _cell(entry["judge"]),
                rate,
                *(_number(entry[name]) for name in ("n", "flipped", "reversed")),
                _difference(entry),
                _number(entry["unscored"]),
            )
        )
    heads = ("judge", "flip rate", "candidates", "flipped", "reversed", "flipped less reversed", "unscored")
    return _table(heads, rows)


def _difference(entry: Mapping[str, Any]) -> str:
    """Share flipped less share reversed; zero for a judge at random, whatever it does with ties."""
    if entry.get("judge_selected_the_revisions", entry.get("selected_by_this_judge")):
        return "withheld"
    return _share(entry.get("difference"), entry.get("difference_interval"))


def _flip_details(flips: Mapping[str, Any]) -> str:
    """Per judge that did not choose the revisions: flips and their reverse by topic, and by attribute in which the two personas differ."""
    tables = []
    for judge in flips.get("judges") or ():
        if judge["selected_by_this_judge"]:
            continue
        parts = [(f"topic: {topic}", said) for topic, said in judge["by_topic"].items()]
        for attribute, said in judge["by_attribute"].items():
            parts += [(f"{attribute.replace('_', ' ')} {kind}", part) for kind, part in said.items()]
        rows = [
            (name, *(_number(part[key]) for key in ("n", "flipped", "reversed")), _share(part["rate"], None))
            for name, part in parts
        ]
        if rows:
            heads = ("candidates", "n", "flipped", "reversed", "flip rate")
            tables.append(f"Judge `{_cell(judge['judge'])}`:\n\n{_table(heads, rows)}")
    return "\n\n".join(tables)


def _share(rate: float | None, interval: Sequence[float] | None) -> str:
    if rate is None:
        return "too few"
    return f"{100 * rate:.1f} %" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _flip_rate(flips: Mapping[str, Any]) -> str | None:
    rate, number = flips.get("rate"), flips.get("n")
    if flips.get("judge_selected_the_revisions"):
        return f"withheld: the judge chose among the revisions ({_number(flips.get('flipped'))} of {_number(number)} flipped)."
    if rate is None or not number:
        return None
    few = f" That is fewer than {FEWEST}: too few to conclude from." if number < FEWEST else ""
    judge = f" Judge: `{_cell(flips['judge'])}`." if flips.get("judge") else ""
    turned = ""
    if flips.get("reversed") is not None and flips.get("difference") is not None:
        turned = f" The reverse in {_number(flips['reversed'])}; flipped less reversed {_difference(flips)}."
    return f"{100 * rate:.1f} % of {_number(number)} contrast candidates.{few}{turned}{judge}"


def _personas_line(personas: Mapping[str, Any]) -> str | None:
    if not personas:
        return None
    seen, unseen = personas.get("seen", 0), personas.get("unseen", 0)
    adults = personas.get("adults")
    of_age = "" if adults is None else f", {_number(adults)} of them adults"
    return f"{_number(seen + unseen)} ({_number(seen)} seen, {_number(unseen)} unseen{of_age})"


def _recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's flat keys, without anything that tells where something stands on a machine."""
    shown = {}
    for key, value in _flat(recipe).items():
        if key.rpartition(".")[2] in PLACE_KEYS or value is None:
            continue
        shown[key] = re.split(r"[/\\]", value)[-1] if key in FILE_KEYS and isinstance(value, str) else value
    return shown


# --- building blocks


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table, or nothing without rows."""
    lines = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *lines])


def _pairs_of(heads: tuple[str, str], values: Mapping[str, Any]) -> str:
    return _table(heads, [(f"`{key}`", _number(value)) for key, value in values.items()])


def _cell(value: Any, empty: str = "") -> str:
    """One line of text that cannot end its cell or open a tag."""
    text = empty if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _number(value: Any) -> str:
    """1234567 -> `1,234,567`, 0.123456 -> `0.123`, None -> `not measured`, lists joined, other values as text."""
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1_000 else f"{value:,.0f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_number, value)) or "none"
    return _without_folder(str(value))


def _without_folder(text: str) -> str:
    """An absolute path shrinks to its last part: where a file lay is nobody's business."""
    return re.split(r"[/\\]", text)[-1] if re.match(r"(/|~|[A-Za-z]:[\\/]|file:|\\\\)", text) else text


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _with_rows(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs and splits that have a row."""
    filled = {c: {split: entry for split, entry in splits.items() if entry["rows"]} for c, splits in configs.items()}
    return {config: splits for config, splits in filled.items() if splits}


def _pair_rows(configs: Mapping[str, Any]) -> int:
    return sum(entry["rows"] for config in PAIR_CONFIGS for entry in configs.get(config, {}).values())


def _size(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), "10M<n<100M")
