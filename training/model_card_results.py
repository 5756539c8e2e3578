"""The results in a model's card: shares won under the three conditions, what was not scored, and whom the model serves worst."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.conditioning import CONDITIONS, FEW_SHOT_MODES, WITHOUT_OWN_PERSONA
from training.estimates import MINIMUM_ROWS
from training.kinds import LEARN_FROM_PAIRS, TRL_KINDS
from training.metrics import CONTROLS
from training.record import is_blind

# What the three conditions are to a method with a loop of its own: true, none, wrong.
OWN_CONDITIONS = {
    "low_rank": (
        "with the weights w_u of the row's own persona",
        "with the generic weights that stand for nobody",
        "with the weights of a third persona of the same group",
    ),
    "vpl": (
        "with what it infers from labelled pairs of the row's own persona",
        "with what it assumes of nobody, without a labelled pair",
        "with what it infers from those of a third persona of the same group",
    ),
    "p_dpo": (
        "with the soft tokens of the row's own persona",
        "with the generic soft tokens",
        "with the soft tokens of a third persona of the same group",
    ),
    "per_persona": (
        "by the adapter of the row's own persona",
        "by the pooled adapter",
        "by the adapter of a third persona of the same group",
    ),
}


def results_section(record: Mapping[str, Any]) -> list[str]:
    if not record["results"]:
        return ["No test row was scored at the end of training."]
    evaluation = record["evaluation"]
    drawn = ", ".join(f"{rows} of {split}" for split, rows in evaluation["rows"].items())
    bound = evaluation["max_rows_a_cell"]
    paragraphs = [
        f"Share of test pairs in which the chosen answer scores higher, {_conditions(record)} **A high accuracy under `true` alone does "
        "not show that the persona was used**: the chosen text is the revised one, so a persona-blind model can score highly on `dpf`. "
        "What the persona adds is true - wrong, the specificity gap. On `contrast` both texts are revisions and every pair stands beside "
        "its mirror, so there a persona-blind model gets exactly one half.",
        f"Scored: {drawn} rows"
        + (f" (at most {bound} of each pair config in each cell, drawn by seed)" if bound is not None else "")
        + ". Ties count half. "
        f"In brackets 95 % intervals that resample personas; of fewer than {MINIMUM_ROWS} pairs only the counts are given.",
        *_not_scored(record),
    ]
    for config in dict.fromkeys(entry["config"] for entry in record["results"]):
        table = [
            f"| `{config}`: personas / split | pairs | personas | true | none | wrong | true - wrong | true - none | tied |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for entry in record["results"]:
            if entry["config"] == config:
                shares = [_share(entry["conditions"][condition], entry["rows"]) for condition in CONDITIONS]
                gaps = [_gap(entry["gaps"][control]) for control in CONTROLS]
                tied = "/".join(str(entry["conditions"][condition]["ties"]) for condition in CONDITIONS)
                cells = [entry["cell"], entry["rows"], entry["personas"], *shares, *gaps, tied]
                table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        paragraphs.append("\n".join(table))
    return [*paragraphs, *_spread(record["results"])]


def _conditions(record: Mapping[str, Any]) -> str:
    """What true, none and wrong are to this model: the end of a sentence, and what else is to be known."""
    kind, mode = record["kind"], record["conditioning"]["mode"]
    if kind not in TRL_KINDS and is_blind(record):
        true, none, wrong = "for the row's own persona", "for nobody", "for a third persona of the same group"
    elif kind not in TRL_KINDS:
        true, none, wrong = OWN_CONDITIONS[kind]
    elif mode in FEW_SHOT_MODES:
        pairs = "labelled pairs" if mode == "few_shot" else "profile and labelled pairs"
        true = f"with the {pairs} of the row's own persona in the prompt"
        none, wrong = "with the neutral text", f"with the {pairs} of a third persona of the same group"
    else:
        profile = "whole profile" if mode in WITHOUT_OWN_PERSONA else "profile"
        true = f"with the {profile} of the row's own persona in the prompt"
        none, wrong = "with the neutral text", f"with the {profile} of a third persona of the same group"
        if mode not in ("full", *WITHOUT_OWN_PERSONA):
            true += ", in the form described above,"
    said = f"{true} (true), {none} (none) and {wrong} (wrong)."
    if kind in TRL_KINDS and mode == "none":
        return f"{said} Its own condition is `none`; the others show what it does with a profile, which it was not trained to read."
    if kind in TRL_KINDS and mode == "shuffled":
        return f"{said} In training the profile was never the row's own."
    return f"{said} To this model they are the same." if is_blind(record) else said


def _not_scored(record: Mapping[str, Any]) -> list[str]:
    """Rows that are not in the tables, and those in which a persona is none to the model."""
    kind, mode, run = record["kind"], record["conditioning"]["mode"], record["run"]
    said = []
    left_out = record["evaluation"]["left_out"]
    if left_out:
        why = "a text is longer than the model reads"
        looks_at_pairs = kind in LEARN_FROM_PAIRS and not is_blind(record)
        if looks_at_pairs or (kind in TRL_KINDS and mode in FEW_SHOT_MODES):
            why += f", or a persona has fewer labelled pairs than the {record['conditioning']['few_shot_pairs']} that are asked for"
        said.append(f"{left_out} of the drawn rows were left out, because under one of the conditions {why}.")
    outside = {split: rows for split, rows in run.get("rows_outside", {}).items() if rows}
    if outside:
        rows = ", ".join(f"{number} of {split}" for split, number in outside.items())
        said.append(
            f"{len(run['personas'])} personas have an adapter. Rows of other personas, and test rows that name another one as wrong, are "
            f"neither trained on nor scored: {rows}. So these figures are not to be set beside those of a model that scores all rows."
        )
    generic = [
        f"under `{condition}` {of['personas_generic']} of {of['personas']} personas ({of['rows_generic']} of {of['rows']} rows)"
        for condition, of in run.get("coverage", {}).items()
    ]
    if generic:
        said.append(
            f"Without soft tokens of their own, and so scored with the generic ones, exactly as under `none`: {', '.join(generic)}."
        )
    return [" ".join(said)] if said else []


def _spread(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whom the model serves worst: one row for each pair config and condition, over all cells."""
    entries = [
        (entry["config"], condition, entry["conditions"][condition]["spread"])
        for entry in results
        for condition in CONDITIONS
        if entry["cell"] == "all" and entry["conditions"][condition].get("spread")
    ]
    if not entries:
        return []
    minimum = entries[0][2]["minimum_rows"]
    table = [
        "| config, persona shown | personas | worst persona | 10th percentile | worst group |",
        "| --- | --- | --- | --- | --- |",
    ]
    for config, condition, spread in entries:
        group = spread["worst_group"]
        worst = (
            "none large enough"
            if group is None
            else f"{group['attribute']} {_in_table(group['value'])}: {group['accuracy'] * 100:.1f} % of {group['rows']}"
        )
        cells = [f"`{config}`, {condition}", spread["personas"], *map(_percent, _persona_shares(spread)), worst]
        table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return [
        f"Whom it serves worst: accuracy of personas with at least {minimum} pairs, and of the worst group that profiles state with at "
        f"least {MINIMUM_ROWS}. The worst of many is low by chance too, and on `contrast` a persona-blind model serves one of two mirrored "
        "personas and fails the other: compare `true` with `none`, not with one half.",
        "\n".join(table),
    ]


def _persona_shares(spread: Mapping[str, Any]) -> list[float | None]:
    return [spread["worst_persona"], spread["tenth_percentile"]]


def _percent(share: float | None) -> str:
    return "too few pairs" if share is None else f"{share * 100:.1f} %"


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")


def _share(outcome: Mapping[str, Any], rows: int) -> str:
    if outcome["accuracy"] is None:
        return f"{outcome['wins']} of {rows}"
    interval = (
        f"({outcome['withheld']})"
        if outcome["low"] is None
        else f"[{outcome['low'] * 100:.0f}, {outcome['high'] * 100:.0f}]"
    )
    return f"{outcome['accuracy'] * 100:.1f} % {interval}"


def _gap(gap: Mapping[str, Any]) -> str:
    if gap["difference"] is None:
        return f"({gap['withheld']})"
    interval = f"({gap['withheld']})" if gap["low"] is None else f"[{gap['low'] * 100:+.0f}, {gap['high'] * 100:+.0f}]"
    return f"{gap['difference'] * 100:+.1f} {interval}"
