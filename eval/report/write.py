"""One self-contained HTML page about any set of results.

What is measured is written by the evaluations (eval.report.sections); what was built, how models were trained and where all of it comes
from is added here. The page needs no network and no script, and every text in it is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json, write_text
from eval.page import Section
from eval.report.built import built_section, checks_section, split_counts
from eval.report.judges import judges_in_words, judges_section
from eval.report.pair_samples import pairs_section
from eval.report.paper_figures import contents_section, figure_groups, list_of_figures
from eval.report.provenance_part import provenance_section
from eval.report.published import load_tables
from eval.report.render import render
from eval.report.sections import evaluation_sections
from eval.report.training_part import training_section
from eval.results import Result, load_results, without_paths
from eval.rows import content_hash, read_build
from training.estimates import MINIMUM_ROWS


def write_report(results: Path, output: Path, dataset: Path | None = None, run: Path | None = None) -> Path:
    """Write the page about the results in the folder `results` to `output` and return that path.

    dataset: the published folder that they were computed on; without it the page says nothing of the data. run: the build's folder, for
    what was not published with it (build.json, audit.json and fidelity.json are looked for there first, then in `dataset`).

    Raises InputError where there is no result, the results belong to another dataset, or `dataset` has no build.json.
    """
    loaded = load_results(results)
    folders = [folder for folder in (run, dataset) if folder is not None]
    build = read_build(*folders)
    if folders and build is None:
        raise InputError(
            f"Neither {' nor '.join(map(str, folders))} holds build.json, so nothing can be said about how the data came about. Give the "
            "folder that `persona build` wrote."
        )
    if dataset is not None:
        _refuse_another_dataset(loaded, results, dataset)
    build = None if build is None else without_paths(build)
    tables = load_tables(dataset) if dataset is not None else {}

    sections: list[Section | None] = [*evaluation_sections(loaded, results)]
    judges = judges_section(loaded)
    sections.insert(_place_of_judges(sections), judges)
    pairs = None
    if build is not None:
        sections.append(contents_section(build, tables, _read_first(folders, "fidelity.json"), loaded))
        sections.append(built_section(build, tables))
        sections.append(checks_section(build, tables, _read_first(folders, "audit.json")))
        pairs = pairs_section(tables, loaded, results)
    sections += [training_section(loaded), provenance_section(build, loaded)]
    shown = [section for section in sections if section is not None]
    identity: Mapping[str, Any] = next((result.dataset for result in loaded if result.dataset), {})
    page = page_of(
        shown,
        title=str(identity.get("name") or (build or {}).get("name") or "Evaluation results"),
        version=identity.get("version"),
        lead=_lead(loaded, build, tables),
        judges=judges_in_words(loaded),
        samples=[] if pairs is None else [pairs],
    )
    write_text(output, page)
    return output


def page_of(
    sections: Sequence[Section],
    *,
    title: str,
    version: str | None = None,
    lead: Sequence[str] = (),
    judges: Mapping[str, Mapping[str, str]] | None = None,
    samples: Sequence[Section] = (),
) -> str:
    """The page as HTML. judges: of eval.report.judges. samples: sections of which only the examples are shown.

    Of two sections with one anchor the later one's is changed, so that every link leads to its own.
    """
    shown: list[Section] = []
    for section in sections:
        taken = {other.anchor for other in shown}
        free = next(
            a for n in range(1, len(sections) + 1) if (a := section.anchor + (f"-{n}" if n > 1 else "")) not in taken
        )
        shown.append(replace(section, anchor=free))
    return render(
        {
            "title": title,
            "version": version,
            "lead": lead,
            "sections": shown,
            "sampled": [section for section in (*shown, *samples) if section.examples],
            "paper_figures": list_of_figures(shown),
            "figure_groups": {section.anchor: figure_groups(section) for section in shown},
            "judges": judges or {},
            "minimum_rows": MINIMUM_ROWS,
        }
    )


def _place_of_judges(sections: Sequence[Section | None]) -> int:
    """Before the calibration cards, of which it is the sum; else behind all evaluations."""
    anchors = [section.anchor if section is not None else "" for section in sections]
    return anchors.index("calibration") if "calibration" in anchors else len(anchors)


def _refuse_another_dataset(results: Sequence[Result], folder: Path, dataset: Path) -> None:
    expected = content_hash(dataset)
    found = next((result.dataset["content_sha256"] for result in results if result.dataset), expected)
    if found != expected:
        raise InputError(
            f"The results in {folder} were computed on another dataset ({found[:12]}) than {dataset} ({expected[:12]}). Evaluate this "
            "dataset, or report on the other."
        )


def _read_first(folders: Sequence[Path], name: str) -> dict[str, Any] | None:
    return next((read_json(folder / name) for folder in folders if (folder / name).is_file()), None)


def _lead(
    results: Sequence[Result], build: Mapping[str, Any] | None, tables: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    evaluations = list(dict.fromkeys(result.evaluation.replace("_", " ") for result in results))
    lines = [f"{len(results):,} result{'s' if len(results) != 1 else ''} of {', '.join(evaluations)}."]
    if tables:
        counted = [
            f"{len(tables[name]['all']):,} {word}"
            for name, word in (("personas", "personas"), ("prompts", "questions"))
            if name in tables
        ]
        lines.insert(0, ", ".join([*counted, *split_counts(tables)]) + ".")
    judge = ((build or {}).get("judge") or {}).get("label")
    if judge:
        lines.append(f"The judge of the build is {judge}.")
    return lines
