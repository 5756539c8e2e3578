"""Recorded responses as one Parquet file that others can build from: `persona responses export` and `import`.

The file holds every reply with its key and a short description, sorted by key, so that equal records give equal bytes in whatever order
their replies arrived. It holds nothing of the machine or the run: no address, no path, no time.
"""

import heapq
import itertools
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from builder.errors import InputError
from builder.files import locked, make_folder, write_atomically
from builder.llm.record import KEY_BYTES, KEY_VERSION, RECORDED_FAILURES, TABLES, Record, decode_reply

RECORD_NAME = "responses.sqlite"
FORMAT = 1  # of the file; raise when its columns change
ROWS_AT_A_TIME = 4096
_METADATA = {
    b"persona.responses.format": str(FORMAT).encode(),
    b"persona.responses.key_version": str(KEY_VERSION).encode(),
}
_SCHEMA = arrow.schema(
    [
        arrow.field("key", arrow.binary(KEY_BYTES), nullable=False),
        *(
            arrow.field(name, arrow.string(), nullable=False)
            for name in ("kind", "role", "template", "sampling", "seed")
        ),
        *(
            arrow.field(name, arrow.int64(), nullable=False)
            for name in ("sample_index", "attempt", "prompt_characters", "prompt_tokens", "completion_tokens")
        ),
        arrow.field("text", arrow.string(), nullable=False),
        arrow.field("log_probabilities", arrow.list_(arrow.float64())),  # null unless kind is `scores`
        arrow.field("reason", arrow.string(), nullable=False),
        arrow.field("detail", arrow.string(), nullable=False),
    ],
    metadata=_METADATA,
)
KINDS = ("answer", "scores", "failure")


def export_responses(run: Path, file: Path) -> dict[str, int]:
    """Write all replies of RUN/responses.sqlite to `file`; returns {answers, failed_attempts}.

    Raises InputError if the folder has no record or the file cannot be written.
    """
    source = run / RECORD_NAME
    if not source.is_file():
        raise InputError(f"{run} has no {RECORD_NAME}, so there is nothing to export. Give the folder of a build.")
    if file.is_dir():
        raise InputError(
            f"{file} is a folder. Give the name of the Parquet file to write, such as {file / 'responses.parquet'}."
        )
    make_folder(file.parent)
    counts = dict.fromkeys(TABLES, 0)

    def write(temporary: Path) -> None:
        with parquet.ParquetWriter(temporary, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
            rows = _exported(record)
            while batch := list(itertools.islice(rows, ROWS_AT_A_TIME)):
                writer.write_table(arrow.Table.from_pylist(batch, schema=_SCHEMA), row_group_size=ROWS_AT_A_TIME)
                failed = sum(row["kind"] == "failure" for row in batch)
                counts["answers"] += len(batch) - failed
                counts["failed_attempts"] += failed

    with closing(Record(source, read_only=True)) as record:
        write_atomically(file, write)
    return counts


def import_responses(file: Path, run: Path) -> dict[str, int]:
    """Add the replies of an exported file to RUN/responses.sqlite; returns {imported, already_there, conflicting}.

    A reply that the record has stays as it is: `conflicting` counts those that differ from the file's. All or nothing is added.

    Raises InputError, before anything is changed, if the file is not whole or not an export of this version.
    """
    for _ in _checked_batches(file):
        pass
    counts = {"imported": 0, "already_there": 0, "conflicting": 0}
    with locked(run, "build"), closing(Record(run / RECORD_NAME)) as record, record.writing():
        for batch in _checked_batches(file):
            rows = batch.to_pylist()
            for table in TABLES:
                _add(record, table, [row for row in rows if (row["kind"] == "failure") == (table == TABLES[1])], counts)
    return counts


def _exported(record: Record) -> Iterator[dict[str, Any]]:
    """All rows by key; of a key with both, the answer before the failed attempt."""
    names = (
        *(
            "key",
            "role",
            "template",
            "sampling",
            "seed",
            "sample_index",
            "attempt",
            "prompt_characters",
            "prompt_tokens",
        ),
        *("completion_tokens", "reply", "reason", "detail"),
    )
    cursors = []
    for table in TABLES:
        columns = ", ".join(names if table == "failed_attempts" else (*names[:-2], "'' AS reason", "'' AS detail"))
        # CROSS JOIN keeps SQLite to this order, so that it follows the index and sorts nothing.
        cursors.append(
            record.read(f"SELECT {columns} FROM {table} CROSS JOIN origins ON origins.id = origin ORDER BY key")
        )
    for values in heapq.merge(*cursors, key=lambda values: values[0]):
        row = dict(zip(names, values, strict=True))
        reply = row.pop("reply")
        scores = struct.unpack(f"<{len(reply) // 8}d", reply) if isinstance(reply, bytes) else None
        kind = "scores" if scores is not None else "failure" if row["reason"] else "answer"
        yield {**row, "kind": kind, "text": "" if scores is not None else reply, "log_probabilities": scores}


def _add(record: Record, table: str, rows: list[dict[str, Any]], counts: dict[str, int]) -> None:
    there = record.find_kind(table, [row["key"].hex() for row in rows])
    new = []
    for row in rows:
        content: Any = row["text"]
        if row["kind"] == "scores":
            content = struct.pack(f"<{len(row['log_probabilities'])}d", *row["log_probabilities"])
        failed = (row["reason"], row["detail"]) if row["kind"] == "failure" else ()
        known = there.get(row["key"].hex())
        if known is not None:
            same = known == decode_reply(content, row["prompt_tokens"], row["completion_tokens"], 0.0, *failed)
            counts["already_there" if same else "conflicting"] += 1
            continue
        kind = "score" if row["kind"] == "scores" else "chat"
        origin = record.origin_id(kind, row["template"], row["sampling"], row["seed"], row["role"], "", "")
        numbers = (
            row[n] for n in ("sample_index", "attempt", "prompt_characters", "prompt_tokens", "completion_tokens")
        )
        new.append((row["key"], origin, *numbers, 0.0, content, *failed))
    record.put(table, new)
    counts["imported"] += len(new)


def _checked_batches(file: Path) -> Iterator[Any]:
    """The file's record batches, some thousand rows each, of which each one is right in itself and stands in its place."""
    if not file.is_file():
        raise InputError(f"{file} does not exist. Give a file that `persona responses export` wrote.")
    last = (b"", "")
    try:
        with parquet.ParquetFile(file, page_checksum_verification=True) as opened:
            _check_schema(file, opened.schema_arrow)
            for batch in opened.iter_batches(ROWS_AT_A_TIME):
                batch.validate(full=True)
                last = _check_rows(file, batch, last)
                yield batch
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as Parquet ({str(error).splitlines()[0]}): it is damaged, cut short, or another kind of file. "
            "Nothing was changed; export or download it again."
        ) from None


