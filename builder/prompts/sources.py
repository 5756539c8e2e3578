"""Where the questions come from: the packaged ones, PRISM's file, or anybody's own, one JSON object a line."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError

PACKAGED = Path(__file__).parent / "questions.jsonl"
LAYOUTS = (
    'One JSON object a line: {"question": "..."} with optional id, topic, source and licence, '
    'or PRISM\'s {"conversation_id": "...", "opening_prompt": "..."} with optional topic.'
)


@dataclass(frozen=True)
class SourcePrompt:
    """One question as the source has it, white space at the ends removed."""

    line: int  # 1-based line of the file; the published prompt id is made of it
    question: str
    topic: str | None
    source: str
    source_id: str  # the source's own id, or its line number
    licence: str


@dataclass(frozen=True)
class PromptSource:
    name: str  # `packaged` or the file's name without its folder
    sha256: str  # of the file's bytes
    prompts: list[SourcePrompt]
    unusable: list[int]  # lines that are JSON but hold no question as text


def read_prompts(source: str) -> PromptSource:
    """Read `packaged` or a JSONL file in one of the two layouts (which may be mixed).

    Raises InputError for a missing file, a folder, text that is not UTF-8, a line that is not JSON (naming it) and a
    file without any question. A line that is JSON but holds no question is noted in `unusable` and does not stop the
    reading.
    """
    path = PACKAGED if source == "packaged" else Path(source)
    content = _read_bytes(path)
    prompts: list[SourcePrompt] = []
    unusable: list[int] = []
    # Split at line feeds only: str.splitlines would also split at separators such as U+2028, which JSON text may
    # contain as they are.
    for number, line in enumerate(_decode(content, path).split("\n"), start=1):
        if not line.strip():
            continue
        prompt = _prompt(_parse(line, number, path), number, path)
        if prompt is None:
            unusable.append(number)
        else:
            prompts.append(prompt)
    if not prompts:
        lines = f"{len(unusable)} lines, none" if unusable else "no line, so none"
        raise InputError(f"{path} has {lines} with a question. {LAYOUTS}")
    name = "packaged" if source == "packaged" else path.name
    return PromptSource(name=name, sha256=hashlib.sha256(content).hexdigest(), prompts=prompts, unusable=unusable)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(
            f"{path} is a folder, but prompts are read from one file. Name the JSONL file in it. {LAYOUTS}"
        )
    if not path.exists():
        raise InputError(
            f"Prompt file {path} does not exist. Give the path of a JSONL file, or `packaged` for this project's own "
            f"questions. {LAYOUTS}"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the file and its permissions.") from None


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}, line {line}. "
            "Save it as UTF-8; if it is compressed or Parquet, write it out as JSONL first."
        ) from None


def _parse(line: str, number: int, path: Path) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long or nesting too deep"
        start = line.strip()[:40]
        raise InputError(f"{path}, line {number} is not JSON ({reason}): it starts with {start!r}. {LAYOUTS}") from None


def _prompt(row: Any, number: int, path: Path) -> SourcePrompt | None:
    """The question of one parsed line, or None where there is none."""
    if not isinstance(row, dict):
        return None
    is_prism = "opening_prompt" in row
    question = _text(row.get("opening_prompt" if is_prism else "question"))
    if question is None:
        return None
    own_id = row.get("conversation_id" if is_prism else "id")
    own_id = str(own_id) if isinstance(own_id, int) else _text(own_id)
    return SourcePrompt(
        line=number,
        question=question,
        topic=_text(row.get("topic")),
        source="PRISM" if is_prism else _text(row.get("source")) or path.name,
        source_id=own_id or str(number),
        licence="CC-BY-4.0" if is_prism else _text(row.get("licence")) or "unknown",
    )


def _text(value: Any) -> str | None:
    """The value stripped; None if it is no text, blank, or cannot be written as UTF-8 (half a surrogate pair)."""
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value.strip()
