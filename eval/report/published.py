"""The published tables that the report reads, and counting in them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.schema import PAIR_CONFIGS
from eval.rows import config_names, load_config

Tables = Mapping[str, Mapping[str, Any]]  # config -> split -> datasets.Dataset


def load_tables(published: Path) -> dict[str, dict[str, Any]]:
    """Every config of the folder; `personas` and `prompts` as the one split `all`."""
    from datasets import concatenate_datasets

    tables: dict[str, dict[str, Any]] = {}
    for config in config_names(published):
        if config in PAIR_CONFIGS:
            tables[config] = load_config(published, config)
        elif config in ("personas", "prompts"):
            tables[config] = {"all": concatenate_datasets(list(load_config(published, config).values()))}
    return tables


def columns(table: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select_columns(list(names)).to_list()
    return rows


def two_counts(
    pairs: Iterable[tuple[str | None, bool]], shown: int, order: Iterable[str] | None = None
) -> dict[str, tuple[int, int]]:
    """Label -> (count of False, count of True): most frequent first, or in the given order; the rare summed up."""
    counts: dict[str, list[int]] = {}
    for label, second in pairs:
        counts.setdefault(label or "not given", [0, 0])[second] += 1
    labels = [name for name in order if name in counts] if order else sorted(counts, key=lambda n: (-sum(counts[n]), n))
    labels += [name for name in counts if name not in labels]
    kept, rest = labels[:shown], labels[shown:]
    result = {name: (counts[name][0], counts[name][1]) for name in kept}
    if rest:
        result[f"{len(rest)} others"] = (sum(counts[n][0] for n in rest), sum(counts[n][1] for n in rest))
    return result


def as_shares(counts: Mapping[str, tuple[int, int]]) -> dict[str, tuple[float, float]]:
    """In % of each series."""
    totals = [max(1, sum(pair[series] for pair in counts.values())) for series in (0, 1)]
    return {name: (100 * pair[0] / totals[0], 100 * pair[1] / totals[1]) for name, pair in counts.items()}


def counts_in_words(counts: Mapping[str, tuple[float, float]], first: str, second: str) -> str:
    return "; ".join(f"{name}: {first} {pair[0]:.0f}, {second} {pair[1]:.0f}" for name, pair in counts.items())


def words(name: Any) -> str:
    """`employment_status` -> `employment status`."""
    return str(name).replace("_", " ")


def reasons_in_words(counts: Mapping[str, int] | None) -> str:
    found = [f"{count:,} {words(reason)}" for reason, count in (counts or {}).items() if count]
    return ", ".join(found) or "none"
