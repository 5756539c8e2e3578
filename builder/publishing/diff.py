"""What differs between two published versions: rows by id, columns, splits.

Two files of a split are walked block by block, and blocks that are equal in Arrow are passed over; so are files with the same hash. What
is left is compared row by row: with the row of the same id in the same block, or, since rows may have moved, with the one that comes up
later. Of a row that waits for its fellow only hashes are kept, so that a million differing rows fit in memory.
"""

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from tqdm import tqdm

from builder.errors import InputError
from builder.files import write_atomically
from builder.published import Version, checked_hash, config_types, read_version
from builder.publishing.blocks import KEYS, batches, side_by_side, unequal_parts
from builder.publishing.difference_text import change_notes, schema_sentences, step_reasons
from builder.publishing.versions import STEP_OF
from builder.schema import CONFIGS, PAIR_CONFIGS

Row = dict[str, Any]
# Who is held out: a change here makes another experiment of the same rows.
GROUP_COLUMNS = {**dict.fromkeys(PAIR_CONFIGS, "persona_group"), "personas": "group", "prompts": "pool"}
EXAMPLES = 3
LISTED_AT_A_TIME = 20_000
TWICE = "{folder} has the id {id} of {config} twice, so rows cannot be matched. Get the version again."


class Differing(NamedTuple):
    """A row that differs: where it was and is and its `row_hash` there (None where it is not), and the columns that differ."""

    what: str  # added, removed, changed, moved
    id: str
    split_before: str | None
    split_after: str | None
    hash_before: bytes | None
    hash_after: bytes | None
    columns: Sequence[str] = ()


class Digest(NamedTuple):
    """What is kept of a row whose fellow has not come up: its split, `row_hash`, and 4 bytes of a checksum for each column."""

    split: str
    hash: bytes
    cells: "array[int]"


Waiting = tuple[dict[str, Digest], dict[str, Digest]]  # {id: row}, before and after


@dataclass
class ConfigDifference:
    """One config in both versions. A row is added, removed, changed or moved; one that moved to another split may have changed as well.

    before, after: rows, None where the config is not there. schema: sentences on columns.
    counts: {kind: {split: rows}}; for `moved` the split is `train to support`. columns: {column: rows, changed or moved, in which it
    differs}. examples: {kind: the ids found first}.
    """

    config: str
    before: int | None
    after: int | None
    schema: list[str]
    splits_added: list[str]
    splits_removed: list[str]
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in STEP_OF})
    columns: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: "Differing") -> None:
        move = f"{row.split_before} to {row.split_after}"
        self.counts[row.what][move if row.what == "moved" else row.split_after or row.split_before or ""] += 1
        self.columns.update(row.columns)
        if self.count(row.what) <= EXAMPLES:
            self.examples.setdefault(row.what, []).append(row.id)

    def count(self, kind: str) -> int:
        return self.counts[kind].total()

    @property
    def unchanged(self) -> int:
        return (self.before or 0) - sum(self.count(kind) for kind in STEP_OF if kind != "added")

    @property
    def group_column(self) -> str:
        return GROUP_COLUMNS.get(self.config, "")

    @property
    def regrouped(self) -> int:
        """Rows whose group (seen, unseen) or pool differs."""
        return self.columns[self.group_column]


@dataclass(frozen=True)
class Difference:
    """step: the largest that `reasons` (see step_reasons) ask for: none, patch, minor or major. notes: see change_notes."""

    step: str
    reasons: list[tuple[str, str]]
    configs: list[ConfigDifference]
    before: Version
    after: Version
    notes: list[str]


def diff_versions(
    before: Path, after: Path, after_build: dict[str, Any] | None = None, out: Path | None = None
) -> Difference:
    """Both are published folders; `after_build` stands for the build.json that `after` has not got yet.

    out: a Parquet file for every row that differs (see DifferingRows).

    Raises InputError for a folder that is no published version, for a file that is absent, damaged, without the columns of its ids or
    with another number of rows than build.json says, and for an id that is found twice among the rows that do not stand alike in both
    (that ids are unique in a version is proved when it is published).
    """
    old, new = read_version(before), read_version(after, after_build)
    configs: list[ConfigDifference] = []

    def compare(place: Path | None) -> None:
        with DifferingRows(place) as listed:
            for config in CONFIGS:
                if config in old.build["configs"] or config in new.build["configs"]:
                    configs.append(compare_config(old, new, config, listed))

    if out is None:
        compare(None)
    else:
        write_atomically(out, compare)
    reasons = step_reasons(old, new, configs)
    return Difference(reasons[0][0] if reasons else "none", reasons, configs, old, new, change_notes(old, new))


