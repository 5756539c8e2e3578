"""Attribute influence as text: the table that the command prints, and the section of the report with Figure 5."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.schema import paper_key
from eval.drawings import distribution_figure
from eval.page import Cell, Example, Figure, Section, Table
from eval.printing import NOTHING, number_with_interval, percent, plain_number
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table

TITLES = {
    "add_one_in": "One attribute added to three (the paper's design)",
    "leave_one_out": "One attribute left out of the whole persona",
    "swap": "One attribute exchanged for another person's",
    "corruption": "A share of the attributes left out",
}
NULL_ROW = "null: other order of lines"
EXAMPLES = 3


def printed(result: Result) -> str:
    """At most 110 columns."""
    content, settings = result.content, result.settings
    lines = [
        f"{TITLES[content['design']]}, {settings['questions_used']} questions, pairs: {settings['pairs']}"
        + (" (scripted)" if is_scripted(result) else ""),
        f"Judge {result.judges[0]['label']}",
        f"Refinements by {(result.subject or {}).get('model')}",
    ]
    if content["withheld"]:
        return "\n".join([*lines, f"Withheld: {content['withheld']}."])
    form = "{:26} {:>8} {:>13} {:>20} {:>7} {:>7} {:>9} {:>9}"
    lines.append(form.format("attribute", "personas", "median kappa", "kappa [95 %]", "flips", "null", "p", "q"))
    for row in content["attributes"]:
        q, p = (row[key] for key in ("q", "p"))
        lines.append(
            form.format(
                _label(row["attribute"])[:26],
                row["personas"],
                plain_number(_median(row)),
                _kappa(row["kappa"]),
                percent(as_estimate(row["flip_rate"]).value),
                percent(as_estimate(row["null_flip_rate"]).value),
                "-" if p is None else f"{p:.4f}",
                "-" if q is None else f"{q:.4f}" + ("*" if row["discovered"] else " "),
            )
        )
    for name, arm in {"null arm": content["null"], **content["controls"]}.items():
        if arm["kappa"] is not None:
            lines.append(
                form.format(
                    {"blind": "told nothing", "wrong": "wrong persona"}.get(name, name),
                    "",
                    plain_number(_median(arm)),
                    _kappa(arm["kappa"]),
                    percent(as_estimate(arm["flip_rate"]).value),
                    *[""] * 3,
                ).rstrip()
            )
    lines.append(_discoveries(content))
    lines += [
        f"{len(without)} of {len(content['attributes'])} withheld from the test ({without[0]['withheld']})."
        for without in [[row for row in content["attributes"] if row["withheld"]]]
        if without
    ]
    undefined = _undefined(content)
    if undefined:
        lines.append(f"Kappas by persona that are undefined: {undefined}.")
    if content["not_tried"]:
        lines.append(f"Not tried, for want of personas: {', '.join(map(_label, content['not_tried']))}."[:110])
    if result.rows["unscored"]:
        lines.append(
            f"Unscored: {', '.join(f'{n:,} {reason}' for reason, n in result.rows['unscored'].items())}."[:110]
        )
    return "\n".join(lines)


def section(results: Sequence[Result], folder: Path) -> Section:
    order = list(TITLES)
    own = sorted(results, key=lambda result: (order.index(result.content["design"]), result.name))
    tables, figures = [], []
    for result in own:
        if result.content["withheld"]:
            continue
        tables += [_influence_table(result), _controls_table(result)]
        figures.append(_figure(result))
        if result.content["determination"]:
            tables += _determination_table(result)
    return Section(
        anchor="attributes",
        title="Which attributes change the verdict",
        text=[*_introduction(), *(_in_words(result) for result in own)],
        tables=tables,
        figures=figures,
        examples=[example for result in own[:1] for example in _examples(result, folder)],
        scripted=any(is_scripted(result) for result in own),
    )


def _introduction() -> list[str]:
    return [
        "A judge reads two versions of one persona and marks the same pairs of answers for both. Cohen's kappa between the two says how "
        "alike the marks are: the lower, the more the difference between the versions matters. The null arm is the first version again, "
        "with its lines in another order; an attribute counts as influential only where it turns more verdicts than that (the largest "
        "p of exchanging the two by persona, by question, and of a t-test that lets rows of both depend; "
        "Benjamini-Hochberg over all attributes tested, q < 0.05).",
        "A line more or less is itself a change of the text, whatever it says. Where all attributes turn more verdicts than the null arm, "
        "look at the exchange, in which the number of lines stays the same.",
    ]


def _in_words(result: Result) -> str:
    content = result.content
    head = f"{TITLES[content['design']]}, judged by {result.judges[0]['label']}{' (scripted)' if is_scripted(result) else ''}: "
    if content["withheld"]:
        return f"{head}withheld, {content['withheld']}."
    undefined = _undefined(content)
    return (
        head
        + _discoveries(content)
        + (f" Undefined kappas of single personas: {undefined}." if undefined else "")
        + (
            f" Not tried, for want of personas: {', '.join(map(_label, content['not_tried']))}."
            if content["not_tried"]
            else ""
        )
    )


def _influence_table(result: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            _label(row["attribute"]),
            row["personas"],
            plain_number(_median(row)),
            as_estimate(row["kappa"]),
            as_estimate(row["flip_rate"]),
            as_estimate(row["null_flip_rate"]),
            as_estimate(row["difference"]),
            row["withheld"] or f"{row['q']:.4f}" + (" *" if row["discovered"] else ""),
        ]
        for row in result.content["attributes"]
    ]
    changed = "share left out" if result.content["design"] == "corruption" else "attribute"
    return Table(
        caption=f"{_heading(result)}. Largest influence first; * q < {result.content['fdr']}.",
        header=(
            changed,
            "personas",
            "median kappa",
            "kappa, pooled",
            "verdicts turned",
            "in the null arm",
            "difference",
            "q",
        ),
        rows=rows,
        signed=(6,),
        plain=(3,),
        folded=len(rows) > 12,
    )


def _controls_table(result: Result) -> Table:
    content = result.content
    names = {
        "null": "the same lines in another order",
        "blind": "told nothing of the person",
        "wrong": "another person",
    }
    arms = {"null": content["null"], **content["controls"]}
    rows: list[list[Cell]] = [
        [names[name], plain_number(_median(arm)), as_estimate(arm["kappa"]), as_estimate(arm["flip_rate"]), arm["rows"]]
        for name, arm in arms.items()
        if arm["kappa"] is not None
    ]
    return Table(
        caption=f"{_heading(result)}: null arm and controls against the first version",
        header=("the judge is shown", "median kappa", "kappa, pooled", "verdicts turned", "rows"),
        rows=rows,
        plain=(2,),
    )


def _determination_table(result: Result) -> list[Table]:
    found = result.content["determination"]
    if found["tiers"] is None:
        return []
    words = {
        "settled": "settled: one verdict in all",
        "leaning": "leaning: one in three quarters or more",
        "open": "open",
    }
    rows: list[list[Cell]] = [[words[name], as_estimate(tier)] for name, tier in found["tiers"].items()]
    return [
        Table(
            caption=f"Does the persona settle the verdict? {found['rows']:,} questions, each in {found['wordings']:g} wordings of "
            f"the persona (median); entropy of the verdicts on average {found['entropy_bits']:.2f} bits. {result.judges[0]['label']}",
            header=("verdict over the wordings", "share of questions"),
            rows=rows,
        )
    ]


def _figure(result: Result) -> Figure:
    content = result.content
    # NULL_ROW stands first, so that every attribute is read against it.
    values: dict[str, list[float]] = {
        NULL_ROW: _defined([k for row in content["attributes"] for k in row["null"]["kappas"].values()])
    }
    shown = [row for row in content["attributes"] if row["quartiles"]]
    if content["design"] == "corruption":
        shown = sorted(shown, key=lambda row: row["attribute"])
    else:
        shown = sorted(shown, key=lambda row: (row["quartiles"][1], row["attribute"]))
    values |= {_label(row["attribute"]): _defined(row["kappas"].values()) for row in shown}
    spread = content["null"]["spread"]
    words = "; ".join(f"{_label(row['attribute'])} {row['quartiles'][1]:.2f}" for row in shown)
    return Figure(
        title=_heading(result),
        image=distribution_figure(values, "Cohen's kappa", None if spread is None else spread[1]),
        words="Median kappa by attribute, smallest first: "
        + (words or "none is defined")
        + (
            "."
            if spread is None
            else f". Null arm: median {spread[1]:.2f}, half of it from {spread[0]:.2f} to {spread[2]:.2f}."
        ),
        number="5" if content["design"] == "add_one_in" else None,
        caption="One dot a persona; the box holds the middle half, the line is the median. Dashed: the null arm's median."
        + (" Scripted judge or writer." if is_scripted(result) else ""),
    )


def _examples(result: Result, folder: Path) -> list[Example]:
    """Some questions on which the change turned the verdict."""
    try:
        asked = read_table(folder / f"{result.name}.asked.parquet")
        profiles = {row["profile_id"]: row["profile"] for row in read_table(folder / f"{result.name}.profiles.parquet")}
        answers = read_table(folder / f"{result.name}.answers.parquet")
    except FileNotFoundError:
        return []
    refined = {(row["profile_id"], row["prompt_id"]): row for row in answers}
    said: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in asked:
        if row["item_id"] and row["arm"] in ("base", "changed"):
            said.setdefault((row["attribute"], row["persona_id"], row["prompt_id"]), {})[row["arm"]] = row["profile_id"]
    examples = []
    for (attribute, _, prompt), arms in sorted(said.items()):
        text = refined.get((arms.get("base", ""), prompt))
        if len(arms) < 2 or text is None or text["refinement"] is None:
            continue
        parts = [
            ("First version of the persona", profiles[arms["base"]]),
            ("Second version", profiles[arms["changed"]]),
            ("Question", text["question"]),
            ("Base answer", text["base_answer"]),
            ("Critique for the first version", text["critique"]),
            ("Refinement", text["refinement"]),
        ]
        examples.append(Example(f"{_label(attribute)}, question {prompt}", parts))
    step = max(1, len(examples) // EXAMPLES)
    return examples[::step][:EXAMPLES]


def _discoveries(content: Mapping[str, Any]) -> str:
    if not content["tested"]:
        return "Nothing was tested: no attribute has enough personas."
    names = [_label(row["attribute"]) for row in content["attributes"] if row["discovered"]]
    what = f"{len(names)} of {content['tested']} tested turn more verdicts than the null arm (q < {content['fdr']})"
    return f"{what}: {', '.join(names)}." if names else f"{what}."


def _undefined(content: Mapping[str, Any]) -> str:
    counts: dict[str, int] = {}
    for row in content["attributes"]:
        for reason, count in row["undefined"].items():
            counts[reason] = counts.get(reason, 0) + count
    total = sum(len(row["kappas"]) for row in content["attributes"])
    return ", ".join(f"{count:,} of {total:,} ({reason})" for reason, count in sorted(counts.items()))


def _heading(result: Result) -> str:
    return f"{TITLES[result.content['design']]}: {result.judges[0]['name']}, {result.judges[0]['model']}"


def _label(attribute: str) -> str:
    return paper_key(attribute)


def _median(row: Mapping[str, Any]) -> float | None:
    return row["quartiles"][1] if row["quartiles"] else None


def _defined(kappas: Any) -> list[float]:
    return [kappa for kappa in kappas if kappa is not None]


def _kappa(kappa: Mapping[str, Any]) -> str:
    """Without its reason, for which the table has no room."""
    return NOTHING if kappa["value"] is None else number_with_interval(kappa)
