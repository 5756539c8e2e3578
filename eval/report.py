"""One self-contained HTML page about a run, and the plain-text table of its results.

Nothing stands in either without its controls: every accuracy under all three persona conditions, with n and interval,
beside the baselines and the untrained model; the flip rate beside its reverse; the judge's preference beside a coin's.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, write_text
from builder.randomness import seed_for
from builder.schema import PAIR_CONFIGS, SPLITS
from builder.statistics import clustered_interval
from eval.figures import bar_figure, line_figure
from eval.metrics import FEW_CLUSTERS
from eval.results import MODEL_KINDS, Result, load_results, read_scores, without_paths
from eval.rows import (
    EVALUATED_SPLITS,
    EvaluatedRow,
    config_names,
    content_hash,
    evaluated_row,
    load_config,
    read_build,
)
from training.estimates import MINIMUM_ROWS, Estimate
from training.metrics import CELLS

TEMPLATE = Path(__file__).with_name("report.html")
CONDITIONS = ("true", "none", "wrong")
TABLES = (
    ("dpf", "all", "Revision against base answer", "dpf"),
    ("contrast", "all", "One persona's revision against another's", "contrast"),
    ("contrast", "flipped", "Contrast pairs on which the judge changes sides with the persona", "contrast, flipped"),
    (
        "contrast",
        "flipped_second",
        "Contrast pairs on which a second judge changes sides with the persona",
        "contrast, flipped by the second judge",
    ),
)
CHECK: dict[str, Any] = dict.fromkeys(("name", "value", "low", "high", "n", "verdict", "note"))  # of audit.json
KIND_NAMES = {
    "reward": "reward model",
    "dpo": "DPO model",
    "low_rank": "low-rank head",
    "vpl": "VPL model",
    "p_dpo": "P-DPO model",
    "per_persona": "adapter a persona",
    "base": "untrained",
    "baseline": "baseline",
}
TRAINED_SPLITS = ("train", "validation", "seen_test", "heldout_test")  # in training.json
EXAMPLES = 6  # of `dpf`; and half as many of `contrast`
TOPICS_SHOWN = 20
PERSONA_FIGURES = ("age", "sex", "race", "education", "employment_status", "political_views")
VALUES_SHOWN = 8  # bars per attribute; the rest is summed up
AGE_BANDS = {"under 18": 18, "18–29": 30, "30–44": 45, "45–59": 60, "60–74": 75, "75 and over": 1000}  # name -> end
UNDECIDED_LOSS = math.log(2)  # of a model that prefers neither text, for both losses


def write_report(run_folder: Path, published: Path, results: Path, output: Path) -> Path:
    """Write the page to `output` and return that path.

    `run_folder` holds build.json and, where the audit ran, audit.json (`published` is searched after it); `results` is
    the folder that `evaluate_models` wrote. Raises InputError where build.json or the results are missing, or the
    results belong to another dataset.
    """
    build = read_build(run_folder, published)
    if build is None:
        raise InputError(
            f"Neither {run_folder} nor {published} holds build.json, so nothing can be said about how the data came about. "
            "Give the folder that `persona build` wrote."
        )
    loaded = load_results(results)
    expected, found = content_hash(published), loaded[0].dataset["content_sha256"]
    if found != expected:
        raise InputError(
            f"The results in {results} were computed on another dataset ({found[:12]}) than {published} ({expected[:12]}). "
            "Evaluate this dataset, or report on the other."
        )
    audit = next((read_json(f / "audit.json") for f in (run_folder, published) if (f / "audit.json").is_file()), None)
    tables = load_tables(published)
    page = render(
        {
            "build": without_paths(build),
            "identity": loaded[0].dataset,
            "judge": loaded[0].judge,
            "sizes": split_sizes(tables),
            "personas": len(tables["personas"]["all"]) if "personas" in tables else 0,
            "prompts": len(tables["prompts"]["all"]) if "prompts" in tables else 0,
            "stages": stage_rows(build),
            "result_tables": [table for entry in TABLES if (table := result_section(loaded, *entry[:3])) is not None],
            "left_out": left_out(loaded),
            "flip": flip_figures(build, tables),
            "preferred": preferred_figures(build),
            "checks": [audit_check(check) for check in (audit or {}).get("checks", [])],
            "self_judged": judges_own_texts(build),
            "figures": data_figures(tables),
            "examples": examples(tables, loaded, results),
            "trainings": [training_summary(result) for result in loaded if result.kind in MODEL_KINDS],
            "provenance": provenance(build, loaded),
            "minimum_rows": MINIMUM_ROWS,
            "few_clusters": FEW_CLUSTERS,
        }
    )
    write_text(output, page)
    return output


def result_table(results: Path) -> str:
    """The results of a folder as plain text, at most 110 columns: accuracy in % with its 95 % interval under the three
    conditions.
    """
    loaded = load_results(results)
    lines: list[str] = []
    for config, subset, title, short in TABLES:
        body = []
        for result in loaded:
            measured = {c: result.measurement(config, subset, "all", c) for c in CONDITIONS}
            gap = result.gap(config, subset, "all", "wrong")
            if gap is None or measured["true"] is None:
                continue
            cells = [plain_estimate(m.accuracy) if m else "not scored" for m in measured.values()]
            n = measured["true"].accuracy.n
            body.append((_cut(result.name, 30), str(n), *cells, plain_estimate(gap.difference, signed=True)))
        if body:
            heads = ("", "n", "true persona", "no persona", "wrong persona", "true - wrong")
            lines += [f"{short}: {title[0].lower()}{title[1:]}", _text_row(heads), *map(_text_row, body), ""]
    lines.append(
        "Accuracy in % [95 % interval, personas resampled]; ties count half. true - wrong in percentage points."
    )
    lines.append("A scorer that ignores the persona has true - wrong = 0, and on contrast 50.0 without a persona.")
    return "\n".join(lines)


def plain_estimate(estimate: Estimate, signed: bool = False) -> str:
    if estimate.value is None:
        return str(estimate.withheld)
    sign = "+" if signed else ""
    value = "0.0" if round(estimate.value, 3) == 0 else f"{100 * estimate.value:{sign}.1f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{100 * estimate.low:{sign}.0f} {100 * estimate.high:{sign}.0f}]"


def render(context: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    # Everything that is filled in is data, personas and answers written by a model among it: all of it is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "number": number, "strip": strip_places, "words": words}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(context)


def percent(share: float | None, digits: int = 1, signed: bool = False) -> str:
    """0.712 -> `71.2`, with a true minus sign."""
    if share is None:
        return "–"
    text = f"{100 * share:{'+' if signed else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def number(value: Any) -> str:
    """A figure as a reader wants it: thousands apart, at most four significant digits behind the point."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return (f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}").replace("-", "−")
    return str(value)