def refuse_unwritable(out: Path) -> None:
    """Raises InputError where no file can be written, so that long work does not end without a place for its result."""
    if out.is_dir():
        raise InputError(f"--out {out} is a folder. Give a file, as {out / 'diff.parquet'}.")
    there = next(parent for parent in out.absolute().parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"--out {out}: {there} is a file, not a folder. Give a file in a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: {there} cannot be written. Give a file in a folder where you may write.")


# One config ----------------------------------------------------------------------------------------------------------------------------


def compare_config(old: Version, new: Version, config: str, listed: "DifferingRows") -> ConfigDifference:
    before, after = old.splits(config), new.splits(config)
    types = [config_types(files) for files in (before, after)]
    both = bool(before and after)
    compared = [name for name in types[0] if types[1].get(name) == types[0][name]] if both else [*types[0], *types[1]]
    found = ConfigDifference(
        config,
        old.rows(config),
        new.rows(config),
        schema_sentences(*types) if both else [],
        [split for split in after if both and split not in before],
        [split for split in before if both and split not in after],
    )
    hashes = [{split: checked_hash(side, config, split) for split in side.splits(config)} for side in (old, new)]
    splits = [split for split in dict.fromkeys((*before, *after)) if hashes[0].get(split) != hashes[1].get(split)]
    if both:
        rows = differing_rows(old, new, config, splits, compared, listed.wanted)
    else:
        rows = one_sided_rows(old, new, config, compared, listed.wanted)
    for row in rows:
        found.add(row)
        listed.add(config, row)
    return found


def differing_rows(
    old: Version, new: Version, config: str, splits: Sequence[str], columns: Sequence[str], hashed: bool
) -> Iterator[Differing]:
    """The rows of these splits that differ in these columns or in their split. hashed: give the hashes of changed rows as well."""
    waiting: Waiting = ({}, {})
    files = [side.splits(config) for side in (old, new)]
    entries = [side.build["configs"][config].get(split) for side in (old, new) for split in splits]
    total = sum(entry["rows"] for entry in entries if entry is not None)
    with tqdm(total=total, desc=f"diff {config}", unit="row", leave=False, disable=None) as progress:
        for split in splits:
            for blocks in side_by_side(files[0].get(split), files[1].get(split), config, columns):
                for part in unequal_parts(*blocks, KEYS[config]):
                    before, after = by_id(part[0], old, config), by_id(part[1], new, config)
                    yield from changed_in_place(before, after, split, columns, hashed)
                    for side, rows, others in ((0, before, after), (1, after, before)):
                        alone = {row_id: row for row_id, row in rows.items() if row_id not in others}
                        yield from matched(waiting, side, split, alone, columns, (old, new)[side], config)
                progress.update(sum(rows.num_rows for rows in blocks if rows is not None))
    # Who still waits has no fellow.
    yield from (Differing("removed", row_id, row.split, None, row.hash, None) for row_id, row in waiting[0].items())
    yield from (Differing("added", row_id, None, row.split, None, row.hash) for row_id, row in waiting[1].items())


def one_sided_rows(
    old: Version, new: Version, config: str, columns: Sequence[str], hashed: bool
) -> Iterator[Differing]:
    """Only one version has rows of the config. None of them waits for a fellow, so nothing is kept."""
    for version, kind in ((old, "removed"), (new, "added")):
        for split, path in version.splits(config).items():
            for rows in batches(path, config, columns):
                for row_id, row in by_id(rows, version, config).items():
                    own = row_hash(row) if hashed else None
                    if kind == "removed":
                        yield Differing(kind, row_id, split, None, own, None)
                    else:
                        yield Differing(kind, row_id, None, split, None, own)


# Rows ----------------------------------------------------------------------------------------------------------------------------------


