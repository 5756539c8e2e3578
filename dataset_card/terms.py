"""Under which terms the parts of a version stand: rows for what is in the build and for nothing else."""

from collections.abc import Mapping
from typing import Any

from dataset_card.origin import AUTHORS, CENSUS, FILE, persona_origin
from dataset_card.tables import cell, code, table, without_folder

MOST_SOURCES = 5  # named in one row

CENSUS_ROWS = (
    (
        "census attributes",
        "American Community Survey PUMS, US Census Bureau, or synthetic records fitted to it",
        "public domain",
    ),
    (
        "religion, party, ideology",
        "drawn from figures of the Pew Research Center (2023 to 2025), homeland shares of the World Factbook",
        "figures citable with attribution; Pew bears no responsibility for their use here",
    ),
    (
        "Big Five",
        "drawn from figures of Soto and John (2017, doi:10.1037/pspp0000096) and the American National Election Studies 2012, 2016",
        "figures citable",
    ),
    (
        "habits, quirks, values",
        "this project's own lists, or a model (column `provenance` of `personas`)",
        "CC-BY-4.0; a model's text as below",
    ),
)
OF_QUESTIONS = {
    "PRISM": ("questions from PRISM", "Kirk et al. 2024, participants' text", "CC-BY-4.0"),
    "persona-testbed": ("questions from `persona-testbed`", "written for this project", "CC-BY-4.0"),
}
ROW_BY_ROW = "column `licence` of `prompts`, row by row; `unknown` means that the source names none"


def terms_table(statistics: Mapping[str, Any]) -> str:
    build = statistics.get("build") or {}
    origin = persona_origin(build)
    stage = (build.get("stages") or {}).get("personas") or {}
    rows: list[tuple[str, str, str]] = []
    if origin == CENSUS:
        rows += CENSUS_ROWS
    elif origin == FILE:
        licence = cell(stage.get("licence")) or "as their source says; it names none to this project"
        rows.append(("personas", code(without_folder(str(stage.get("source") or "a file"))), licence))
    else:
        imported = build["imported"]
        release = f"the release of the paper's authors ({code(without_folder(str(imported.get('source'))))})"
        rows.append(("personas, answers, critiques, revisions", release, cell(build.get("licence") or "as it says")))
    rows += _questions(statistics.get("question_sources"))
    if origin != AUTHORS:
        rows.append(
            (
                "answers, critiques, revisions",
                "the models above",
                "their licences or terms of use may restrict what generated text is used for",
            )
        )
    return table(("part", "from", "terms"), rows)


def _questions(sources: Mapping[str, int] | None) -> list[tuple[str, str, str]]:
    if sources is None:
        return [("questions", "column `source` of `prompts`", ROW_BY_ROW)]
    rows = [row for source, row in OF_QUESTIONS.items() if source in sources]
    others = [source for source in sources if source not in OF_QUESTIONS]
    if others:
        named = ", ".join(map(code, others[:MOST_SOURCES]))
        more = f" and {len(others) - MOST_SOURCES} more (column `source` of `prompts`)"
        part = "other questions" if rows else "questions"
        rows.append((part, named + more * (len(others) > MOST_SOURCES), ROW_BY_ROW))
    return rows
