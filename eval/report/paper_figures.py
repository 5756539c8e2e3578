"""The figures of the paper that the data alone give: the ways of personas and of questions, the histograms of personas and of the census,
the topics. And the list of all thirteen, with the command that makes each.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eval.drawings import bar_figure, pipeline_figure
from eval.page import Figure, Section
from eval.report.published import Tables, as_shares, columns, counts_in_words, two_counts, words
from eval.results import Result

TOPICS_SHOWN = 20
FIGURES_SHOWN = 8  # of a section at once
PERSONA_FIGURES = ("age", "sex", "race", "education", "employment_status", "political_views")
VALUES_SHOWN = 8  # bars of an attribute; the rest is summed up
AGE_BANDS = {"under 18": 18, "18–29": 30, "30–44": 45, "45–59": 60, "60–74": 75, "75 and over": 1000}  # name -> end
OF_THE_DATA = "persona report RESULTS --dataset PUBLISHED"
# number -> (what it shows, the command that makes it)
PAPER_FIGURES = {
    "1": ("how a persona comes about", OF_THE_DATA),
    "2": ("histograms of the personas", OF_THE_DATA),
    "3": ("topics of the questions", OF_THE_DATA),
    "4": ("from questions to a matrix of agreement", OF_THE_DATA),
    "5": ("influence of each attribute", "persona eval attributes PUBLISHED"),
    "6": (
        "agreement of people with models",
        "persona annotate analyse STUDY.yaml --judge JUDGE=MODEL, or persona eval agreement PUBLISHED --annotator PEOPLE.jsonl",
    ),
    "7": (
        "histograms of the agreement of people with models",
        "persona annotate analyse STUDY.yaml --judge JUDGE=MODEL, or persona eval agreement PUBLISHED --annotator PEOPLE.jsonl",
    ),
    "8": (
        "agreement of models with models",
        "persona eval agreement PUBLISHED --annotator JUDGE=MODEL --annotator JUDGE=MODEL2",
    ),
    "9": (
        "histograms of the agreement of models with models",
        "persona eval agreement PUBLISHED --annotator JUDGE=MODEL --annotator JUDGE=MODEL2",
    ),
    "10": ("PERSONA Bench by mode", "persona eval bench PUBLISHED"),
    "11": ("attributes that summaries leave out", "persona eval summaries PUBLISHED"),
    "12": ("pass@k", "persona eval bench PUBLISHED --evaluation pass_at_k"),
    "13": (
        "histograms of the census",
        "persona census compare RUN, then persona report RESULTS --dataset PUBLISHED --run RUN",
    ),
}


def contents_section(
    build: Mapping[str, Any], tables: Tables, fidelity: Mapping[str, Any] | None, results: Sequence[Result]
) -> Section:
    """Figures 1 to 4 and 13, of the data."""
    figures = [persona_way(build, tables), question_way(build, results)]
    figures += [topic_figure(tables)] if "prompts" in tables else []
    if fidelity is not None and fidelity.get("kind") == "build":
        text = [
            f"The personas beside {fidelity['census']['people']:,} people of the census table that they are compared with. With so many "
            f"personas ({fidelity['what']['people']:,}) chance alone gives the distance called noise."
        ]
        main_first = sorted(fidelity["attributes"], key=lambda entry: entry["attribute"] not in PERSONA_FIGURES)
        figures += [population_figure(entry) for entry in main_first]
        figures += persona_figures(tables, [name for name in PERSONA_FIGURES if name not in _compared(fidelity)])
    else:
        text = [
            "No comparison with the census lies beside this dataset (fidelity.json); `persona census compare RUN` makes one."
        ]
        figures += persona_figures(tables, PERSONA_FIGURES)
    return Section("contents", "Personas and topics", text, (), [figure for figure in figures if figure is not None])


def persona_way(build: Mapping[str, Any], tables: Tables) -> Figure | None:
    """Figure 1: from census records to personas, with what each step kept."""
    stage = (build.get("stages") or {}).get("personas")
    if not stage:
        return None
    consistency = stage.get("consistency") or {}
    drawn = f"{stage['in']:,} records" if stage.get("in") is not None else "records"
    steps = [("Census records", [f"{drawn} of {stage.get('source', 'the census')}", *_dropped(stage)])]
    for key, title in (
        ("after_sampling", "Contradictions after drawing"),
        ("after_enrichment", "Contradictions after filling in"),
    ):
        if key == "after_enrichment":
            steps.append(
                (
                    "Filled in by probabilities and curated lists",
                    ["Big Five, values, quirks, views, religion, lifestyle"],
                )
            )
            written = (build.get("recipe") or {}).get("personas", {}).get("enrichment")
            if written not in (None, "none"):
                steps.append(("Open fields written by a model", [_model(build, "enricher")]))
        found = consistency.get(key)
        if found:
            said = [
                f"{found[name]:,} {name}"
                for name in ("checked", "passed", "repaired", "resampled", "dropped")
                if name in found
            ]
            steps.append((title, [", ".join(said)]))
    steps.append(("Personas", [_group_words(tables) or f"{stage.get('out', 0):,}"]))
    return Figure("How a persona comes about", pipeline_figure(steps), _steps_in_words(steps), "1")


def question_way(build: Mapping[str, Any], results: Sequence[Result]) -> Figure | None:
    """Figure 4: from the list of questions to annotators and their agreement."""
    stages = build.get("stages") or {}
    prompts, pairs, contrast = (stages.get(name) for name in ("prompts", "pairs", "contrast"))
    if not prompts or not pairs:
        return None
    steps = [
        ("Questions", [f"{prompts.get('in', 0):,} from {prompts.get('source', 'a list')}", *_dropped(prompts)]),
        ("Kept, by topic and pool", [f"{prompts.get('out', 0):,} in {len(prompts.get('topics') or {}):,} topics"]),
        ("Base answer, critique as the persona, revision", [_model(build, "reviser")]),
        ("Pairs", [f"{pairs.get('out', 0):,} of {pairs.get('in', 0):,}"]),
        ("Judged under a persona", [_model(build, "judge")]),
    ]
    if contrast:
        steps.append(("One persona's revision against another's", [f"{contrast.get('out', 0):,} contrast pairs"]))
    agreement = [result for result in results if result.evaluation == "agreement"]
    compared = (
        f"{agreement[0].rows['scored']:,} choices scored" if agreement else "not run: persona eval agreement PUBLISHED"
    )
    steps.append(("Annotators, and kappa between each two", [compared]))
    return Figure("From questions to a matrix of agreement", pipeline_figure(steps), _steps_in_words(steps), "4")


def topic_figure(tables: Tables) -> Figure:
    prompts = columns(tables["prompts"]["all"], ("topic", "pool"))
    counts = two_counts(((row["topic"], row["pool"] == "heldout") for row in prompts), TOPICS_SHOWN)
    return Figure(
        "Topics of the questions",
        bar_figure(counts, ("train pool", "held-out pool"), "questions"),
        "Questions by topic. " + counts_in_words(counts, "train pool", "held-out pool"),
        "3",
    )


def population_figure(entry: Mapping[str, Any]) -> Figure:
    """Figure 2 beside figure 13, of one attribute of fidelity.json."""
    counts = {bin["label"]: (100 * bin["share"], 100 * bin["census"]) for bin in entry["bins"]}
    donors = "" if entry["sampled"] == "directly" else "; taken from a donor record"
    return Figure(
        entry["label"],
        bar_figure(counts, ("personas", "census"), "%"),
        f"{entry['label']}, in %. " + counts_in_words(counts, "personas", "census"),
        "2, 13",
        f"total variation {entry['tv']:.3f}, noise {entry['noise']:.3f}{donors}",
    )


def persona_figures(tables: Tables, attributes: Sequence[str]) -> list[Figure]:
    """Figure 2 without a census beside it: seen and unseen personas, each the other's control."""
    if "personas" not in tables:
        return []
    personas = columns(tables["personas"]["all"], ("group", *PERSONA_FIGURES))
    figures = []
    for attribute in attributes:
        values = ((_value_label(attribute, row[attribute]), row["group"] == "unseen") for row in personas)
        order = AGE_BANDS if attribute == "age" else None
        shares = as_shares(two_counts(values, VALUES_SHOWN, order))
        figures.append(
            Figure(
                words(attribute).capitalize(),
                bar_figure(shares, ("seen personas", "unseen personas"), "% of the group"),
                f"{words(attribute)}, % of the group. " + counts_in_words(shares, "seen", "unseen"),
                "2",
            )
        )
    return figures