def by_id(rows: Any, version: Version, config: str) -> dict[str, Row]:
    """{id: row}; an id of several columns has ` | ` between them."""
    found: dict[str, Row] = {}
    for row in [] if rows is None else rows.to_pylist():
        parts = [row[key] for key in KEYS[config]]
        if None in parts:
            raise InputError(
                f"{version.folder} has a row of {config} without an id ({', '.join(KEYS[config])}). Get the version again."
            )
        row_id = " | ".join(parts)
        if row_id in found:
            raise InputError(TWICE.format(folder=version.folder, id=row_id, config=config))
        found[row_id] = row
    return found


def row_hash(row: Row) -> bytes:
    """SHA-256 of the row as JSON (`as_json`)."""
    return hashlib.sha256(as_json(row).encode()).digest()


def as_json(value: Any) -> str:
    """Keys sorted, no spaces, UTF-8; NaN is like NaN, and -0.0 is written 0.0, to which it is equal."""
    return json.dumps(without_minus_zero(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def without_minus_zero(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_minus_zero(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_minus_zero(part) for part in value]
    return value + 0.0 if isinstance(value, float) else value


def changed_in_place(
    before: dict[str, Row], after: dict[str, Row], split: str, columns: Sequence[str], hashed: bool
) -> Iterator[Differing]:
    for row_id, old in before.items():
        if row_id in after:
            new = after[row_id]
            differing = [
                name for name in columns if old[name] != new[name] and as_json(old[name]) != as_json(new[name])
            ]
            if differing:
                old_hash, new_hash = (row_hash(old), row_hash(new)) if hashed else (None, None)
                yield Differing("changed", row_id, split, split, old_hash, new_hash, differing)


def matched(
    waiting: Waiting, side: int, split: str, rows: dict[str, Row], columns: Sequence[str], version: Version, config: str
) -> Iterator[Differing]:
    """Each row of one side (0 before, 1 after) meets its fellow, if that waits already, or waits for it itself."""
    for row_id, content in rows.items():
        if row_id in waiting[side]:
            raise InputError(TWICE.format(folder=version.folder, id=row_id, config=config))
        # The checksums only say in which columns two rows differ; whether they do, the hash says.
        cells = array("I", (crc32(as_json(content[name]).encode()) for name in columns))
        row = Digest(split, row_hash(content), cells)
        fellow = waiting[1 - side].pop(row_id, None)
        if fellow is None:
            waiting[side][row_id] = row
            continue
        old, new = (fellow, row) if side else (row, fellow)
        if old.split != new.split or old.hash != new.hash:
            kind = "changed" if old.split == new.split else "moved"
            differing = [name for name, a, b in zip(columns, old.cells, new.cells, strict=True) if a != b]
            yield Differing(kind, row_id, old.split, new.split, old.hash, new.hash, differing)


class DifferingRows:
    """A Parquet file with every row that differs, by config and in the order in which they are found; nothing where `path` is None.

    config, split (where it is now, or was if it is gone), id, what (added, removed, changed, moved), hash_before, hash_after: `row_hash`
    in hex of the columns that both versions have (of all where only one has the config), null where the row is not there.
    """

    COLUMNS = ("config", "split", "id", "what", "hash_before", "hash_after")

    def __init__(self, path: Path | None):
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        self.schema = arrow.schema([(name, arrow.string()) for name in self.COLUMNS])
        self.writer: Any = None if path is None else parquet.ParquetWriter(path, self.schema, compression="zstd")
        self.rows: list[tuple[str | None, ...]] = []

    @property
    def wanted(self) -> bool:
        return self.writer is not None

    def add(self, config: str, row: Differing) -> None:
        if self.writer is not None:
            hashes = (None if own is None else own.hex() for own in (row.hash_before, row.hash_after))
            self.rows.append((config, row.split_after or row.split_before, row.id, row.what, *hashes))
            if len(self.rows) == LISTED_AT_A_TIME:
                self._write()

    def _write(self) -> None:
        import pyarrow as arrow

        columns = zip(*self.rows, strict=True)
        self.writer.write_table(arrow.table([arrow.array(c, arrow.string()) for c in columns], schema=self.schema))
        self.rows = []

    def __enter__(self) -> "DifferingRows":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            if self.rows:
                self._write()
            self.writer.close()
