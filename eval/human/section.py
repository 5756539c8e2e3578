"""A human study in words, tables and figures: Figures 6 and 7 of the paper, with the controls that need no persona beside every number."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.randomness import seed_for
from eval.agreement.annotators import LABEL, PUBLISHED, SHORTER
from eval.agreement.content import CONSENSUS_SUFFIX, EVERY_CONFIG
from eval.agreement.kappa import FEWEST_OF_PERSONA
from eval.agreement.section import NOTHING, Kappas, cut, drop_one_rows, matrix_figure, persona_histograms
from eval.human.content import BLIND
from eval.judging import own_work_notes
from eval.page import Cell, Example, Figure, Section, Table
from eval.printing import number_with_interval, percent_with_interval, plain_number
from eval.results import Result, as_estimate, is_scripted
from eval.tables import read_table

EXAMPLES = 6
Number = dict[str, Any]  # an Estimate as a result holds it
Entry = tuple[str, Number, Number, Number | None, Number | None, Number | None]
# On dpf the label is always the refined answer.
LABEL_ON = {"dpf": "the label (take the refined)"}
PART_WORDS = {
    "contrast": (
        "contrast: two answers refined for two personas. A rule that never sees the persona agrees with the labels of a pair and its "
        "mirror half of the time, kappa 0."
    ),
    "dpf": (
        "dpf: the base answer against the refined one. The label is the persona-blind rule `take the refined answer`: an agreement no "
        "higher than that rule's says nothing of personas."
    ),
    EVERY_CONFIG: "all: both together, as one number would have it. Whatever the rule gets on dpf is in it.",
}


class StudyKappas:
    """Kappas of one part by the names of two, the raters taken together being one of the names."""

    def __init__(self, content: Mapping[str, Any], part: str):
        self.people = content["people"][part]
        self.raters: str = self.people["of"]
        self.consensus = f"{self.raters.removesuffix(' raters')}{CONSENSUS_SUFFIX}"
        self.others = Kappas(content["configs"][part])
        self.with_raters = {entry["name"]: entry["kappa"] for entry in self.people["with_raters"]}

    def kappa(self, one: str, other: str, group: str = "all") -> dict[str, Any]:
        if self.raters not in (one, other):
            return self.others.kappa(one, other, group)
        if one == other:
            each: dict[str, Any] | None = self.people["each_other"]
            return NOTHING if each is None else each["kappa"]
        second = other if one == self.raters else one
        if second == self.consensus:
            return {**NOTHING, "withheld": "part of it"}
        found: dict[str, Any] = self.with_raters.get(second, NOTHING)
        return found


def printed(result: Result) -> str:
    """For a terminal, at most 110 columns."""
    content, settings = result.content, result.settings
    raters = content["raters"]
    lines = [
        f"{result.description}. {settings['study_fingerprint']} is the fingerprint of the study file, set before the first answer.",
        _rater_words(raters),
        _habit_words(raters),
        # --judge NAME without a model takes one that nobody named.
        *(f"Judge {judge['name']}: model {judge['model']} ({judge['provider']})." for judge in result.judges),
        "",
    ]
    for part, people in content["people"].items():
        look = StudyKappas(content, part)
        lines += [
            f"{part}: {people['pairs']:,} pairs, {people['personas']:,} personas, {people['answers']:,} answers; kappa with 95 % intervals",
            f"{'':<36}{'with single raters':<22}{'with most raters':<22}above wrong persona",
        ]
        for name, kappa, _, majority, above, _ in kappa_entries(content, part):
            cells = (number_with_interval(kappa), *(number_with_interval(e) if e else "" for e in (majority, above)))
            lines.append((f"{cut(name, 35):<36}" + "".join(f"{cut(cell, 21):<22}" for cell in cells)).rstrip())
        lines += [
            f"Krippendorff's alpha, {look.raters} ({len(entry['annotators'])} a pair): {number_with_interval(entry['alpha'])}"
            for entry in content["configs"][part]["alphas"]
            if f"{entry['of']} raters" == look.raters
        ]
        for entry in content["configs"][part]["consensus"]:
            lines.append(
                f"No majority of three quarters: {_share_words(entry['no_consensus'])} of {entry['items']:,} pairs"
            )
            lines += [
                f"{name} with the majority of the raters but one, in turn: {lowest} to {highest}"
                for name, lowest, highest in _drop_one_ends(entry)
            ]
        lines.append("")
    lines += _notes(result)
    return "\n".join(piece for line in lines for piece in (textwrap.wrap(line, 110) if len(line) > 110 else [line]))


def section(results: Sequence[Result], folder: Path) -> Section:
    simulated = [result.settings["raters"] == "simulated" for result in results]
    tables: list[Table] = []
    figures: list[Figure] = []
    examples: list[Example] = []
    text = [
        f"{'Simulated raters' if all(simulated) else 'People'} chose, for a persona of whom they saw a card, the answer that it would "
        "prefer; judges were shown the same cards and the same two answers. Kappa with single raters counts every rater of a pair alike; "
        "the majority is of the pairs on which three quarters agree, which are the easier ones. 95 % intervals are from resampling "
        "personas and questions.",
        "Raters of other personas never saw the persona in question: on contrast they are those of the mirror, who saw the same two texts "
        "and disagree where personas matter; on dpf those who were asked the same question. What agrees with raters no better than "
        "they, the label's rule or the shorter answer do has not been shown to know the persona.",
    ]
    text += [PART_WORDS[part] for part in PART_WORDS if any(part in result.content["people"] for result in results)]
    for result in results:
        text += [f"{result.description}. {_rater_words(result.content['raters'])} {' '.join(_notes(result))}"]
        for part in result.content["people"]:
            tables += _tables(result, part)
            figures += _figures(result, part)
        tables += _rater_tables(result)
        examples += _examples(result, folder)
    return Section(
        anchor="human-study",
        title="Human study: simulated raters" if all(simulated) else "Human study",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(is_scripted(result) for result in results),
        simulated=any(simulated),
    )


def kappa_entries(content: Mapping[str, Any], part: str) -> list[Entry]:
    """(who, kappa with single raters, same answer, kappa with the majority, kappa above the wrong persona's, above none's): the raters with
    each other, then everybody else. None where there is no such figure."""
    people, look = content["people"][part], StudyKappas(content, part)
    entries: list[Entry] = []
    if people["each_other"]:
        each = people["each_other"]
        entries.append((f"{look.raters} with each other", each["kappa"], each["agreement"], None, None, None))
    if people["of_other_personas"]:
        other = people["of_other_personas"]
        entries.append(("rater with one of another persona", other["kappa"], other["agreement"], None, None, None))
    for entry in people["with_raters"]:
        majority = look.kappa(entry["name"], look.consensus)
        entries.append(
            (
                f"most {BLIND}" if entry["name"] == BLIND else _shown(entry["name"], part),
                entry["kappa"],
                entry["agreement"],
                None if majority is NOTHING else majority,
                entry.get("above_wrong"),
                entry.get("above_none"),
            )
        )
    return entries


def _tables(result: Result, part: str) -> list[Table]:
    content = result.content
    look = StudyKappas(content, part)
    configs = content["configs"][part]
    rows: list[list[Cell]] = [
        [name, *(None if estimate is None else as_estimate(estimate) for estimate in estimates)]
        for name, *estimates in kappa_entries(content, part)
    ]
    tables = [
        Table(
            f"{part}: kappa with {look.raters} ({result.name})",
            ["Who", "kappa", "same answer", "with most raters", "above wrong persona", "above no persona"],
            rows,
            plain=(1, 3, 4, 5),
            signed=(4, 5),
        )
    ]
    share: list[list[Cell]] = [
        [f"{entry['of']} raters, no majority of three quarters", as_estimate(entry["no_consensus"])]
        for entry in configs["consensus"]
        if entry["no_consensus"]
    ]
    if share:
        tables.append(Table(f"{part}: pairs without a majority ({result.name})", ["Of", "share"], share))
    alphas: list[list[Cell]] = [
        [entry["of"], len(entry["annotators"]), as_estimate(entry["alpha"])] for entry in configs["alphas"]
    ]
    if alphas:
        tables.append(
            Table(
                f"{part}: Krippendorff's alpha, {look.raters} and judges ({result.name})",
                ["Annotators", "number", "alpha"],
                alphas,
                plain=(2,),
                folded=True,
            )
        )
    if dropped := drop_one_rows(configs):
        tables.append(
            Table(
                f"{part}: kappa with the majority of the raters but one, in turn; {look.raters} ({result.name})",
                ["Annotator", "lowest", "highest", "pairs", "undefined"],
                dropped,
                plain=(1, 2),
                folded=True,
            )
        )
    by_persona: list[list[Cell]] = [
        [
            f"{_shown(entry['first'], part)} with {entry['second']}"
            if entry["first"] != entry["second"]
            else f"{entry['first']} with each other",
            len(entry["kappas"]),
            plain_number(min(entry["kappas"].values(), default=None)),
            plain_number(entry["median"]),
            plain_number(max(entry["kappas"].values(), default=None)),
            ", ".join(f"{count} {reason}" for reason, count in entry["undefined"].items()) or 0,
        ]
        for entry in [
            *content["people"][part]["of_personas"],
            *(e for e in configs["of_personas"] if look.consensus in (e["first"], e["second"])),
        ]
        if entry["kappas"] or entry["undefined"]
    ]
    tables.append(
        Table(
            f"{part}: kappa of each persona's own pairs, {look.raters} ({result.name})",
            ["Who", "personas", "lowest", "median", "highest", "undefined"],
            by_persona,
            folded=True,
        )
    )
    return tables


def _figures(result: Result, part: str) -> list[Figure]:
    content = result.content
    look = StudyKappas(content, part)
    present = [a for a in content["annotators"] if a["name"] in look.with_raters]
    judges = [a["name"] for a in present if a["group"] == "model" and a["name"] != PUBLISHED]
    controls = [name for name in (LABEL, SHORTER, BLIND) if name in look.with_raters]
    majority = [look.consensus] if content["configs"][part]["consensus"] else []
    figures = matrix_figure(
        look,
        [look.raters, *majority, *judges, *controls],
        "6",
        f"Kappa of {look.raters}, judges and controls on {part}",
        result.name,
    )
    wanted = [(look.raters, look.raters), *((name, look.raters) for name in [*judges, *controls])]
    # Where there are too few pairs for one kappa of all personas, those of single personas would be bars of one or two.
    wanted = [pair for pair in wanted if look.kappa(*pair)["value"] is not None]
    return figures + persona_histograms(
        content["people"][part],
        wanted,
        "7",
        f"Kappa by persona on {part}: {look.raters}, judges and controls",
        result.name,
    )


def _rater_tables(result: Result) -> list[Table]:
    raters, mark = result.content["raters"], f"{result.settings['raters']} raters, {result.name}"
    tables = [
        Table(
            f"Who took part ({mark})",
            ["What", "raters"],
            [
                ["with a token", raters["invited"]],
                ["began", raters["began"]],
                ["did not finish", raters["unfinished"]],
                ["finished", raters["finished"]],
                ["excluded by the rules", raters["excluded"]],
                ["finished after the persona's places were taken", raters["beyond_places"]],
                ["counted", raters["counted"]],
            ],
        ),
    ]
    if raters["not_counted"]:
        tables.append(
            Table(
                f"Raters who do not count, and why ({mark})",
                ["Rater", "persona", "reason"],
                [[row["rater_id"], row["persona_id"], row["reason"]] for row in raters["not_counted"]],
                folded=True,
            )
        )
    shares = (
        ("took the first answer (no preference for a place: 50 %)", "took_first"),
        ("pasted text into the reasoning", "pasted"),
        ("changed the answer later", "changed_later"),
        ("attention checks passed", "checks_passed"),
    )
    tables.append(
        Table(
            f"How those who count answered ({mark})",
            ["Share of answers", "share"],
            [[what, as_estimate(raters[key])] for what, key in shares if raters[key]],
        )
    )
    measured = (
        ("seconds a question", "seconds_a_question", 0),
        ("minutes in all", "minutes_in_all", 1),
        ("characters of a reasoning", "characters_of_reasoning", 0),
    )
    tables.append(
        Table(
            f"Time and length ({mark})",
            ["What", "10 % below", "median", "10 % above"],
            [
                [what, *(plain_number(raters[key][end], digits) for end in ("p10", "median", "p90"))]
                for what, key, digits in measured
                if raters[key]
            ],
        )
    )
    if planned := result.settings["planned"]:
        tables.append(
            Table(
                f"What was expected of the design before the first answer: half-widths at kappa 0.6 ({mark})",
                ["Kappa of", "all personas", "as printed", "one persona"],
                [
                    [name, *(plain_number(planned[key][name]) for key in ("pooled", "printed", "one_persona"))]
                    for name in planned["pooled"]
                ],
                folded=True,
            )
        )
    return tables


def _examples(result: Result, folder: Path) -> list[Example]:
    """Reasonings of raters who count, of as many personas as can be, drawn by the item alone; none where the files are not there."""
    paths = [folder / f"{result.name}-{file}.parquet" for file in ("answers", "items")]
    if not all(path.is_file() for path in paths):
        return []
    answers, items = (read_table(path) for path in paths)
    by_id = {item["item_id"]: item for item in items}
    counted = [row for row in answers if row["counted"] and row["kind"] != "check" and row["reason"].strip()]
    first: dict[str, dict[str, Any]] = {}
    for row in sorted(counted, key=lambda row: seed_for(0, "human/example", f"{row['item_id']}/{row['rater_id']}")):
        first.setdefault(row["persona_id"], row)
    kind = result.settings["raters"]
    examples = []
    for row in list(first.values())[:EXAMPLES]:
        item = by_id[row["item_id"]]
        other = {"chosen": "rejected", "rejected": "chosen"}[row["preferred"]]
        said = "the data's label too" if row["preferred"] == "chosen" else "against the data's label"
        examples.append(
            Example(
                f"A {kind} rater's reasoning, {item['kind']}, persona {row['persona_id']}: {said}",
                [
                    ("Card", item["card"]),
                    ("Question", item["question"]),
                    ("Preferred", item[row["preferred"]]),
                    ("Not preferred", item[other]),
                    ("Reasoning" if kind == "human" else "Reasoning (simulated)", row["reason"]),
                ],
            )
        )
    return examples


def _rater_words(raters: Mapping[str, Any]) -> str:
    return (
        f"{raters['counted']} raters count of {raters['began']} who began: {raters['excluded']} excluded by the rules, "
        f"{raters['unfinished']} did not finish, {raters['beyond_places']} finished when the places were taken."
    )


def _habit_words(raters: Mapping[str, Any]) -> str:
    seconds, checks, first, pasted = (
        raters[key] for key in ("seconds_a_question", "checks_passed", "took_first", "pasted")
    )
    said = [] if seconds is None else [f"median {plain_number(seconds['median'], 0)} s a question"]
    said += [f"attention checks passed {percent_with_interval(checks)}"] if checks else []
    said += [f"first answer taken {percent_with_interval(first)}"] if first else []
    said += [f"pasted {percent_with_interval(pasted)}"] if pasted else []
    return f"Those who count: {', '.join(said)}."


def _notes(result: Result) -> list[str]:
    notes = [
        f"Study file {result.settings['study_fingerprint']}, set before the first answer. Not counted is who: "
        f"{' '.join(result.settings['rules'])}"
    ]
    if result.settings["raters"] == "simulated":
        notes.append("The raters are simulated: these figures show that the analysis works, and say nothing of people.")
    if is_scripted(result):
        notes.append("Scripted judges are a fixed function of the text: nothing can be concluded from them.")
    notes += own_work_notes(result)
    for annotator in result.content["annotators"]:
        for part, items in annotator["items"].items():
            if items["unscored"] and annotator["judge"]:
                said = ", ".join(f"{count} {reason}" for reason, count in items["unscored"].items())
                withheld = f"; figures withheld, {items['withheld']}" if items["withheld"] else ""
                notes.append(f"{annotator['name']} on {part}: unscored {said}{withheld}.")
    contrast = result.content["people"].get("contrast")
    if contrast and 2 * contrast["mirrors"] < contrast["pairs"]:
        notes.append(
            f"{2 * contrast['mirrors']} of {contrast['pairs']} contrast pairs were asked with their mirror; of the others no rater of "
            "another persona saw the texts."
        )
    few = {part: people["pairs"] // max(1, people["personas"]) for part, people in result.content["people"].items()}
    if parts := [part for part, pairs in few.items() if pairs < FEWEST_OF_PERSONA]:
        notes.append(
            f"A persona has fewer than {FEWEST_OF_PERSONA} pairs of {' and '.join(parts)}: too few for kappas of its own."
        )
    return notes


def _shown(name: str, part: str) -> str:
    return LABEL_ON.get(part, LABEL) if name == LABEL else name


def _share_words(share: Mapping[str, Any] | None) -> str:
    return "-" if share is None else percent_with_interval(share)


def _drop_one_ends(consensus: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(annotator, lowest, highest kappa) of those who have one with the majority without each rater."""
    found = []
    for entry in consensus["drop_one"]:
        values = [kappa["value"] for kappa in entry["kappas"].values() if kappa["value"] is not None]
        if values and entry["with"] != PUBLISHED:
            found.append((entry["with"], plain_number(min(values)), plain_number(max(values))))
    return found
