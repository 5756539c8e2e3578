"""What is known of each judge, beside every row that it judged: its model's other parts in the work, and its calibration card."""

from collections.abc import Sequence
from typing import Any

from eval.page import Cell, Section, Table
from eval.report.render import percent
from eval.results import Result, as_estimate
from training.estimates import Estimate

NOT_CALIBRATED = "not calibrated: persona eval calibrate"
Known = Estimate | str  # what a calibration card says, or why it does not
TEXT = (
    "A figure that rests on a judge is worth what the judge is worth. Accuracy: on contrasts with a known answer, under the persona's own "
    "profile. Order consistency: how often the verdict is the same after the two answers changed places. What the judge's model did "
    "besides makes its verdict an opinion on its own work."
)


def judges_section(results: Sequence[Result]) -> Section | None:
    """Every judge of the results, beside its calibration. None where no judge was asked."""
    cards = calibration_cards(results)
    judges = _judges(results)
    if not judges:
        return None
    rows: list[list[Cell]] = []
    for label, facts in judges.items():
        accuracy, consistency = cards.get(label, (NOT_CALIBRATED, NOT_CALIBRATED))
        also = ", ".join(facts["also"]) or "nothing"
        kind = " ".join(part for part in (facts["kind"], (facts.get("parser") or "").replace("_", " ")) if part)
        model = "scripted" if facts["scripted"] else facts["model"]
        rows.append([facts["name"], _version(label), kind, model, also, accuracy, consistency])
    header = ("judge", "version", "kind", "model", "its model also", "accuracy", "order consistency")
    scripted = any(facts["scripted"] for facts in judges.values())
    return Section("judges", "Judges", [TEXT], [Table("Judges of these results.", header, rows)], scripted=scripted)


def judges_in_words(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """Label -> name, model, and the words that stand beside a row that this judge judged."""
    cards = calibration_cards(results)
    said = {}
    for label, facts in _judges(results).items():
        words = []
        # What it did stands in the section of the judges; beside each of its rows a few words must do.
        words += ["judges its own work"] if facts["also"] else []
        _, consistency = cards.get(label, ("", NOT_CALIBRATED))
        words.append(consistency if consistency == NOT_CALIBRATED else f"orders agree: {_in_words(consistency)}")
        said[label] = {
            "name": str(facts["name"]),
            "model": "scripted" if facts["scripted"] else str(facts["model"]).rsplit("/", 1)[-1],
            "words": "; ".join(words),
        }
    return said


def calibration_cards(results: Sequence[Result]) -> dict[str, tuple[Known, Known]]:
    """Judge label -> accuracy and order consistency on its calibration card; the packaged contrasts' before those of any other file."""
    cards: dict[str, tuple[Known, Known]] = {}
    own = [result for result in results if result.evaluation == "calibration"]
    for result in sorted(own, key=lambda result: (result.settings.get("items") != "packaged contrasts", result.name)):
        content, label = result.content, result.judges[0]["label"]
        if content["withheld"]:
            withheld = f"withheld: {content['withheld']}"
            cards.setdefault(label, (withheld, withheld))
            continue
        position = content["position"]
        consistency = position["reason"] if "reason" in position else as_estimate(position["order_consistency"])
        cards.setdefault(label, (as_estimate(content["accuracy"]["true"]), consistency))
    return cards


def _judges(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Label -> facts, with `also` of all results together."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        for facts in result.judges:
            entry = found.setdefault(facts["label"], {"scripted": False, **facts, "also": []})
            entry["also"] += [part for part in facts.get("also") or () if part not in entry["also"]]
    return dict(sorted(found.items()))


def _version(label: str) -> str | None:
    """`likelihood@0123:model` -> `0123`."""
    return label.partition("@")[2].partition(":")[0] or None


def _in_words(known: Known) -> str:
    if isinstance(known, str):
        return known if known.startswith("withheld") else "does not apply"
    return f"withheld ({known.withheld})" if known.value is None else f"{percent(known.value)} % (n = {known.n})"
