"""Every file of a folder searched for what must not leave: texts at any depth, names, metadata.

Published text is some hundred megabytes, so Parquet is searched by RE2 over Arrow arrays, all patterns in one pass, a few thousand rows
at a time; only a text that it finds is looked at in Python. (detect-secrets reads line by line in Python with some thirty detectors:
hours for such sizes, and it knows neither census keys nor this machine.)
"""

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.private_text import CENSUS_KEY, Kind, combined_pattern, kinds_in, masked

ROWS_AT_A_TIME = 2048
ENOUGH = 100  # rows of a column with the same kind: as many more tell nobody anything
ROW_IDS = ("pair_id", "persona_id", "prompt_id", "key")
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_WITHOUT_TEXT = (b"IHDR", b"IDAT", b"PLTE", b"IEND", b"tRNS", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"bKGD")


@dataclass(frozen=True)
class Finding:
    """what: the kind's name. group: as in `Kind`, or `file` for one that cannot be read. place: in the file; "" for its name. rows: of a
    table that have it there, 0 where it stands in no row."""

    what: str
    group: str
    file: str
    place: str
    rows: int = 0

    def __str__(self) -> str:
        more = f" and {'at least ' if self.rows >= ENOUGH else ''}{self.rows - 1} more" if self.rows > 1 else ""
        return f"{self.what} in {self.file}{', ' if self.place else ''}{self.place}{more}"


def scan_folder(folder: Path, kinds: Sequence[Kind]) -> list[Finding]:
    """Everything found, by file. A column's rows with the same kind are one finding that names the first of them."""
    found: dict[tuple[str, str, str], Finding] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        shown = masked(name, kinds)
        for kind in kinds_in(name, kinds):
            _note(found, Finding(kind.name, kind.group, shown, "its name"))
        if path.suffix == ".parquet":
            for finding in _scan_parquet(path, shown, kinds):
                _note(found, finding)
            continue
        for place, text, is_key in _texts(path):
            for what, group in _hits(text, is_key, "field", kinds):
                _note(found, Finding(what, group, shown, masked(place, kinds)))
    return list(found.values())


def _note(found: dict[tuple[str, str, str], Finding], finding: Finding) -> None:
    # Several of this machine's places lie in one another; one of them says enough.
    what = finding.group if finding.group == "path" else finding.what
    found.setdefault((finding.file, finding.place, what), finding)


def _hits(text: str, is_key: bool, called: str, kinds: Sequence[Kind]) -> Iterator[tuple[str, str]]:
    """(what, group) of everything that the text, or the name of a column or field, is or holds."""
    if is_key and CENSUS_KEY.fullmatch(text):
        yield f"a {called} called {text}", "census"
    yield from ((kind.name, kind.group) for kind in kinds_in(text, kinds))


def _texts(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(place, text, whether it is a key) of a JSON file, a PNG, or anything else by line."""
    content = path.read_bytes()
    if content.startswith(PNG_START):
        for place, text in _png_texts(content):
            yield place, text, False
        return
    text = content.decode("utf-8", errors="replace")
    if path.suffix == ".json":
        try:
            yield from _json_texts(json.loads(text), "")
            return
        except (ValueError, RecursionError):
            pass  # read by line, as any other text
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"line {number}", line, False


def _json_texts(value: Any, place: str) -> Iterator[tuple[str, str, bool]]:
    """Keys and texts, unescaped: a path of Windows has its backslashes doubled in the file."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{place}.{key}" if place else key
            yield below, key, True
            yield from _json_texts(inner, below)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _json_texts(inner, f"{place}[{index}]")
    elif isinstance(value, str):
        yield place, value, False


def _png_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """All chunks but the picture's own: tEXt, zTXt, iTXt, eXIf and what others may add, and what stands behind the end.

    Layout after the PNG specification (W3C, third edition, chapters 5 and 11.3.3): length, type, data, checksum.
    """
    position = len(PNG_START)
    while position + 8 <= len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind = content[position + 4 : position + 8]
        data = content[position + 8 : position + 8 + length]
        position += length + 12
        if kind not in PNG_WITHOUT_TEXT:
            keyword, _, rest = data.partition(b"\0")
            texts = [data]
            if kind in (b"zTXt", b"iTXt"):
                # Compressed data begins behind the method (zTXt), or behind flag, method, language and translated keyword (iTXt).
                texts.append(_inflated(rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]))
            called = keyword.decode("latin-1") if kind[1:] == b"EXt" or kind.endswith(b"TXt") else ""
            for text in texts:
                # A null character would hide where a word begins.
                yield (
                    f"chunk {kind.decode('latin-1')} {called}".strip(),
                    text.decode("utf-8", "replace").replace("\0", "\n"),
                )
        if kind == b"IEND":
            break
    if content[position:]:
        yield "behind the picture", content[position:].decode("utf-8", "replace").replace("\0", "\n")


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return b""  # not compressed: the chunk as it stands is searched


