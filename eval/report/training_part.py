"""How the evaluated models were trained: plain facts, rows and accuracy by split, and the losses drawn."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.drawings import line_figure
from eval.page import Cell, Figure, Section, Table
from eval.pair_results import KIND_NAMES
from eval.report.published import reasons_in_words
from eval.report.render import percent
from eval.results import Result
from training.estimates import MINIMUM_ROWS

SHOWN_PERSONA = {"full": "yes", "none": "no (persona-blind)", "shuffled": "another persona's profile"}
TRAINED_SPLITS = ("train", "validation", "seen_test", "heldout_test")  # in training.json
UNDECIDED_LOSS = math.log(2)  # of a model that prefers neither text, for DPO and for reward models


def training_section(results: Sequence[Result]) -> Section | None:
    """None where no trained model is among the subjects."""
    records = {
        result.subject.get("name", result.name): result.subject["training"]
        for result in results
        if result.subject and (result.subject.get("training") or {}).get("kind") in KIND_NAMES
    }
    if not records:
        return None
    names = sorted(records)
    facts = {name: training_facts(records[name]) for name in names}
    labels = list(dict.fromkeys(label for name in names for label in facts[name]))
    tables = [
        Table(
            "What was trained, and on what.",
            ("", *names),
            [(label, *(facts[n].get(label) for n in names)) for label in labels],
        )
    ]
    tables += [
        Table(
            f"{name}: rows by split, and the accuracy of the saved model under the condition that it was trained on. The controls stand "
            "with the results above.",
            ("split", "rows", "kept", "dropped", "scored", "accuracy in %", "mean margin"),
            rows,
            folded=True,
        )
        for name in names
        if (rows := split_rows(records[name]))
    ]
    figures = [figure for name in names if (figure := loss_figure(name, records[name])) is not None]
    return Section("training", "Training", (), tables, figures)


def training_facts(record: Mapping[str, Any]) -> dict[str, Cell]:
    run, data, base = (record.get(key) or {} for key in ("run", "data", "base_model"))
    mode = record.get("persona", "")
    facts: dict[str, Cell] = {
        "kind": KIND_NAMES[record["kind"]],
        "persona shown in training": SHOWN_PERSONA.get(mode, mode) or None,
        "base model": base.get("model_id"),
        "base revision": base.get("revision"),
        "base content hash": (base.get("content_hash") or "")[:16] or None,
        "prompt template hash": (record.get("template_hash") or "")[:16] or None,
        "chat template hash": (record.get("chat_template_hash") or "")[:16] or None,
        "pair kinds": ", ".join(data.get("configs") or ()) or None,
        "adapter": None if record.get("adapter") is None else str(record["adapter"]),
        "beta": record.get("beta"),
        "trained parameters": run.get("trainable_parameters"),
        "all parameters": run.get("parameters"),
        "steps": run.get("steps"),
        "seconds": run.get("seconds"),
        "mean training loss": run.get("train_loss"),
    }
    return {label: value for label, value in facts.items() if value is not None}


def split_rows(record: Mapping[str, Any]) -> list[list[Cell]]:
    metrics = record.get("metrics") or {}
    reports = (record.get("data") or {}).get("splits") or {}
    rows: list[list[Cell]] = []
    for split in sorted(reports, key=TRAINED_SPLITS.index):
        report = reports[split]
        scored, accuracy, margin = (metrics.get(f"{split}/{key}") for key in ("rows", "accuracy", "mean_margin"))
        if scored is None:
            shown: Cell = None
        else:
            shown = f"withheld (n < {MINIMUM_ROWS})" if scored < MINIMUM_ROWS else percent(accuracy)
        counts = (report["rows"], report["kept"], reasons_in_words(report["dropped"]))
        rows.append([split, *counts, None if scored is None else int(scored), shown, margin])
    return rows


def loss_figure(name: str, record: Mapping[str, Any]) -> Figure | None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in (record.get("run") or {}).get("history") or ():
        for key, curve in (("loss", "train"), ("seen_test/loss", "seen_test"), ("heldout_test/loss", "heldout_test")):
            if isinstance(entry.get(key), (int, float)):
                curves.setdefault(curve, []).append((entry.get("step", 0), entry[key]))
    if not curves:
        return None
    said = "; ".join(f"{curve}: from {points[0][1]:.3f} to {points[-1][1]:.3f}" for curve, points in curves.items())
    return Figure(
        f"Loss of {name}",
        line_figure(curves, "training step", "loss", UNDECIDED_LOSS),
        f"Loss over training steps. {said}",
        caption="dashed: ln 2, a model that prefers neither text",
    )
