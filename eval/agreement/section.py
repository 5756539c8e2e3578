"""The agreement evaluation in words, tables and figures: Figures 6 to 9 of the paper."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from eval.agreement.annotators import CONDITION_SUFFIXES, LABEL, PUBLISHED
from eval.agreement.content import CONSENSUS_SUFFIX, PEOPLE
from eval.agreement.kappa import FEWEST_OF_PERSONA
from eval.drawings import heatmap_figure, histogram_figure
from eval.judging import own_work_notes
from eval.page import Cell, Figure, Section, Table
from eval.printing import number_with_interval, plain_number
from eval.results import Result, as_estimate, is_scripted

BINS = [-1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
MOST_HISTOGRAMS = 8
ITSELF = {"dpf": "(take the refined)", "contrast": "(itself)"}
# The pairs on which most agree are the easier ones.
ONLY_AGREED = " (items with a consensus only)"
NOTHING = {"value": None, "low": None, "high": None, "n": 0, "clusters": 0, "withheld": "not both annotated"}
WHAT_THE_CONFIGS_SAY = {
    "dpf": (
        "dpf: the base answer against the one refined for the persona. The data's label is always the refined answer, so its row is the "
        "persona-blind rule `take the refined one`: an agreement no higher than the rule's says nothing of personas."
    ),
    "contrast": (
        "contrast: two answers refined for two personas, each pair with its mirror. A rule that never sees the persona agrees with the "
        "labels half of the time, kappa 0."
    ),
}


def printed(result: Result) -> str:
    """For a terminal, at most 110 columns: every annotator with its controls against the label and against what most people say."""
    lines: list[str] = []
    for config, content in result.content["configs"].items():
        look = Kappas(content)
        people = _consensus_names(content)
        lines += [
            "",
            f"{config}: {content['items']:,} pairs, {content['personas']:,} personas; kappa with 95 % intervals",
        ]
        heading = (
            f"{'annotator':<30}{'n':>5}{'ties':>6}{'unsc.':>6}  {'with the label':<21}{'no pers.':>9}{'wrong p.':>9}"
        )
        lines.append(heading + ("  with most raters" if people else ""))
        for annotator in own_annotators(result, config):
            items = annotator["items"][config]
            name = annotator["name"]
            line = f"{cut(name, 29):<30}{items['answered']:>5}{items['ties']:>6}{sum(items['unscored'].values()):>6}  "
            line += f"{ITSELF[config] if name == LABEL else number_with_interval(look.kappa(name, LABEL)):<21}"
            line += "".join(f"{plain_number(look.twin(annotator, c, LABEL)['value']):>9}" for c in ("none", "wrong"))
            lines.append(
                (
                    line + (f"  {number_with_interval(look.with_consensus(name, people[0])):<20}" if people else "")
                ).rstrip()
            )
        lines += [
            f"Krippendorff's alpha, {entry['of']} ({len(entry['annotators'])}): {number_with_interval(entry['alpha'])}"
            for entry in content["alphas"]
        ]
        lines += [f"{entry['of']} raters: {_consensus_words(entry)}" for entry in content["consensus"]]
    return "\n".join([*lines[1:], "", *(textwrap.fill(note, 110) for note in _notes(result))])


def section(results: Sequence[Result], folder: Path) -> Section:
    tables: list[Table] = []
    figures: list[Figure] = []
    text = [
        "Who agrees with whom about which answer a person would prefer. Cohen's kappa on the pairs that both annotated (a tie is an "
        "answer of its own), with 95 % intervals from resampling personas and questions. A kappa that is not defined is shown as such, "
        "never as 0.",
        *WHAT_THE_CONFIGS_SAY.values(),
    ]
    for result in results:
        text += [f"{result.description}. {' '.join(_notes(result))}"]
        for config in result.content["configs"]:
            tables += _tables(result, config)
            figures += _figures(result, config)
    return Section(
        anchor="agreement",
        title="Agreement",
        text=text,
        tables=tables,
        figures=figures,
        scripted=any(is_scripted(result) for result in results),
    )


class Lookup(Protocol):
    """Whatever knows the kappa of two names."""

    def kappa(self, one: str, other: str, group: str = "all") -> dict[str, Any]: ...


class Kappas:
    """Look-up of the pooled kappas of one config."""

    def __init__(self, content: Mapping[str, Any]):
        self.entries = {
            (entry["group"], frozenset((entry["first"], entry["second"]))): entry for entry in content["kappas"]
        }
        self.with_others = {
            (name, f"{entry['of']}{CONSENSUS_SUFFIX}"): kappa
            for entry in content["consensus"]
            for name, kappa in entry["with_others"].items()
        }

    def entry(self, one: str, other: str, group: str = "all") -> Mapping[str, Any] | None:
        return self.entries.get((group, frozenset((one, other))))

    def kappa(self, one: str, other: str, group: str = "all") -> dict[str, Any]:
        entry = self.entry(one, other, group)
        if (one, other) in self.with_others or (other, one) in self.with_others:
            return {**NOTHING, "withheld": "part of it"}
        return NOTHING if entry is None else entry["kappa"]

    def with_consensus(self, name: str, consensus: str) -> dict[str, Any]:
        """Of a rater the kappa with most of the other raters."""
        return self.with_others.get((name, consensus)) or self.kappa(name, consensus)

    def twin(self, annotator: Mapping[str, Any], condition: str, other: str) -> dict[str, Any]:
        """The kappa of the same annotator under another condition; nothing where it has no such twin."""
        return (
            self.kappa(f"{annotator['of']}{CONDITION_SUFFIXES[condition]}", other)
            if annotator["condition"]
            else NOTHING
        )


def _tables(result: Result, config: str) -> list[Table]:
    content = result.content["configs"][config]
    look, own = Kappas(content), own_annotators(result, config)
    references = [LABEL, *_consensus_names(content)]
    references += [a["name"] for a in own if a["group"] == "model" and a["name"] not in references]
    rows: list[list[Cell]] = []
    for annotator in own:
        for other in references:
            # Two judges stand in both orders: each has controls of its own.
            if other == annotator["name"] or (not annotator["condition"] and annotator["name"] in references):
                continue
            entry = look.entry(annotator["name"], other)
            if entry is None:
                continue
            rows.append(
                [
                    f"{annotator['name']} with {other}{ONLY_AGREED if other in _consensus_names(content) else ''}",
                    as_estimate(entry["kappa"]),
                    as_estimate(look.twin(annotator, "none", other)) if annotator["condition"] else None,
                    as_estimate(look.twin(annotator, "wrong", other)) if annotator["condition"] else None,
                    as_estimate(entry["agreement"]),
                    as_estimate(entry["decided"]),
                ]
            )
    rows += [
        [f"{name} with most of the other {entry['of']} raters", as_estimate(kappa), None, None, None, None]
        for entry in content["consensus"]
        for name, kappa in entry["with_others"].items()
    ]
    tables = [
        Table(
            f"{config}: kappa of each annotator with the label, with what most raters say, and with each judge ({result.name})",
            [
                "Annotators",
                "kappa",
                "first without a persona",
                "first with a wrong persona",
                "same answer",
                "kappa without ties",
            ],
            rows,
            plain=(1, 2, 3, 5),
        )
    ]
    if content["alphas"]:
        tables.append(
            Table(
                f"{config}: Krippendorff's alpha ({result.name})",
                ["Annotators", "number", "alpha"],
                [[entry["of"], len(entry["annotators"]), as_estimate(entry["alpha"])] for entry in content["alphas"]],
                plain=(2,),
            )
        )
    tables.append(
        Table(
            f"{config}: who answered what ({result.name})",
            ["Annotator", "kind", "answered", "ties", "unscored", "stated reliability"],
            [
                counts_row(annotator, config)
                for annotator in result.content["annotators"]
                if config in annotator["items"]
            ],
            folded=True,
        )
    )
    groups = [group for group in ("seen", "unseen") if any(entry["group"] == group for entry in content["kappas"])]
    if len(groups) > 1:
        tables.append(
            Table(
                f"{config}: kappa with the label by group of personas ({result.name})",
                ["Annotator", *(f"{group} personas" for group in groups)],
                [
                    [a["name"], *(as_estimate(look.kappa(a["name"], LABEL, group)) for group in groups)]
                    for a in result.content["annotators"]
                    if config in a["items"] and a["name"] != LABEL
                ],
                plain=tuple(range(1, len(groups) + 1)),
                folded=True,
            )
        )
    if dropped := drop_one_rows(content):
        tables.append(
            Table(
                f"{config}: kappa with the majority of the raters but one, in turn ({result.name})",
                ["Annotator", "lowest", "highest", "pairs", "undefined"],
                dropped,
                plain=(1, 2),
                folded=True,
            )
        )
    return tables


def _figures(result: Result, config: str) -> list[Figure]:
    content = result.content["configs"][config]
    look, own = Kappas(content), own_annotators(result, config)
    people = [a["name"] for a in own if a["group"] in PEOPLE]
    models = [a["name"] for a in own if a["group"] == "model"]
    twins = [
        a["name"] for a in result.content["annotators"] if a["condition"] in ("none", "wrong") and config in a["items"]
    ]
    known = [*models, *twins, LABEL]
    simulated = any(a["group"] == "simulated" for a in own)
    mark = " (simulated people)" if simulated else ""
    figures = []
    if people:
        names = [*people, *_consensus_names(content), *models, LABEL]
        figures += matrix_figure(look, names, "6", f"Kappa of people and models on {config}{mark}", result.name)
        wanted = [
            *_inside(people),
            *((name, other) for name in _consensus_names(content) or people for other in models),
        ]
        figures += persona_histograms(
            content, wanted, "7", f"Kappa of people and models by persona, on {config}{mark}", result.name
        )
    names = [*known, *(a["name"] for a in own if a["group"] == "lexical")]
    if models:
        figures += matrix_figure(look, names, "8", f"Kappa of models on {config}, with their controls", result.name)
        wanted = [*_inside(models), *((name, LABEL) for name in [*models, *twins])]
        figures += persona_histograms(content, wanted, "9", f"Kappa of models by persona, on {config}", result.name)
    return figures


def matrix_figure(look: Lookup, names: Sequence[str], paper: str, title: str, result: str) -> list[Figure]:
    """The upper triangle only: kappa is symmetric, and the paper blacks the other one out."""
    if len(names) < 2:
        return []
    matrix = [
        [look.kappa(one, other)["value"] if column >= row else None for column, other in enumerate(names)]
        for row, one in enumerate(names)
    ]
    # On the diagonal stands nothing but what is several annotators at once, as raters with each other.
    said = [
        f"{one} with {other}: {number_with_interval(look.kappa(one, other))}"
        for row, one in enumerate(names)
        for column, other in enumerate(names)
        if column > row or (column == row and matrix[row][column] is not None)
    ]
    blank = [(row, column) for row in range(len(names)) for column in range(row)]
    image = heatmap_figure(matrix, names, names, "Cohen's kappa", blank=blank)
    return [
        Figure(
            title,
            image,
            "; ".join(said),
            paper,
            "Upper triangle; an empty cell above the diagonal is undefined"
            + (
                ", or a rater beside a consensus that it is part of; a consensus is of the items that have one. "
                if any(name.endswith(CONSENSUS_SUFFIX) for name in names)
                else ". "
            )
            + f"{result}.",
        )
    ]


def persona_histograms(
    content: Mapping[str, Any], wanted: Sequence[tuple[str, str]], paper: str, title: str, result: str
) -> list[Figure]:
    entries = {frozenset((entry["first"], entry["second"])): entry for entry in content["of_personas"]}
    found = {
        f"{one} with {other}": entries[key] for one, other in wanted if (key := frozenset((one, other))) in entries
    }
    shown = {name: entry for name, entry in found.items() if entry["kappas"]}
    if not shown:
        return []
    first = dict(list(shown.items())[:MOST_HISTOGRAMS])
    image = histogram_figure(
        {name: list(entry["kappas"].values()) for name, entry in first.items()}, BINS, "Cohen's kappa"
    )
    said = [
        f"{name}: {len(entry['kappas'])} personas, median {plain_number(entry['median'])}, "
        f"undefined for {sum(entry['undefined'].values())}"
        for name, entry in found.items()
    ]
    caption = (
        f"One kappa a persona, from {FEWEST_OF_PERSONA} pairs on; undefined ones are left out and counted. {result}."
    )
    return [Figure(title, image, "; ".join(said), paper, caption)]


def own_annotators(result: Result, config: str) -> list[Mapping[str, Any]]:
    """Who annotated this config, without the twins."""
    return [a for a in result.content["annotators"] if a["condition"] in ("", "true") and config in a["items"]]


def _consensus_names(content: Mapping[str, Any]) -> list[str]:
    return [f"{entry['of']}{CONSENSUS_SUFFIX}" for entry in content["consensus"]]


def counts_row(annotator: Mapping[str, Any], config: str) -> list[Cell]:
    items = annotator["items"][config]
    unscored = ", ".join(f"{count} {reason}" for reason, count in items["unscored"].items())
    if items["withheld"]:
        unscored += f"; figures withheld: {items['withheld']}"
    kind = f"{annotator['group']}{', scripted' if annotator['scripted'] else ''}"
    return [annotator["name"], kind, items["answered"], items["ties"], unscored or 0, annotator["reliability"]]


def drop_one_rows(content: Mapping[str, Any]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for entry in content["consensus"]:
        for other in entry["drop_one"]:
            kappas = sorted(
                (kappa for kappa in other["kappas"].values() if kappa["value"] is not None), key=lambda k: k["value"]
            )
            ends: list[Cell] = [as_estimate(kappa) for kappa in (kappas[0], kappas[-1])] if kappas else [None, None]
            counts = [kappa["n"] for kappa in other["kappas"].values()]
            reasons = Counter(kappa["withheld"] for kappa in other["kappas"].values() if kappa["value"] is None)
            undefined = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            pairs = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
            rows.append([f"{other['with']} with {entry['of']} raters", *ends, pairs, undefined or 0])
    return rows


def _inside(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]


def _consensus_words(entry: Mapping[str, Any]) -> str:
    said = f"{len(entry['raters'])} a pair, {entry['items']:,} pairs"
    share = entry["no_consensus"]
    return said + (f", no three quarters agree on {share['value']:.0%}" if share and share["value"] is not None else "")


def _notes(result: Result) -> list[str]:
    annotators = result.content["annotators"]
    notes = []
    if any(annotator["group"] == "simulated" for annotator in annotators):
        notes.append(
            "Simulated people answer by the labels with a stated reliability: they show that the analysis works, nothing of people."
        )
    if is_scripted(result):
        notes.append("Scripted judges are a fixed function of the text: nothing can be concluded from them.")
    if unknown := result.settings["rated_pairs_unknown"]:
        notes.append(f"{unknown:,} rated pairs are no test pairs of this dataset and were left out.")
    if any(content["consensus"] for content in result.content["configs"].values()):
        notes.append(
            "Most raters: of the pairs on which three quarters agree, which are the easier ones; of a rater, most of the other raters."
        )
    if left_out := result.settings["rated_pairs_left_out"]:
        notes.append(f"{left_out:,} rated test pairs are over the limit of items or lack a text and were left out.")
    notes += own_work_notes(result)
    if any(annotator["name"] == PUBLISHED and annotator["items"] for annotator in annotators):
        notes.append(f"{PUBLISHED.capitalize()} is the verdict that stands in the rows; it has no controls here.")
    return notes


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