def _scan_parquet(path: Path, shown: str, kinds: Sequence[Kind]) -> list[Finding]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    found: list[Finding] = []
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for place, text, is_name in _schema_texts(file):
                for what, group in _hits(text, is_name, "column", kinds):
                    found.append(Finding(what, group, shown, masked(place, kinds)))
            written = [kind for kind in kinds if kind.in_texts]
            for (column, _), (kind, row, rows) in _scan_rows(file, written).items():
                place = f"column {masked(column, kinds)}, {masked(row, kinds)}"
                found.append(Finding(kind.name, kind.group, shown, place, rows))
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError, UnicodeDecodeError):
        found.append(Finding("a file that cannot be read as Parquet", "file", shown, ""))
    return found


def _schema_texts(file: Any) -> Iterator[tuple[str, str, bool]]:
    """(place, text, whether it is a name) of columns at any depth, their metadata, the file's, and the writer's name."""
    yield "the writer's name", file.metadata.created_by or "", False
    # ARROW:schema is the schema in another encoding; what it holds is read from the schema itself.
    of_file = {**(file.metadata.metadata or {}), **(file.schema_arrow.metadata or {})}
    yield from _metadata_texts("metadata", {key: value for key, value in of_file.items() if key != b"ARROW:schema"})
    waiting = [(field.name, field) for field in file.schema_arrow]
    while waiting:
        name, field = waiting.pop()
        yield f"column {name}", field.name, True
        yield from _metadata_texts(f"metadata of column {name}", field.metadata or {})
        waiting += [(f"{name}.{inner.name}", inner) for inner in _inner_fields(field.type)]


def _metadata_texts(place: str, metadata: dict[bytes, bytes]) -> Iterator[tuple[str, str, bool]]:
    for key, value in metadata.items():
        name, text = key.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        yield f"{place} {name}", name, True
        yield f"{place} {name}", text, False
        with contextlib.suppress(ValueError, RecursionError):
            # What pandas and datasets leave there is JSON.
            yield from ((f"{place} {name}", inner, is_key) for _, inner, is_key in _json_texts(json.loads(text), ""))


def _inner_fields(kind: Any) -> list[Any]:
    import pyarrow as arrow

    if arrow.types.is_map(kind):
        return [kind.key_field, kind.item_field]
    if arrow.types.is_struct(kind):
        return list(kind)
    return [kind.value_field] if hasattr(kind, "value_field") else []


def _scan_rows(file: Any, kinds: Sequence[Kind]) -> dict[tuple[str, str], tuple[Kind, str, int]]:
    """(column, what) -> (the kind, the first row, number of rows, of which ENOUGH are counted)."""
    import pyarrow.compute as compute

    pattern = combined_pattern(kinds)
    found: dict[tuple[str, str], tuple[Kind, str, int]] = {}
    done: set[str] = set()
    before = 0
    for batch in file.iter_batches(ROWS_AT_A_TIME, use_threads=False):
        for name in batch.schema.names:
            for column, texts, rows in _leaves(batch.column(name), name, None):
                if column in done:
                    continue
                for hit in compute.indices_nonzero(compute.match_substring_regex(texts, pattern)).to_pylist():
                    text = texts[hit].as_py()
                    for kind in kinds_in(text.decode("utf-8", "replace") if isinstance(text, bytes) else text, kinds):
                        what = kind.group if kind.group == "path" else kind.name
                        number = hit if rows is None else rows[hit].as_py()
                        first = (kind, _row_name(batch, number, before), 0)
                        known, row, count = found.get((column, what)) or first
                        found[column, what] = (known, row, count + 1)
                        if count + 1 == ENOUGH:
                            done.add(column)
                    if column in done:
                        break
        before += batch.num_rows
    return found


def _leaves(array: Any, column: str, rows: Any) -> Iterator[tuple[str, Any, Any]]:
    """(column path, texts, row of each text or None where they are the rows) of an array and everything nested in it."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    kind = array.type
    if arrow.types.is_dictionary(kind):
        yield from _leaves(array.dictionary_decode(), column, rows)
    elif arrow.types.is_fixed_size_binary(kind):
        yield column, array.cast(arrow.binary()), rows
    elif any(
        test(kind)
        for test in (
            arrow.types.is_string,
            arrow.types.is_large_string,
            arrow.types.is_binary,
            arrow.types.is_large_binary,
        )
    ):
        yield column, array, rows
    elif arrow.types.is_map(kind):
        yield from _leaves(array.cast(arrow.list_(arrow.struct([kind.key_field, kind.item_field]))), column, rows)
    elif arrow.types.is_list(kind) or arrow.types.is_large_list(kind) or arrow.types.is_fixed_size_list(kind):
        parents = compute.list_parent_indices(array)
        yield from _leaves(array.flatten(), column, parents if rows is None else rows.take(parents))
    elif arrow.types.is_struct(kind):
        for field, inner in zip(kind, array.flatten(), strict=True):
            yield from _leaves(inner, f"{column}.{field.name}", rows)
    elif arrow.types.is_string_view(kind) or arrow.types.is_binary_view(kind):
        yield column, array.cast(arrow.large_binary()), rows


def _row_name(batch: Any, number: int, before: int) -> str:
    for name in ROW_IDS:
        if name in batch.schema.names:
            value = batch.column(name)[number].as_py()
            return f"row {value.hex() if isinstance(value, bytes) else value}"
    return f"row {before + number}"
