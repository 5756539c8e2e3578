"""The tables of a version by config and split, as the statistics describe them: which have rows, how many, which is the default."""

from collections.abc import Mapping
from typing import Any

PAIR_CONFIGS = ("dpf", "dpf_matched", "contrast")
DEFAULT_CONFIG = "dpf"


def with_rows(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configs and splits that have a row."""
    filled = {c: {split: entry for split, entry in splits.items() if entry["rows"]} for c, splits in configs.items()}
    return {config: splits for config, splits in filled.items() if splits}


def default_config(filled: Mapping[str, Any]) -> str | None:
    return DEFAULT_CONFIG if DEFAULT_CONFIG in filled else next(iter(filled), None)


def pair_rows(configs: Mapping[str, Any]) -> int:
    return sum(entry["rows"] for config in PAIR_CONFIGS for entry in configs.get(config, {}).values())
