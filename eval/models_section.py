"""The part of the report about `persona eval models`: every figure beside its controls, the specificity gap first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.drawings import points_figure
from eval.metrics import FEW_CLUSTERS
from eval.models_table import TABLES, plain_estimate
from eval.page import CONDITION_WORDS, Cell, Figure, Section, Table
from eval.pair_results import KIND_NAMES, MODEL_KINDS, gap, in_order, kind, label, measurement, measurements
from eval.printing import percent
from eval.results import Result, as_estimate, is_scripted
from eval.seed_spread import seed_groups, spread_over_seeds
from eval.significance import compare_scorers
from training.conditioning import CONDITIONS
from training.estimates import MINIMUM_ROWS, Estimate
from training.fairness import PERSONA_ROWS
from training.metrics import CELLS

CONFIGS = ("dpf", "contrast")


def section(results: Sequence[Result], folder: Path) -> Section:
    """Raises InputError where a file of scores is damaged."""
    ordered = in_order(results)
    tables = [
        *(table for entry in TABLES for table in _of_subset(ordered, *entry[:3])),
        *_significance(folder, ordered),
        *_fairness(ordered),
        _disagreement(ordered),
        _seeds(ordered),
        _left_out(ordered),
    ]
    return Section(
        "models",
        "Models on the test pairs",
        _words(ordered),
        [table for table in tables if table is not None and table.rows],
        _figures(ordered),
        scripted=any(is_scripted(result) for result in ordered),
    )


def _words(results: Sequence[Result]) -> list[str]:
    judges = sorted({judge["label"] for result in results for judge in result.judges})
    few = any(
        m.cell == "all" and 0 < min(m.accuracy.clusters, m.prompts) < FEW_CLUSTERS
        for result in results
        for m in measurements(result)
    )
    said = [
        "Does a scorer prefer the chosen text? Each row is scored with its own persona, with none and with a wrong one. The specificity "
        "gap is accuracy(true) - accuracy(wrong): a scorer that never looks at the persona has 0, and on contrast pairs exactly 50 %. "
        "Accuracy alone says little: the chosen text is a revision, which can be told from the other text without the persona.",
        "Intervals: 95 %, personas (on contrast pairs both of a pair) and prompts resampled together. Ties count half. Shares of fewer "
        f"than {MINIMUM_ROWS} rows are withheld.",
        "Kappa: Cohen's, between the side that the scorer prefers and the one that the judge prefers; on contrast pairs the sides are the "
        "two personas' texts. Ties and rows without a verdict are left out.",
    ]
    if judges:
        said.append(f"The labels and verdicts are those of {', '.join(judges)}.")
    if few:
        said.append(
            f"There are fewer than {FEW_CLUSTERS} personas or prompts in places: intervals from so few are known to be too narrow."
        )
    return said


def _of_subset(results: Sequence[Result], config: str, subset: str, title: str) -> list[Table]:
    rows: list[list[Cell]] = []
    cells: list[list[Cell]] = []
    for result in _best_first(results, config, subset):
        measured = {c: measurement(result, config, subset, "all", c) for c in CONDITIONS}
        wrong, none = (gap(result, config, subset, "all", against) for against in ("wrong", "none"))
        true = measured["true"]
        if true is None or wrong is None or none is None:
            continue
        rows.append(
            [
                label(result),
                KIND_NAMES[kind(result)],
                wrong.difference,
                none.difference,
                *(m.accuracy if m else None for m in measured.values()),
                true.judge_agreement,
                true.kappa,
                true.ties,
            ]
        )
        for cell in CELLS[1:]:
            parts = [measurement(result, config, subset, cell, c) for c in CONDITIONS]
            found = gap(result, config, subset, cell, "wrong")
            if found is not None:
                cells.append([label(result), cell, found.difference, *(m.accuracy if m else None for m in parts)])
    accuracy = tuple(f"accuracy, {words}" for words in CONDITION_WORDS.values())
    return [
        Table(
            f"{title} ({config}{'' if subset == 'all' else ', ' + subset.replace('_', ' ')}).",
            ("scorer", "kind", "true - wrong", "true - none", *accuracy, "agrees with the judge", "kappa", "ties"),
            rows,
            signed=(2, 3),
            plain=(8,),
        ),
        Table(
            f"{title}: seen and unseen personas, prompts of the train pool (seen_test) and held out.",
            ("scorer", "cell", "true - wrong", *accuracy),
            cells,
            signed=(2,),
            folded=True,
        ),
    ]


def _best_first(results: Sequence[Result], config: str, subset: str) -> list[Result]:
    """Models by their gap, then what has learned nothing, in the usual order."""

    def rank(result: Result) -> tuple[bool, float]:
        found = gap(result, config, subset, "all", "wrong")
        value = found.difference.value if found else None
        return kind(result) not in MODEL_KINDS, -value if value is not None and kind(result) in MODEL_KINDS else 1.0

    return sorted(results, key=rank)


def _significance(folder: Path, results: Sequence[Result]) -> list[Table]:
    rows: list[list[Cell]] = []
    for found in compare_scorers(folder, results):
        what = "true - wrong" if found.measure == "gap" else "accuracy, true persona"
        role = "best control" if found.against == "control" else "best model"
        rows.append(
            [
                found.first,
                f"{found.second} ({role})",
                found.config,
                what,
                found.difference,
                _p(found.p_value),
                _p(found.holm),
            ]
        )
    return [
        Table(
            "Is the difference to the best control, and to the best model, more than chance? The same rows; p is the largest of "
            "exchanging the two scorers by persona, by question, and of a t-test that lets rows of both depend, corrected "
            "after Holm over all comparisons of the same pairs and measure.",
            ("scorer", "compared with", "pairs", "measure", "difference", "p", "p, Holm"),
            rows,
            signed=(4,),
        )
    ]


def _fairness(results: Sequence[Result]) -> list[Table]:
    tables = []
    for config in CONFIGS:
        rows: list[list[Cell]] = []
        for result in results:
            for spread in (s for s in result.content["spread"] if s["config"] == config):
                largest = spread["largest_gap"]
                rows.append(
                    [
                        label(result),
                        CONDITION_WORDS[spread["condition"]],
                        spread["personas"],
                        percent(spread["worst_persona"]),
                        percent(spread["tenth_percentile"]),
                        None if spread["gini"] is None else f"{spread['gini']:.3f}",
                        _group(spread["worst_group"]),
                        _group(spread["worst_intersection"]),
                        None if largest is None else _largest(largest),
                    ]
                )
        tables.append(
            Table(
                f"Who is served worst ({config}). Personas with at least {PERSONA_ROWS} rows, groups with at least {MINIMUM_ROWS}. Of many "
                "groups one is worst by chance: beside the largest gap within an attribute stands the median of the same figure with the "
                "personas dealt out at random among the groups, and the share of such deals with one as large (p). What a group loses by "
                "the persona's treatment is what it loses more than without a persona.",
                (
                    *("scorer", "shown", "personas", "worst persona", "10th percentile", "Gini"),
                    *("worst group", "worst of two attributes", "largest gap"),
                ),
                rows,
                folded=True,
            )
        )
    return tables


def _disagreement(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        for config in CONFIGS:
            own = {d["condition"]: d for d in result.content["disagreement"] if d["config"] == config}
            if any(d["accuracy"]["n"] for d in own.values()):
                rows.append([label(result), config, *(_estimate(own, condition) for condition in CONDITIONS)])
    return Table(
        "Agreement with the judge, weighted by disagreement among personas: a row weighs as much as the share of other personas for whom "
        "the judge prefers the other side of the same comparison (dpf: revision or base answer of the prompt; contrast: the same two "
        "texts). A scorer that knows only what most personas like is at 50 % on contrast, and below on dpf.",
        ("scorer", "pairs", *CONDITION_WORDS.values()),
        rows,
    )


def _seeds(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for group in seed_groups(results):
        for config in CONFIGS:
            spreads = [
                spread_over_seeds(group, config),
                *(spread_over_seeds(group, config, "all", c) for c in CONDITIONS),
            ]
            if spreads[0] is not None:
                said = [
                    None if s is None else f"{100 * s.mean:.1f} ({100 * s.low:.1f} to {100 * s.high:.1f})"
                    for s in spreads
                ]
                rows.append([", ".join(label(result) for result in group), config, len(group), *said])
    return Table(
        "Trainings that differ in seed alone: mean, and lowest to highest of the seeds, in %. An interval over rows does not hold this.",
        ("models", "pairs", "seeds", "true - wrong", *CONDITION_WORDS.values()),
        rows,
    )


def _left_out(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        for m in measurements(result):
            if (m.subset, m.cell) == ("all", "all") and (m.unscored or m.mirrors_dropped):
                reasons = [f"{reason}: {count}" for reason, count in m.unscored.items()]
                reasons += [f"mirror unscored or absent: {m.mirrors_dropped}"] if m.mirrors_dropped else []
                rows.append(
                    [label(result), m.config, CONDITION_WORDS[m.condition], m.rows, m.accuracy.n, "; ".join(reasons)]
                )
    return Table(
        "Rows that count nowhere: neither wrong nor half right.",
        ("scorer", "pairs", "shown", "rows", "counted", "left out"),
        rows,
        folded=True,
    )


def _figures(results: Sequence[Result]) -> list[Figure]:
    figures = []
    for config in CONFIGS:
        gaps: dict[str, Estimate] = {}
        for result in _best_first(results, config, "all"):
            found = gap(result, config, "all", "all", "wrong")
            if found is not None:
                gaps[label(result)] = found.difference
        if gaps:
            words = "; ".join(f"{name}: {plain_estimate(value, signed=True)}" for name, value in gaps.items())
            figures.append(
                Figure(
                    f"Specificity gap on {config}",
                    points_figure(gaps, "true - wrong, in points", 0.0),
                    f"Accuracy with the true persona less that with a wrong one, in points with 95 % interval. {words}.",
                )
            )
    return figures


def _estimate(by_condition: dict[str, Any], condition: str) -> Estimate | None:
    return as_estimate(by_condition[condition]["accuracy"]) if condition in by_condition else None


def _group(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    return f"{_plain(found['attribute'])}: {found['value']}, {percent(found['accuracy'])} (n {found['rows']})"


def _largest(found: dict[str, Any]) -> str:
    best, worst = found["best"], found["worst"]
    return (
        f"{_plain(found['attribute'])}: {best['value']} {percent(best['accuracy'])}, {worst['value']} {percent(worst['accuracy'])}; "
        f"by chance {100 * found['by_chance']:.1f} points, p {found['p_value']:.3f}"
    )


def _p(value: float | None) -> str | None:
    return None if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plain(name: str) -> str:
    return name.replace("_", " ")
