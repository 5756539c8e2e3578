"""Where everything on the page comes from: dataset, models, templates, every result with its rows, seed and command, package versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from eval.page import Cell, Section, Table
from eval.report.published import reasons_in_words, words
from eval.report.render import number
from eval.results import Result, too_many_unscored


def provenance_section(build: Mapping[str, Any] | None, results: Sequence[Result]) -> Section:
    tables = [results_table(results)]
    dataset: dict[str, Any] = next((result.dataset for result in results if result.dataset), {})
    about: Mapping[str, Any] = build or {}
    facts: list[tuple[str, Mapping[str, Any]]] = [
        (
            "Dataset",
            {
                "name": dataset.get("name") or about.get("name"),
                "version": dataset.get("version") or about.get("version"),
                "content SHA-256": dataset.get("content_sha256"),
                "recipe fingerprint": about.get("fingerprint"),
                "code version": about.get("code_version"),
                "seed": (about.get("recipe") or {}).get("seed"),
                "judge": (about.get("judge") or {}).get("label"),
                "judge kind": (about.get("judge") or {}).get("kind"),
            },
        ),
        ("Models that built it", {role: _model(facts) for role, facts in (about.get("models") or {}).items()}),
        ("Prompt templates that built it", about.get("templates") or {}),
        (
            "Model calls that built it",
            {words(key): n for key, n in (about.get("usage") or {}).items() if not isinstance(n, dict)},
        ),
        ("Prompt templates of the evaluations", _templates(results)),
        ("Versions", results[0].provenance.get("versions") or {}),
    ]
    for title, found in facts:
        rows: list[list[Cell]] = [[key, number(value)] for key, value in found.items() if value is not None]
        if rows:
            tables.append(Table(title, ("", ""), rows))
    return Section("provenance", "Provenance", (), tables)


def results_table(results: Sequence[Result]) -> Table:
    """Every result file: rows scored and unscored with their reasons, seed, command."""
    rows: list[list[Cell]] = []
    for result in results:
        withheld = too_many_unscored(result.rows)
        unscored = reasons_in_words(result.rows["unscored"]) + (f"; {withheld}" if withheld else "")
        judges = ", ".join(str(judge["name"]) for judge in result.judges) or None
        subject = (result.subject or {}).get("name")
        rows.append(
            [
                result.name,
                subject,
                judges,
                result.rows["scored"],
                unscored,
                str(result.seed),
                result.provenance.get("command"),
            ]
        )
    return Table(
        "Every result on this page. Unscored rows are counted with their reason, and never as wrong or half.",
        ("result", "of", "judge", "rows scored", "unscored", "seed", "command"),
        rows,
    )


def _templates(results: Sequence[Result]) -> dict[str, str]:
    """Label -> the evaluations that used it."""
    found: dict[str, list[str]] = {}
    for result in results:
        for label in result.provenance.get("templates") or ():
            users = found.setdefault(label, [])
            if result.evaluation not in users:
                users.append(result.evaluation)
    return {label: ", ".join(map(words, users)) for label, users in sorted(found.items())}


def _model(facts: Mapping[str, Any]) -> str | None:
    if facts.get("provider") in (None, "none"):
        return None
    return " ".join(str(part) for part in (facts.get("model"), facts.get("revision"), f"({facts['provider']})") if part)
