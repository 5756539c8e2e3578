"""Which pairs are evaluated: the two test splits of a published dataset, as one list of rows, and the profiles that go
with them.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import read_json
from builder.randomness import seed_for

EVALUATED_CONFIGS = ("dpf", "contrast")
EVALUATED_SPLITS = ("seen_test", "heldout_test")
BATCH = 1000  # rows read at a time: one at a time costs several times as much


@dataclass(frozen=True)
class EvaluatedRow:
    """One preference pair with what the metrics group it by."""

    config: str
    split: str
    persona_group: str
    pair_id: str
    persona_id: str
    cluster: tuple[str, ...]  # the personas that are resampled: the row's own; on `contrast` both, in sorted order
    mirror_pair_id: str | None  # `contrast` only
    flip: bool | None  # `contrast` only: does the judge prefer each persona's own revision under that persona?
    second_flip: bool | None  # the same by another judge, which selected nothing; None where there is none
    judge_verdict: str  # `chosen`, `rejected`, `tie` or `unscored`
    published: dict[str, Any]  # the row as published

    @property
    def cell(self) -> str:
        """One of the four generalisation cells, for example `unseen/heldout_test`."""
        return f"{self.persona_group}/{self.split}"

    @property
    def chosen(self) -> str | None:
        return _text(self.published.get("chosen"))

    @property
    def rejected(self) -> str | None:
        return _text(self.published.get("rejected"))

    @property
    def prompt_id(self) -> str:
        return str(self.published["prompt_id"])

    @property
    def question(self) -> str:
        return self.published["prompt"][-1]["content"]


def load_rows(folder: Path, limit: int | None = None) -> list[EvaluatedRow]:
    """The rows of `seen_test` and `heldout_test`, of every evaluated config that the folder has.

    With a `limit`, at most that many rows of each (config, split) are taken, drawn by a hash of the pair so that the
    same rows come back every time; a contrast pair and its mirror are taken or left together.

    Raises InputError where the folder is no published dataset or holds no row to evaluate.
    """
    if limit is not None and limit < 2:
        raise InputError(f"The row limit is {limit}; a contrast pair and its mirror need at least 2. Raise or omit it.")
    present = config_names(folder)
    rows: list[EvaluatedRow] = []
    for config in EVALUATED_CONFIGS:
        if config not in present:
            continue
        splits = load_config(folder, config)
        for split in EVALUATED_SPLITS:
            if split in splits:
                rows += [evaluated_row(config, split, row) for row in read_rows(_limited(splits[split], limit))]
    if not rows:
        raise InputError(
            f"{folder} holds no row in {' or '.join(EVALUATED_SPLITS)} of {' or '.join(EVALUATED_CONFIGS)} "
            f"(configs found: {', '.join(present) or 'none'}). Build with pairs.seen_test or pairs.heldout_test above 0."
        )
    identifiers = {row.pair_id for row in rows}
    if len(identifiers) != len(rows):
        raise InputError(
            f"{folder}: {len(rows) - len(identifiers)} pair ids occur twice in the test splits. Build it again."
        )
    return rows


def load_profiles(folder: Path) -> dict[str, str]:
    """Persona id -> profile, of the `personas` config (all its splits)."""
    profiles: dict[str, str] = {}
    for table in load_config(folder, "personas").values():
        profiles |= dict(zip(table["persona_id"], table["profile"], strict=True))
    return profiles


def config_names(folder: Path) -> list[str]:
    """The configs of a published folder. Raises InputError where there is no such folder or it is no dataset."""
    from datasets import get_dataset_config_names

    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder. Give the folder of a published dataset (README.md, dpf/, personas/)."
        )
    try:
        return get_dataset_config_names(str(folder))
    except Exception as error:  # the loader raises many kinds; each means that the folder cannot be read
        raise InputError(
            f"{folder} cannot be read as a dataset: {error}. Give the folder of a published one."
        ) from None


def load_config(folder: Path, config: str) -> dict[str, Any]:
    """Split -> datasets.Dataset of one config of a published folder. Raises InputError where it cannot be read."""
    from datasets import load_dataset

    try:
        return dict(load_dataset(str(folder), config))
    except Exception as error:  # as above
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"Config {config} of {folder} cannot be read: {reason}. Publish the dataset again.") from None


def read_rows(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a datasets.Dataset, row after row, with each profile in memory once however many rows show it."""
    profiles: dict[str, str] = {}
    for batch in table.iter(BATCH):
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            for message in row.get("prompt") or ():
                message["content"] = profiles.setdefault(message["content"], message["content"])
            yield row


def evaluated_row(config: str, split: str, published: dict[str, Any]) -> EvaluatedRow:
    persona, partner = published["persona_id"], published.get("partner_persona_id")
    return EvaluatedRow(
        config=config,
        split=split,
        persona_group=published["persona_group"],
        pair_id=published["pair_id"],
        persona_id=persona,
        cluster=(persona,) if partner is None else tuple(sorted((persona, partner))),
        mirror_pair_id=published.get("mirror_pair_id"),
        flip=_flip(published, by_the_rows_judge=True),
        second_flip=_flip(published, by_the_rows_judge=False),
        judge_verdict=published.get("judge_verdict") or "unscored",
        published=published,
    )


def read_build(*folders: Path) -> dict[str, Any] | None:
    """The first build.json found in `folders`, or None."""
    for folder in folders:
        path = folder / "build.json"
        if path.is_file():
            return read_json(path)
    return None


def content_hash(folder: Path) -> str:
    """SHA-256 that identifies the published tables: `content_sha256` of build.json, else over all Parquet files, by
    relative path.
    """
    declared = (read_build(folder) or {}).get("content_sha256")
    if declared:
        return str(declared)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.parquet")):
        digest.update(path.relative_to(folder).as_posix().encode("utf-8") + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _limited(table: Any, limit: int | None) -> Any:
    """The rows that are taken, in the order of their ids. Drawn by their ids alone, so that no text is read of the others."""
    if limit is None or len(table) <= limit:
        return table
    pairs = table["pair_id"][:]
    mirrors = table["mirror_pair_id"][:] if "mirror_pair_id" in table.column_names else [None] * len(pairs)
    units: dict[str, list[int]] = {}
    for place, (pair, mirror) in enumerate(zip(pairs, mirrors, strict=True)):
        units.setdefault(min(pair, mirror or pair), []).append(place)
    kept: list[int] = []
    for name in sorted(units, key=lambda name: seed_for(0, "eval/limit", name)):
        if len(kept) + len(units[name]) <= limit:
            kept += units[name]
    return table.select(sorted(kept, key=lambda place: pairs[place]))


def _flip(published: dict[str, Any], by_the_rows_judge: bool) -> bool | None:
    """As the judge has it that labelled the row, or as the first other one."""
    return next(
        (
            entry["flip"]
            for entry in published.get("flips") or ()
            if (entry["judge"] == published["judge"]) == by_the_rows_judge
        ),
        None,
    )


def _text(messages: Sequence[dict[str, str]] | None) -> str | None:
    """The answer in a one-message list; None where there is none or it is blank."""
    text = messages[-1]["content"] if messages else None
    return text if text and text.strip() else None
