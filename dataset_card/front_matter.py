"""The card's YAML header, from which the Hub and `datasets` know the dataset."""

from collections.abc import Mapping
from typing import Any

from dataset_card.configs import default_config, pair_rows, with_rows

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
TAGS = (
    "preference",
    "dpo",
    "reward-model",
    "personas",
    "personalization",
    "pluralistic-alignment",
    "synthetic",
    "trl",
    "arxiv:2407.17387",
)
# Datasets of the Hub by the name that the column `source` of `prompts` gives them.
ON_THE_HUB = {"PRISM": "HannahRoseKirk/prism-alignment"}


def front_matter(statistics: Mapping[str, Any]) -> str:
    """The YAML header: licence, size, tags, sources, and each config's files by split.

    Files are listed by split because the Hub otherwise guesses splits from file names and puts `seen_test` and `heldout_test` together.
    A split without a row is left out: `datasets` fails on an empty Parquet file, and with it on the whole config.
    """
    from huggingface_hub import DatasetCardData

    configs = with_rows(statistics["configs"])
    default = default_config(configs)
    listed = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": entry["file"]} for split, entry in splits.items()],
            **({"default": True} if config == default else {}),
        }
        for config, splits in configs.items()
    ]
    data = DatasetCardData(
        license=statistics.get("licence", "cc-by-4.0"),
        language=["en"],
        pretty_name=f"PERSONA testbed, {statistics['recipe_name']} {statistics['version']}",
        size_categories=[_size(pair_rows(configs))],
        task_categories=["text-generation", "text-ranking"],
        annotations_creators=["machine-generated"],
        language_creators=_language_creators(statistics.get("question_sources") or {}),
        multilinguality=["monolingual"],
        source_datasets=_sources(statistics),
        tags=list(TAGS),
        configs=listed,
    )
    return data.to_yaml(line_break="\n")


def _sources(statistics: Mapping[str, Any]) -> list[str]:
    """`original`, or in the Hub's words what was extended. Files that the Hub does not have cannot be named in its vocabulary."""
    names = statistics.get("question_sources") or {}
    found = {ON_THE_HUB.get(name) or _hub_name(name) for name in names}
    build = statistics.get("build") or {}
    found.add(_hub_name(str((build.get("imported") or {}).get("source"))))
    found.add(_hub_name(str((build.get("stages") or {}).get("personas", {}).get("source"))))
    # Nothing but what was written here and for here: the pairs always, the questions where no source is named.
    own = [] if build.get("imported") else ["original"]
    return [*own, *(f"extended|{name}" for name in sorted(filter(None, found)))]


def _hub_name(source: str) -> str | None:
    """`hub:org/name@revision` -> `org/name`."""
    return source.removeprefix("hub:").partition("@")[0].partition(":")[0] if source.startswith("hub:") else None


def _language_creators(sources: Mapping[str, Any]) -> list[str]:
    """Answers are generated. PRISM's questions were typed by its participants; how others came about is not known here."""
    asked = ["crowdsourced"] if "PRISM" in sources else []
    return ["machine-generated", *asked, *(["found"] if set(sources) - {"persona-testbed", "PRISM"} else [])]


def _size(rows: int) -> str:
    return next((name for limit, name in SIZES if rows < limit), "10M<n<100M")