def list_of_figures(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Every figure of the paper with the places on this page that show it."""
    listed = []
    for number, (title, command) in PAPER_FIGURES.items():
        places = [
            (section, index, figure)
            for section in sections
            for index, figure in enumerate(section.figures)
            if number in numbers_of(figure)
        ]
        # Histograms are many for one number: the first of a section leads to them all.
        firsts = {section.anchor: (section, index) for section, index, _ in reversed(places)}
        links = [
            {"id": figure_id(section, index), "title": section.title, "mark": section.mark}
            for section, index in reversed(firsts.values())
        ]
        listed.append({"number": number, "title": title, "command": command, "links": links})
    return listed


def figure_groups(section: Section) -> tuple[list[tuple[str, Figure]], list[tuple[str, Figure]]]:
    """(id, figure) of those that are shown at once, and of those that are drawn shut: further ones of the same kind."""
    shown: list[tuple[str, Figure]] = []
    folded: list[tuple[str, Figure]] = []
    for index, figure in enumerate(section.figures):
        known = {number for _, other in shown for number in numbers_of(other)}
        again = len(shown) >= FIGURES_SHOWN and set(numbers_of(figure)) <= known
        (folded if again else shown).append((figure_id(section, index), figure))
    return shown, folded


def numbers_of(figure: Figure) -> list[str]:
    return re.findall(r"\d+", figure.number or "")


def figure_id(section: Section, index: int) -> str:
    return f"{section.anchor}-figure-{index + 1}"


def _compared(fidelity: Mapping[str, Any]) -> set[str]:
    return {entry["attribute"] for entry in fidelity["attributes"]}


def _group_words(tables: Tables) -> str:
    if "personas" not in tables:
        return ""
    groups = tables["personas"]["all"]["group"]
    return f"{len(groups):,}: " + ", ".join(f"{list(groups).count(name):,} {name}" for name in ("seen", "unseen"))


def _dropped(stage: Mapping[str, Any]) -> list[str]:
    return [f"{count:,} {words(reason)}" for reason, count in (stage.get("dropped") or {}).items() if count]


def _model(build: Mapping[str, Any], role: str) -> str:
    facts = (build.get("models") or {}).get(role) or {}
    return f"by {facts['model']}" if facts.get("model") else "model not recorded"


def _steps_in_words(steps: Sequence[tuple[str, Sequence[str]]]) -> str:
    return "; then ".join(f"{title} ({', '.join(lines)})" for title, lines in steps)


def _value_label(attribute: str, value: Any) -> str:
    if value is None:
        return "not given"
    if attribute == "age":
        return next(name for name, end in AGE_BANDS.items() if value < end)
    return str(value)