def words(name: str) -> str:
    """`employment_status` -> `employment status`."""
    return str(name).replace("_", " ")


def strip_places(estimate: Estimate, signed: bool = False) -> dict[str, float]:
    """Where value and interval stand on a strip of width 100; a difference has its zero in the middle."""

    def place(value: float) -> float:
        return round(50 + 50 * value if signed else 100 * value, 1)

    assert estimate.value is not None
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return {"value": place(estimate.value), "low": place(low), "width": round(place(high) - place(low), 1)}


def load_tables(published: Path) -> dict[str, dict[str, Any]]:
    """Config -> split -> datasets.Dataset, for every config of the folder; `personas` and `prompts` as the one split
    `all`.
    """
    from datasets import concatenate_datasets

    tables: dict[str, dict[str, Any]] = {}
    for config in config_names(published):
        if config in PAIR_CONFIGS:
            tables[config] = load_config(published, config)
        elif config in ("personas", "prompts"):
            tables[config] = {"all": concatenate_datasets(list(load_config(published, config).values()))}
    return tables


def split_sizes(tables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"config": config, **{split: len(tables[config].get(split, ())) for split in SPLITS}}
        for config in PAIR_CONFIGS
        if config in tables
    ]


def stage_rows(build: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per stage of the build: what went in, what came out, what was dropped and why, and its other plain
    figures.
    """
    shown = []
    for name, stage in (build.get("stages") or {}).items():
        known = ("in", "out", "dropped", "seconds")
        details = {
            key: value for key, value in stage.items() if key not in known and isinstance(value, (int, float, str))
        }
        dropped = {reason: count for reason, count in (stage.get("dropped") or {}).items() if count}
        shown.append(
            {
                "name": name,
                **{key: stage.get(key) for key in ("in", "out", "seconds")},
                "dropped": dropped,
                "details": details,
            }
        )
    return shown


def result_section(results: Sequence[Result], config: str, subset: str, title: str) -> dict[str, Any] | None:
    """The main table of one (config, subset) and its four cells; None where nothing of it was evaluated."""
    lines, cell_lines = [], []
    for result in results:
        measured = {c: result.measurement(config, subset, "all", c) for c in CONDITIONS}
        gaps = {against: result.gap(config, subset, "all", against) for against in ("wrong", "none")}
        if any(part is None for part in (*measured.values(), *gaps.values())):
            continue
        lines.append({"result": result, "measured": measured, "gaps": gaps})
        cell_lines.append(
            {
                "result": result,
                "cells": [
                    {
                        "measured": [result.measurement(config, subset, cell, c) for c in CONDITIONS],
                        "gap": result.gap(config, subset, cell, "wrong"),
                    }
                    for cell in CELLS[1:]
                ],
            }
        )
    if not lines:
        return None
    return {
        "config": config,
        "subset": subset,
        "title": title,
        "lines": lines,
        "cells": CELLS[1:],
        "cell_lines": cell_lines,
    }


def left_out(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Rows that did not count, by result, config and condition: unscored with reason, or scored without a scored
    mirror.
    """
    entries = []
    for result in results:
        for measured in result.measurements:
            if measured.subset == "all" and measured.cell == "all" and (measured.unscored or measured.mirrors_dropped):
                entries.append({"result": result.name, "measured": measured})
    return entries


def flip_figures(build: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """How often the judge changes sides with the persona, in the right and in the reverse direction.

    `right`: each persona's own revision wins under that persona. `reverse`: each persona prefers the other's. A judge
    that ignores the persona does neither; one that answers at random does both equally often. Counted over unordered
    pairs of mirrors, all splits. `difference`: share right less share reverse, with its 95 % interval over personas; None
    for a judge that chose among the revisions, which gets counts only.
    """
    names = ("pair_id", "mirror_pair_id", "judge_verdict", "persona_id", "partner_persona_id")
    rows = [row for table in tables.get("contrast", {}).values() for row in _columns(table, names)]
    verdicts = {row["pair_id"]: row["judge_verdict"] for row in rows}
    counts = {"right": 0, "reverse": 0, "neither": 0}
    turns: list[float] = []
    clusters: list[tuple[str, ...]] = []
    for row in rows:
        both = {row["judge_verdict"], verdicts.get(row["mirror_pair_id"], "unscored")}
        if row["pair_id"] < row["mirror_pair_id"] and "unscored" not in both:
            turn = "right" if both == {"chosen"} else "reverse" if both == {"rejected"} else "neither"
            counts[turn] += 1
            turns.append({"right": 1.0, "reverse": -1.0, "neither": 0.0}[turn])
            clusters.append(tuple(sorted((row["persona_id"], row["partner_persona_id"]))))
    if not rows:
        return None
    declared = build.get("flip") or _detail(build, "contrast", "flip")
    selected = declared.get("judge_selected_the_revisions")
    difference = None
    if turns and not selected:
        low, high = clustered_interval(turns, clusters, 0, "report/flips")
        difference = {"value": sum(turns) / len(turns), "low": low, "high": high}
    return {"n": len(turns), "counts": counts, "self_selected": selected, "difference": difference}


def audit_check(check: Mapping[str, Any]) -> dict[str, Any]:
    """One check of audit.json with all keys; a share (it is `report`ed, not proved) of too few pairs is withheld."""
    whole = {**CHECK, **check}
    few = whole["verdict"] == "report" and whole["n"] is not None and whole["n"] < MINIMUM_ROWS
    return whole | {"withheld": f"n < {MINIMUM_ROWS}" if few else None}


def preferred_figures(build: Mapping[str, Any]) -> dict[str, Any]:
    """How often the judge prefers the revision to the base answer, as the build counted it; n = 0 where it did not. A judge
    that chose among the revisions (`self_selected`) gets counts only.
    """
    declared = build.get("preferred") or _detail(build, "pairs", "judge_prefers_revision")
    return {
        "n": declared.get("n", 0),
        "preferred": declared.get("preferred", 0),
        "ties": declared.get("ties", 0),
        "self_selected": declared.get("judge_selected_the_revision"),
    }


def judges_own_texts(build: Mapping[str, Any]) -> bool:
    """Whether the judge is the model that also wrote the revisions, so that its preference is no outside opinion."""
    models = build.get("models") or {}
    judge, author = ((models.get(role) or {}).get("model") for role in ("judge", "reviser"))
    return judge is not None and judge == author


def data_figures(tables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Topics by prompt pool, and what the personas are like by group: the other pool or group is the control."""
    figures = []
    if "prompts" in tables:
        prompts = _columns(tables["prompts"]["all"], ("topic", "pool"))
        counts = _two_counts(((row["topic"], row["pool"] == "heldout") for row in prompts), TOPICS_SHOWN)
        figures.append(
            {
                "title": "Topics",
                "image": bar_figure(counts, ("train pool", "held-out pool"), "prompts"),
                "text": "Prompts per topic: " + _counts_in_words(counts, "train pool", "held-out pool"),
            }
        )
    if "personas" in tables:
        personas = _columns(tables["personas"]["all"], ("group", *PERSONA_FIGURES))
        for attribute in PERSONA_FIGURES:
            values = ((_value_label(attribute, row[attribute]), row["group"] == "unseen") for row in personas)
            order = AGE_BANDS if attribute == "age" else None
            shares = _as_shares(_two_counts(values, VALUES_SHOWN, order))
            figures.append(
                {
                    "title": words(attribute).capitalize(),
                    "image": bar_figure(shares, ("seen personas", "unseen personas"), "% of the group"),
                    "text": f"{words(attribute)}, % of the group: " + _counts_in_words(shares, "seen", "unseen"),
                }
            )
    return figures


def examples(tables: Mapping[str, Mapping[str, Any]], results: Sequence[Result], folder: Path) -> list[dict[str, Any]]:
    """Pairs to read, drawn by a hash of their id from the evaluated rows, of different personas and topics as far as
    they go.

    A contrast example is shown with its mirror's judge score. Each carries what every model preferred under each
    condition.
    """
    profiles = {}
    if "personas" in tables:
        profiles = dict(zip(tables["personas"]["all"]["persona_id"], tables["personas"]["all"]["profile"], strict=True))
    drawn = [
        row
        for config, count in (("dpf", EXAMPLES), ("contrast", EXAMPLES // 2))
        for row in _draw(_test_rows(tables, config), count)
    ]
    verdicts: dict[str, dict[str, dict[str, str]]] = {row.pair_id: {} for row in drawn}
    for result in results:
        for line in read_scores(folder, result, list(verdicts)):
            verdicts[line["pair_id"]].setdefault(result.name, {})[line["condition"]] = line["verdict"]
    # A row limit leaves examples without verdicts; they still show the data.
    return [
        {
            "row": row,
            "profile": profiles.get(row.persona_id) or row.published["prompt"][0]["content"],
            "partner_profile": profiles.get(row.published.get("partner_persona_id") or ""),
            "verdicts": verdicts[row.pair_id],
        }
        for row in drawn
    ]


def training_summary(result: Result) -> dict[str, Any]:
    """What a reader wants of a model's training.json: plain facts, rows and accuracy per split, the losses drawn."""
    record = result.training or {}
    run, data, metrics = record.get("run") or {}, record.get("data") or {}, record.get("metrics") or {}
    base = record.get("base_model") or {}
    facts = {
        "kind": KIND_NAMES[result.kind],
        "persona shown in training": {
            "full": "yes",
            "none": "no (persona-blind)",
            "shuffled": "another persona's profile",
        }.get(record.get("persona", ""), record.get("persona")),
        "base model": base.get("model_id"),
        "base revision": base.get("revision"),
        "base content hash": (base.get("content_hash") or "")[:16] or None,
        "prompt template hash": (record.get("template_hash") or "")[:16] or None,
        "chat template hash": (record.get("chat_template_hash") or "")[:16] or None,
        "pair kinds": ", ".join(data.get("configs") or ()) or None,
        "adapter": record.get("adapter"),
        "beta": record.get("beta"),
        "trained parameters": run.get("trainable_parameters"),
        "all parameters": run.get("parameters"),
        "steps": run.get("steps"),
        "seconds": run.get("seconds"),
        "mean training loss": run.get("train_loss"),
    }
    splits = []
    reports = data.get("splits") or {}
    for split, report in sorted(reports.items(), key=lambda item: TRAINED_SPLITS.index(item[0])):
        measured = {key: metrics.get(f"{split}/{key}") for key in ("rows", "accuracy", "mean_margin")}
        splits.append({"name": split, "report": report, "measured": measured})
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in run.get("history") or ():
        for key, name in (("loss", "train"), ("seen_test/loss", "seen_test"), ("heldout_test/loss", "heldout_test")):
            if isinstance(entry.get(key), (int, float)):
                curves.setdefault(name, []).append((entry.get("step", 0), entry[key]))
    return {
        "name": result.name,
        "facts": {key: value for key, value in facts.items() if value is not None},
        "splits": splits,
        "figure": line_figure(curves, "training step", "loss", UNDECIDED_LOSS) if curves else None,
        "losses": "; ".join(
            f"{name}: from {points[0][1]:.3f} to {points[-1][1]:.3f}" for name, points in curves.items()
        ),
    }


def provenance(build: Mapping[str, Any], results: Sequence[Result]) -> list[dict[str, Any]]:
    """Titled lists of facts: dataset, models of the build, templates, usage, evaluation, package versions."""
    first = results[0]
    dataset = {
        "name": first.dataset["name"],
        "version": first.dataset["version"],
        "content SHA-256": first.dataset["content_sha256"],
        "recipe fingerprint": build.get("fingerprint"),
        "code version": build.get("code_version"),
        "seed": (build.get("recipe") or {}).get("seed"),
        "judge": first.judge["label"],
        "judge kind": first.judge["kind"],
    }
    models = {
        role: " ".join(
            str(part) for part in (facts.get("model"), facts.get("revision"), f"({facts.get('provider')})") if part
        )
        for role, facts in (build.get("models") or {}).items()
    }
    evaluation: dict[str, Any] = {
        "rows": ", ".join(f"{split} {n}" for split, n in first.dataset["rows"].items()),
        "row limit": first.limit,
        "seed": first.seed,
        "command": first.command,
    }
    parts = [
        ("Dataset", dataset),
        ("Models that built it", models),
        ("Prompt templates", dict(build.get("templates") or {})),
        ("Model calls", {key: n for key, n in (build.get("usage") or {}).items() if not isinstance(n, dict)}),
        ("Evaluation", evaluation),
        ("Versions", first.versions),
    ]
    return [
        {"title": title, "facts": {key: value for key, value in facts.items() if value is not None}}
        for title, facts in parts
        if any(value is not None for value in facts.values())
    ]


def _detail(build: Mapping[str, Any], stage: str, name: str) -> dict[str, Any]:
    return ((build.get("stages") or {}).get(stage) or {}).get(name) or {}


def _test_rows(tables: Mapping[str, Mapping[str, Any]], config: str) -> list[EvaluatedRow]:
    parts = tables.get(config, {})
    return [evaluated_row(config, split, row) for split in EVALUATED_SPLITS if split in parts for row in parts[split]]


def _draw(rows: Sequence[EvaluatedRow], count: int) -> list[EvaluatedRow]:
    """At most `count` rows in the order of a hash, new personas and topics first; of two mirrors only one."""
    waiting = sorted(rows, key=lambda row: seed_for(0, "report/examples", row.pair_id))
    drawn: list[EvaluatedRow] = []
    while waiting and len(drawn) < count:
        personas = {row.persona_id for row in drawn}
        topics = {row.published["topic"] for row in drawn}
        best = min(waiting, key=lambda row: (row.persona_id in personas) + (row.published["topic"] in topics))
        drawn.append(best)
        waiting = [row for row in waiting if row.pair_id not in (best.pair_id, best.mirror_pair_id)]
    return drawn


def _columns(table: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    return table.select_columns(list(names)).to_list()


def _value_label(attribute: str, value: Any) -> str:
    if value is None:
        return "not given"
    if attribute == "age":
        return next(name for name, end in AGE_BANDS.items() if value < end)
    return str(value)


def _two_counts(
    pairs: Iterable[tuple[str | None, bool]], shown: int, order: Iterable[str] | None = None
) -> dict[str, tuple[int, int]]:
    """Label -> (count of False, count of True): most frequent first, or in the given order; the rare summed up."""
    counts: dict[str, list[int]] = {}
    for label, second in pairs:
        counts.setdefault(label or "not given", [0, 0])[second] += 1
    labels = [name for name in order if name in counts] if order else sorted(counts, key=lambda n: (-sum(counts[n]), n))
    labels += [name for name in counts if name not in labels]
    kept, rest = labels[:shown], labels[shown:]
    result = {name: (counts[name][0], counts[name][1]) for name in kept}
    if rest:
        result[f"{len(rest)} others"] = (sum(counts[n][0] for n in rest), sum(counts[n][1] for n in rest))
    return result


def _as_shares(counts: Mapping[str, tuple[int, int]]) -> dict[str, tuple[float, float]]:
    """In % of each series."""
    totals = [max(1, sum(pair[series] for pair in counts.values())) for series in (0, 1)]
    return {name: (100 * pair[0] / totals[0], 100 * pair[1] / totals[1]) for name, pair in counts.items()}


def _counts_in_words(counts: Mapping[str, tuple[float, float]], first: str, second: str) -> str:
    return "; ".join(f"{name}: {first} {pair[0]:.0f}, {second} {pair[1]:.0f}" for name, pair in counts.items())


def _cut(text: str, length: int) -> str:
    """Cut in the middle: names of results differ at either end."""
    kept = length - 1
    return text if len(text) <= length else f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def _text_row(cells: Sequence[str]) -> str:
    return "  ".join((f"{cells[0]:<30}", f"{cells[1]:>5}", *(f"{cell:<15}" for cell in cells[2:]))).rstrip()