def _check_schema(file: Path, schema: Any) -> None:
    metadata = schema.metadata or {}
    if not _METADATA.keys() <= metadata.keys():
        raise InputError(
            f"{file} is Parquet, but no export of responses. Give a file that `persona responses export` wrote."
        )
    differing = [
        f"{name.decode().split('.')[-1]} {metadata[name].decode()}, not {said.decode()}"
        for name, said in _METADATA.items()
        if metadata[name] != said
    ]
    if differing:
        raise InputError(
            f"{file} was exported by another version ({'; '.join(differing)}), whose keys or columns this one does not read. Nothing was "
            "changed; import it with the version that wrote it, or export it anew."
        )
    if not schema.equals(_SCHEMA, check_metadata=False):
        raise InputError(
            f"{file} does not have the columns of an export of responses. Nothing was changed; export it again."
        )


def _check_rows(file: Path, batch: Any, last: tuple[bytes, str]) -> tuple[bytes, str]:
    """The last (key, kind) of the batch. Raises InputError for rows that no export writes."""
    columns = {name: batch.column(name) for name in _SCHEMA.names}
    scores = columns.pop("log_probabilities")
    fault = next((f"{name} is missing" for name, column in columns.items() if column.null_count), None)
    if fault is None and scores.flatten().null_count:
        fault = "a log-probability is missing"
    if fault is None:
        for key, kind, reason, is_scores in zip(
            *(columns[name].to_pylist() for name in ("key", "kind", "reason")),
            scores.is_valid().to_pylist(),
            strict=True,
        ):
            # `answer` and `scores` stand in one table: a key has one of them, and perhaps a failed attempt after it.
            place = (key, "failed" if kind == "failure" else "answered")
            if kind not in KINDS or is_scores != (kind == "scores"):
                fault = f"a reply is of kind {kind!r}, which does not go with its content"
            elif (reason in RECORDED_FAILURES) != (kind == "failure") or (reason and kind != "failure"):
                fault = f"a reply of kind {kind!r} has the reason {reason!r}"
            elif place <= last:
                fault = "its replies are not sorted by key, or one stands there twice"
            last = place
    if fault is None and any(
        value < 0 for name in ("prompt_tokens", "completion_tokens") for value in columns[name].to_pylist()
    ):
        fault = "a number of tokens is negative"
    if fault:
        raise InputError(
            f"{file} is not as an export writes it: {fault}. Nothing was changed; export or download it again."
        )
    return last
