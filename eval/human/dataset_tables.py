"""The Parquet files of a published dataset as a study reads them: which there are, their rows, and how many each persona has."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import InputError
from eval.rows import EVALUATED_SPLITS, config_names

PAIR_KINDS = ("contrast", "dpf")  # the configs of the dataset


def files_with(folder: Path, config: str) -> dict[str, list[str]]:
    """Split -> Parquet files of a config. Raises InputError where the folder is no dataset or has no such config."""
    from datasets import load_dataset_builder

    if config not in config_names(folder):
        what = f"set pairs.{config} to 0" if config in PAIR_KINDS else "publish it again"
        raise InputError(f"{folder} has no config {config}; {what}, or name another dataset.")
    try:
        files = load_dataset_builder(str(folder), config).config.data_files
    except Exception as error:  # the loader raises many kinds; each means that the folder cannot be read
        raise InputError(f"Config {config} of {folder} cannot be read: {error}. Publish the dataset again.") from None
    splits = {str(split): [str(path) for path in paths] for split, paths in files.items()}
    return (
        splits if config not in PAIR_KINDS else {split: splits[split] for split in EVALUATED_SPLITS if split in splits}
    )


def read_rows(
    files: Mapping[str, Sequence[str]], columns: Sequence[str], personas: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of all splits, of `personas` alone if given. Straight from Parquet, not through the loader's cache, which would write the whole
    config to the disk once more; a few row groups at a time in memory."""
    import pyarrow
    import pyarrow.dataset

    paths = [path for own in files.values() for path in own]
    if not paths:
        return []
    try:
        table = pyarrow.dataset.dataset(paths, format="parquet").to_table(
            columns=list(columns),
            filter=None if personas is None else pyarrow.dataset.field("persona_id").isin(sorted(personas)),
            batch_size=4096,
            batch_readahead=2,
            fragment_readahead=1,
        )
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise InputError(f"{paths[0]} cannot be read ({error}). Publish the dataset again.") from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def count_by_persona(files: Mapping[str, Sequence[str]]) -> Counter[str]:
    import pyarrow.parquet

    counts: Counter[str] = Counter()
    for path in (path for own in files.values() for path in own):
        column = pyarrow.parquet.read_table(path, columns=["persona_id"])["persona_id"]
        counts.update({entry["values"].as_py(): entry["counts"].as_py() for entry in column.value_counts()})
    return counts
