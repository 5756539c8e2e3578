"""Where the questions come from: the packaged ones, a file (PRISM's as it is, any JSONL or CSV) or a dataset of the Hugging Face Hub."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from builder.prompts import hub_table
from builder.prompts.rows import Row, decode, file_rows, read_bytes, text_of

PACKAGED = Path(__file__).parent / "questions.jsonl"
# A row with PRISM's column is read as PRISM's, with its id and licence.
PRISM_COLUMN = "opening_prompt"
KNOWN_COLUMNS = ("question", PRISM_COLUMN)
NAME_THE_COLUMN = "Name the column that holds the question: prompts.text_column=NAME."


@dataclass(frozen=True)
class SourcePrompt:
    """One question as the source has it, white space at the ends removed."""

    line: int  # 1-based line of the file (row of a CSV or Hub table); the published prompt id is made of it
    question: str
    topic: str | None
    source: str
    source_id: str  # the source's own id, or its line number
    licence: str


@dataclass(frozen=True)
class PromptSource:
    name: str  # `packaged`, the file's name without its folder, or hub:org/name
    identity: dict[str, str]  # sha256 of a file's bytes; revision, commit, config and split of a Hub dataset
    prompts: list[SourcePrompt]
    unusable: list[int]  # lines that hold no question as text


def read_prompts(source: str, text_column: str | None = None) -> PromptSource:
    """Read `packaged`, a file, or `hub:org/name@revision` with `:config/split` where the dataset has several.

    A question is the text in `text_column`, else in `question`, or in PRISM's `opening_prompt`. Raises InputError for what cannot be
    read, saying where, for a column that is not there, naming those that are, and for a source without any question. A row that
    holds no question is noted in `unusable` and does not stop the reading.
    """
    if hub_table.is_hub(source):
        table = hub_table.read_hub(source)
        name, identity, rows, licence = table.name, table.identity, table.rows, table.licence
    else:
        path = PACKAGED if source == "packaged" else Path(source)
        content = read_bytes(path)
        rows = file_rows(decode(content, path), path)
        name, licence = ("packaged" if source == "packaged" else path.name), None
        identity = {"sha256": hashlib.sha256(content).hexdigest()}
    where = name if hub_table.is_hub(source) or source == "packaged" else str(Path(source))
    _refuse_absent_column(rows, text_column, where)
    prompts: list[SourcePrompt] = []
    unusable: list[int] = []
    for number, row in rows:
        prompt = _prompt(row, number, text_column, name if hub_table.is_hub(source) else path.name, licence)
        if prompt is None:
            unusable.append(number)
        else:
            prompts.append(prompt)
    if not prompts:
        found = f"{len(unusable)} lines, none" if unusable else "no line, so none"
        raise InputError(
            f"{where} has {found} with a question. {'' if not unusable else 'The column holds no text. '}Give a source with one text a row."
        )
    return PromptSource(name=name, identity=identity, prompts=prompts, unusable=unusable)


def hash_prompt_source(source: str) -> str | None:
    """What the source holds: None for `packaged`, the SHA-256 of a file, `hub:org/name@COMMIT` with config and split for the Hub.

    Raises InputError where the file or the commit cannot be found.
    """
    if source == "packaged":
        return None
    if hub_table.is_hub(source):
        return hub_table.pinned(source)
    return hashlib.sha256(read_bytes(Path(source))).hexdigest()


def _refuse_absent_column(rows: list[tuple[int, Row]], text_column: str | None, where: str) -> None:
    """Some rows may lack the column; all of them may not."""
    wanted = KNOWN_COLUMNS if text_column is None else (text_column,)
    if not rows or any(isinstance(row, dict) and any(column in row for column in wanted) for _, row in rows):
        return
    columns = sorted({str(column) for _, row in rows if isinstance(row, dict) for column in row})
    listed = ", ".join(repr(column[:40]) for column in columns[:12]) + (" ..." if len(columns) > 12 else "")
    raise InputError(
        f"{where} has {len(rows)} lines, none with a question: no column is called {' or '.join(wanted)}. "
        f"There are: {listed or 'no columns at all'}. {NAME_THE_COLUMN} If a CSV file begins with a question, put a line with "
        "the columns' names above it."
    )


def _prompt(row: Row, number: int, text_column: str | None, name: str, licence: str | None) -> SourcePrompt | None:
    """The question of one row, or None where there is none."""
    if not isinstance(row, dict):
        return None
    column = text_column or (PRISM_COLUMN if PRISM_COLUMN in row else "question")
    is_prism = column == PRISM_COLUMN
    question = text_of(row.get(column))
    if question is None:
        return None
    own_id = row.get("conversation_id" if is_prism else "id")
    own_id = str(own_id) if isinstance(own_id, int) else text_of(own_id)
    return SourcePrompt(
        line=number,
        question=question,
        topic=text_of(row.get("topic")),
        source="PRISM" if is_prism else text_of(row.get("source")) or name,
        source_id=own_id or str(number),
        licence="CC-BY-4.0" if is_prism else text_of(row.get("licence")) or licence or "unknown",
    )
