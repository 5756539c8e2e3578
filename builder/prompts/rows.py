"""Rows of a text file with their numbers: JSONL by line, CSV and TSV by row below the header."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from builder.errors import InputError

Row = Any  # a dict of columns; a JSON line may hold something else, which is then no question
LAYOUTS = (
    'One JSON object a line: {"question": "..."} with optional id, topic, source and licence, '
    'or PRISM\'s {"conversation_id": "...", "opening_prompt": "..."} with optional topic; or a CSV file with a header.'
)
SEPARATORS = (",", ";", "\t")


def text_of(value: Any) -> str | None:
    """The value without white space at its ends; None if it is no text, blank, or cannot be written as UTF-8."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    return value.strip()


def read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, but prompts are read from one file. Name the JSONL or CSV file in it. {LAYOUTS}"
        )
    if not path.exists():
        raise InputError(
            f"Prompt file {path} does not exist. Give the path of a JSONL or CSV file, hub:org/name@revision, or `packaged` for "
            f"this project's own questions. {LAYOUTS}"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from None


def decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}, line {line}. "
            "Save it as UTF-8; if it is compressed or Parquet, write it out as JSONL first."
        ) from None


def file_rows(text: str, path: Path) -> list[tuple[int, Row]]:
    """By the file's ending: .csv and .tsv are tables, everything else is JSON lines."""
    return csv_rows(text, path) if path.suffix.lower() in (".csv", ".tsv") else json_rows(text, path)


def json_rows(text: str, path: Path) -> list[tuple[int, Row]]:
    # Split at line feeds only: str.splitlines would also split at separators such as U+2028, which JSON text may
    # contain as they are.
    lines = enumerate(text.split("\n"), start=1)
    return [(number, _parsed(line, number, path)) for number, line in lines if line.strip()]


def _parsed(line: str, number: int, path: Path) -> Row:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long or nesting too deep"
        start = line.strip()[:40]
        raise InputError(f"{path}, line {number} is not JSON ({reason}): it starts with {start!r}. {LAYOUTS}") from None


def csv_rows(text: str, path: Path) -> list[tuple[int, Row]]:
    """Fields between double quotes may hold separators, quotes (doubled) and line ends. A row with more or fewer fields than the
    header is refused: its question would be cut, or be another column's text.
    """
    # Some spreadsheets separate by semicolon. Of equally frequent ones the first wins.
    first_line = text.split("\n", 1)[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else max(SEPARATORS, key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, Row]] = []
    header: list[str] | None = None
    number = 0
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = [field.strip() for field in fields]
                _refuse_repeated(header, path)
                continue
            number += 1
            if len(fields) != len(header):
                raise InputError(
                    f"{path}, row {number} (it ends in line {reader.line_num}) has {len(fields)} fields, but the header has "
                    f"{len(header)}: {', '.join(header)[:80]}. Put a text that holds {separator!r} or a line end between double quotes."
                )
            rows.append((number, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num} is not CSV ({error}). A quoted text must end with a quote, and a quote "
            "inside it be doubled."
        ) from None
    return rows


def _refuse_repeated(header: list[str], path: Path) -> None:
    repeated = sorted({column for column in header if header.count(column) > 1})
    if repeated:
        raise InputError(f"{path} has two columns called {repeated[0]!r}. Rename one of them.")
