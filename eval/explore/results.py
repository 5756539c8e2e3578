"""Results of evaluations beside the data: their tables as the report draws them, and the rows behind them, linked to pairs."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from eval.explore import filters
from eval.explore.database import Row, Tables
from eval.explore.filters import Asked, BadRequest, NotFound, Where
from eval.results import Result, load_results

ROWS = 50  # a page
SECTION_SECONDS = 300
# Columns of the kept rows that can be filtered by, and those that name what a row is about; only those that a file has.
FILTERED = ("condition", "verdict", "cell", "config", "mode", "judge", "writer", "use", "order", "part")
LINKED = ("pair_id", "persona_id", "partner_persona_id", "shown_persona_id", "prompt_id")
RESULT_PARAMETERS = ("name", "file", "q", "after", "before", *FILTERED)
LONGEST_CELL = 300  # characters
ITEM = re.compile(r"(?:(?P<config>dpf|dpf_matched)/)?(?P<persona>p\d+)/(?P<prompt>q\d+)(?:[/|].*)?")
PAIR_ITEM = re.compile(r"(?P<pair>(?:dpf|dpf_matched|contrast)/[^/|]+/[^/|]+)(?:[/|].*)?")


class ResultsFolder:
    """A folder of results that belong to the dataset. The tables are made in a process of their own: some evaluations load torch."""

    def __init__(self, folder: Path, content_sha256: str | None):
        """Raises InputError where there is no result, or the results are of another dataset."""
        self.folder = folder
        self.results = load_results(folder)
        found = next((result.dataset["content_sha256"] for result in self.results if result.dataset), None)
        if found is not None and found != content_sha256:
            raise InputError(
                f"The results in {folder} were computed on another dataset ({found[:12]}) than the one to explore "
                f"({str(content_sha256)[:12]}). Give the dataset that they were computed on, or leave --results out."
            )
        self._sections: list[dict[str, Any]] = []
        self._problem = ""
        self._making = threading.Thread(target=self._make_sections, daemon=True)
        self._making.start()

    def files(self) -> list[Path]:
        """The Parquet files with kept rows."""
        return [path for result in self.results for path in _files_of(self.folder, result)]

    def sections(self, seconds: float) -> tuple[list[dict[str, Any]] | None, str]:
        """(the tables of each evaluation as HTML, what went wrong); None while they are being made for longer than `seconds`."""
        self._making.join(seconds)
        return (None if self._making.is_alive() else self._sections), self._problem

    def report(self) -> Path | None:
        """The page that `persona report` wrote, if it lies in the folder."""
        path = self.folder / "report.html"
        return path if path.is_file() else None

    def _make_sections(self) -> None:
        command = [sys.executable, "-m", "eval.explore.sections", str(self.folder.resolve())]
        root = Path(__file__).parent.parent.parent
        # The other program ends when its input does: with us, however we end.
        its_end, our_end = os.pipe()
        try:
            with os.fdopen(its_end, "rb") as leash, os.fdopen(our_end, "wb"):
                done = subprocess.run(
                    command,
                    cwd=root,
                    stdin=leash,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=SECTION_SECONDS,
                )
            if done.returncode:
                self._problem = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
            else:
                self._sections = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            self._problem = f"{type(error).__name__}"


def _files_of(folder: Path, result: Result) -> list[Path]:
    names = [name for name in result.files if name.endswith(".parquet") and Path(name).name == name]
    return [folder / name for name in names if (folder / name).is_file()]


def overview(given: ResultsFolder) -> dict[str, Any]:
    sections, problem = given.sections(seconds=15)
    return {
        "results": [
            {
                "name": result.name,
                "evaluation": result.evaluation.replace("_", " "),
                "description": result.description,
                "subject": (result.subject or {}).get("name") or "",
                "scored": result.rows.get("scored"),
                "unscored": sum((result.rows.get("unscored") or {}).values()),
            }
            for result in given.results
        ],
        "sections": sections,
        "problem": problem,
        "report": given.report() is not None,
    }


def result_page(tables: Tables, given: ResultsFolder, asked: Asked) -> dict[str, Any]:
    """What was measured how, and the kept rows of one of its files, each linked to the pair, persona and question that it is about."""
    result = next((result for result in given.results if result.name == asked["name"]), None)
    if result is None:
        raise NotFound(f"There is no result {asked['name'][:80]} in this folder.")
    paths = {path.name: path for path in _files_of(given.folder, result)}
    facts = [
        ("Evaluation", result.evaluation.replace("_", " ")),
        (
            "Subject",
            " · ".join(str(v) for k, v in (result.subject or {}).items() if k in ("name", "kind", "model") and v),
        ),
        ("Judges", ", ".join(str(judge.get("label") or judge.get("name") or "") for judge in result.judges)),
        ("Rows scored", f"{result.rows.get('scored', 0):,}"),
        ("Unscored", ", ".join(f"{n:,} {why}" for why, n in (result.rows.get("unscored") or {}).items())),
        ("Seed", str(result.seed)),
    ]
    page: dict[str, Any] = {
        "asked": asked,
        "result": result,
        "facts": [(name, value) for name, value in facts if value],
        "files": list(paths),
        "file": None,
        "rows": [],
    }
    if paths:
        chosen = asked["file"] or next(iter(paths))
        if chosen not in paths:
            raise BadRequest(f"{result.name} keeps no file “{chosen[:80]}”. There are: {', '.join(paths)}.")
        page |= {"file": chosen, **_kept_rows(tables, paths[chosen], asked)}
    return page


def _kept_rows(tables: Tables, path: Path, asked: Asked) -> dict[str, Any]:
    place = str(path.resolve())
    kinds = {
        r["column_name"]: r["column_type"] for r in tables.ask_once("DESCRIBE SELECT * FROM read_parquet(?)", (place,))
    }
    after, before = filters.place_in(asked)
    where = Where()
    options: dict[str, list[str]] = {}
    for name in FILTERED:
        if name not in kinds:
            if asked[name]:
                raise BadRequest(f"{path.name} has no column {name}. It has: {', '.join(kinds)}.")
            continue
        query = f'SELECT DISTINCT "{name}"::VARCHAR AS value FROM read_parquet(?) ORDER BY 1 LIMIT 50'
        values = [row["value"] for row in tables.ask_once(query, (place,)) if row["value"] is not None]
        if len(values) > 1 or asked[name]:
            options[name] = values
        if asked[name]:
            where = where.with_(f'"{name}"::VARCHAR = ?', asked[name])
    ids = [name for name in (*LINKED, "item_id", "item") if name in kinds]
    if asked["q"]:
        if not ids:
            raise BadRequest(f"The rows of {path.name} name no pair, persona or question to search for.")
        pattern = filters.like(asked["q"])
        where = where.with_(
            "(" + " OR ".join(f"\"{n}\"::VARCHAR ILIKE ? ESCAPE '\\'" for n in ids) + ")", *([pattern] * len(ids))
        )
    source = "read_parquet(?, file_row_number=true)"
    side, order = (where.with_("file_row_number < ?", before), "DESC") if before is not None else (where, "")
    if after is not None:
        side = where.with_("file_row_number > ?", after)
    query = f"SELECT * FROM {source} WHERE {side.sql()} ORDER BY file_row_number {order} LIMIT {ROWS + 1}"
    rows = tables.ask(query, [place, *side.parameters])
    more, rows = len(rows) > ROWS, rows[:ROWS]
    if before is not None:
        rows = rows[::-1]
    counted = tables.ask_once(f"SELECT count(*) AS n FROM {source} WHERE {where.sql()}", (place, *where.parameters))
    links = _pair_links(tables, rows)
    shown = [name for name in kinds if any(row[name] not in (None, "") for row in rows)]
    return {
        "columns": shown,
        "rows": [
            {"pair": link, "cells": [(name, _cell(row[name]), _page_for(name, row[name])) for name in shown]}
            for row, link in zip(rows, links, strict=True)
        ],
        "options": options,
        "searchable": bool(ids),
        "count": counted[0]["n"],
        "next_after": rows[-1]["file_row_number"] if rows and (more or before is not None) else None,
        "next_before": rows[0]["file_row_number"]
        if rows and (more if before is not None else after is not None)
        else None,
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + " …"


def _page_for(name: str, value: Any) -> str | None:
    """The page that a cell leads to."""
    if name not in LINKED or not value:
        return None
    page = "pair" if name == "pair_id" else "prompt" if name == "prompt_id" else "persona"
    return Asked({"id": str(value)}).address(page)


def _pair_links(tables: Tables, rows: Sequence[Row]) -> list[str | None]:
    """The pair that each row is about, of those that the dataset has."""
    named = [_pair_of(row) for row in rows]
    wanted = list({name for name in named if name})
    if not wanted:
        return [None] * len(rows)
    found = tables.ask(f"SELECT pair_id FROM pairs WHERE pair_id IN ({', '.join('?' * len(wanted))})", wanted)
    known = {row["pair_id"] for row in found}
    return [Asked({"id": name}).address("pair") if name is not None and name in known else None for name in named]


def _pair_of(row: Row) -> str | None:
    if row.get("pair_id"):
        return str(row["pair_id"])
    item = str(row.get("item_id") or row.get("item") or "")
    whole = PAIR_ITEM.fullmatch(item)
    if whole:
        return str(whole["pair"])
    parts = ITEM.fullmatch(item)
    if parts:
        return f"dpf/{parts['persona']}/{parts['prompt']}"
    if row.get("persona_id") and row.get("prompt_id"):
        return f"dpf/{row['persona_id']}/{row['prompt_id']}"
    return None


def scores_of(tables: Tables, given: ResultsFolder, pair_id: str) -> list[dict[str, Any]]:
    """What each scorer of `persona eval models` prefers on this pair, by condition."""
    scored = []
    for result in given.results:
        if result.evaluation != "models":
            continue
        by_condition: dict[str, Row] = {}
        for path in _files_of(given.folder, result):
            query = "SELECT condition::VARCHAR AS condition, verdict, score_chosen - score_rejected AS margin "
            query += "FROM read_parquet(?) WHERE pair_id = ?"
            by_condition |= {row["condition"]: row for row in tables.ask(query, [str(path.resolve()), pair_id])}
        if by_condition:
            scored.append(
                {"name": result.name, "label": (result.subject or {}).get("name") or result.name, "by": by_condition}
            )
    return scored
