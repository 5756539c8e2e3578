"""The calibration cards in the report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.calibration.anchors import ANCHORS
from eval.calibration.items import LabelledItem, packaged_items
from eval.calibration.verdicts import CONDITIONS
from eval.drawings import line_figure, points_figure
from eval.page import Cell, Example, Figure, Section, Table
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table
from training.estimates import Estimate

EXAMPLES = 3  # verdicts of each judge on the packaged contrasts
TEXT = (
    "Each judge was asked about persons, questions and two answers of which it is known which one is that person's: under the person's own "
    "profile, under none and under that of somebody else. On the packaged contrasts every question is asked for two opposite persons with "
    "the same answers, so whoever cannot see the person is right in exactly half of them.",
    "Anchors are answers of which it is known how they ought to fare. A judge that prefers one of them to the fitting answer rewards "
    "something else than fit: recital, a truism, the mere subject.",
    "Under demographic lines only the judge is shown age, work, income and the like, and no ideology, religion or habit: what it gets "
    "right there it owes to what is common among such people. Some packaged items are right against that; they stand apart.",
)


def section(results: Sequence[Result], folder: Path) -> Section:
    shown = [result for result in results if not result.content["withheld"]]
    withheld = [
        f"{_name(result)}: no figure is given, {result.content['withheld']}."
        for result in results
        if result.content["withheld"]
    ]
    return Section(
        anchor="calibration",
        title="Calibration of the judges",
        text=[*TEXT, *withheld],
        tables=[_accuracy(shown), _biases(shown), *_anchors(shown)] if shown else [],
        figures=[*_reliability(shown), *_anchor_figures(shown)],
        examples=[example for result in shown for example in _examples(result, folder)],
        scripted=any(is_scripted(result) for result in results),
    )


def _accuracy(results: Sequence[Result]) -> Table:
    keys = (
        *CONDITIONS,
        "counter_true",
        "counter_demographics",
        "profile_overlap",
        "shorter_answer",
        "true_minus_wrong",
    )
    return Table(
        "Accuracy on labelled items",
        (
            "judge",
            "own profile",
            "no profile",
            "another's profile",
            "demographics only",
            "against demographics, own profile",
            "against demographics, demographics only",
            "profile overlap",
            "shorter answer",
            "own - another's",
            "moves with the person",
            "kappa",
            "unscored",
        ),
        [
            [
                _name(result),
                *(as_estimate(result.content["accuracy"][key]) for key in keys),
                _cell(result.content["mirrors"], "moved_to_fit"),
                as_estimate(result.content["kappa"]),
                sum(result.rows["unscored"].values()),
            ]
            for result in results
        ],
        signed=(9,),
        plain=(11,),
    )


def _biases(results: Sequence[Result]) -> Table:
    rows: list[list[Cell]] = []
    for result in results:
        content, ece = result.content, result.content["reliability"]["ece"]
        retest = content["retest"]
        rows.append(
            [
                _name(result),
                _cell(content["position"], "order_consistency"),
                _cell(content["position"], "first_place"),
                _cell(content["length"], "bias"),
                _cell(content["self_preference"], "bias"),
                as_estimate(retest["same"])
                if "same" in retest
                else "1 by construction"
                if retest["by_construction"]
                else "-",
                "-" if ece is None else f"{ece:.3f}",
            ]
        )
    return Table(
        "Consistency and biases (no bias: first place 50 %, length and self-preference 0)",
        (
            "judge",
            "both orders agree",
            "first place taken",
            "for the longer",
            "for its own",
            "same when asked again",
            "calibration error",
        ),
        rows,
        signed=(3, 4),
    )


def _cell(part: Mapping[str, Any], key: str) -> Cell:
    return "-" if "reason" in part else as_estimate(part[key])


def _anchors(results: Sequence[Result]) -> list[Table]:
    tables = []
    for is_critique, caption, first in (
        (False, "How often the fitting answer is preferred to each anchor", ()),
        (True, "How often each answer passes without revision", ("fitting",)),
    ):
        own = [r for r in results if (r.content["kind"] == "critique") == is_critique and r.content["anchors"]]
        names = (*first, *ANCHORS)
        if own:
            kinds = {r.content["kind"]: r.content["anchors_by_construction"] for r in own}
            notes = [
                f"{kind}, {name}: {why}" for kind, reasons in sorted(kinds.items()) for name, why in reasons.items()
            ]
            caption = f"{caption} ({'; '.join(notes)})"
            rows: list[list[Cell]] = [
                [_name(r), *(as_estimate(r.content["anchors"][name]) for name in names)] for r in own
            ]
            tables.append(Table(caption, ("judge", *(name.replace("_", " ") for name in names)), rows))
    return tables


def _reliability(results: Sequence[Result]) -> list[Figure]:
    curves = {
        _name(result): [(b["mean_probability"], b["share_right"]) for b in result.content["reliability"]["bins"]]
        for result in results
        if result.content["reliability"]["bins"]
    }
    if not curves:
        return []
    words = "; ".join(
        f"{name}: " + ", ".join(f"{100 * y:.0f} % right at {x:.2f}" for x, y in points)
        for name, points in curves.items()
    )
    image = line_figure(
        {**curves, "perfectly calibrated": [(0.0, 0.0), (1.0, 1.0)]}, "probability that the judge gives", "share right"
    )
    return [Figure("Reliability of the judges' probabilities", image, words, caption=_scripted(results))]


def _anchor_figures(results: Sequence[Result]) -> list[Figure]:
    figures = []
    for result in results:
        if not result.content["anchors"]:
            continue
        is_critique = result.content["kind"] == "critique"
        points = {name.replace("_", " "): as_estimate(raw) for name, raw in result.content["anchors"].items()}
        axis = "passes, %" if is_critique else "fitting answer preferred, %"
        image = points_figure(points, axis, None if is_critique else 0.5)
        words = ", ".join(f"{name} {_said(estimate)}" for name, estimate in points.items())
        figures.append(Figure(f"Anchors: {_name(result)}", image, f"{axis}: {words}", caption=_scripted([result])))
    return figures


def _examples(result: Result, folder: Path) -> list[Example]:
    """The first few verdicts, where the items are the packaged ones: a file of one's own may hold what is not to be shown."""
    if result.settings["items"] != "packaged contrasts" or result.content["kind"] == "critique":
        return []
    items: dict[str, LabelledItem] = {item.key: item for item in packaged_items()}
    rows = read_table(folder / f"{result.name}-verdicts.parquet")
    own = [row for row in rows if row["part"] == "true" and row["repeat"] == 0 and row["item_id"] in items][:EXAMPLES]
    examples = []
    for row in own:
        item = items[row["item_id"]]
        parts = [
            ("Profile", item.profile),
            ("Question", item.question),
            ("Answer A", item.answers[0]),
            ("Answer B", item.answers[1]),
            ("Right", "AB"[item.expected]),
            ("Verdict", row["verdict"] if row["reason"] is None else f"{row['verdict']}: {row['reason']}"),
        ]
        examples.append(Example(_name(result), parts))
    return examples


def _name(result: Result) -> str:
    (judge,) = result.judges
    model = str(judge["model"]).rsplit("/", 1)[-1]
    name = f"{judge['name']}, {model}" if not judge["scripted"] else f"{judge['name']} (scripted)"
    return name if result.settings["items"] == "packaged contrasts" else f"{name}, {result.settings['items']}"


def _scripted(results: Sequence[Result]) -> str:
    scripted = any(is_scripted(result) for result in results)
    return "Scripted judges: their verdicts follow from a fixed rule and say nothing of a model." if scripted else ""


def _said(estimate: Estimate) -> str:
    if estimate.value is None or math.isnan(estimate.value):
        return str(estimate.withheld)
    return f"{100 * estimate.value:.0f} % (n {estimate.n})"
