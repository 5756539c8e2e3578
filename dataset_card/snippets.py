"""The code on the card: how to load a version as it is, one split, one persona; every line names what this version has."""

from collections.abc import Mapping
from typing import Any

from dataset_card.configs import DEFAULT_CONFIG, default_config, with_rows

# Stands for the path of the card's folder: `datasets` does not take ".".
FOLDER = "persona-data"
TEMPLATE_TOKENS = 32  # around ten a message, in the templates of common chat models


def tag(version: str) -> str:
    return f"v{version}"


def snippets(statistics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what it is for, language of the code block, code). Each Python block stands alone."""
    configs, repository = with_rows(statistics["configs"]), statistics.get("repo_id")
    default = default_config(configs)
    if default is None:
        return []
    where = f'"{repository or FOLDER}"'
    revision = f', revision="{tag(statistics["version"])}"' if repository else ""
    load = "from datasets import load_dataset\n\n"
    found = [("All splits of the default config:", "python", f"{load}pairs = load_dataset({where})")]
    for config, wanted in (("contrast", "seen_test"), ("personas", "train")):
        if config in configs and config != default:
            split = wanted if wanted in configs[config] else next(iter(configs[config]))
            what = "One split of another config" + (", at exactly this version:" if revision else ":")
            if config == "personas":
                what = "The personas with their attributes (a config without a division has one split, which `datasets` calls `train`):"
            found.append(
                (what, "python", f'{load}{config} = load_dataset({where}, "{config}", split="{split}"{revision})')
            )
    if {"train", "support"} <= configs[default].keys():
        code = f'{load}everybody = load_dataset({where}, split="train+support"{revision})'
        found.append(("The paper's view of the training rows, which has all personas:", "python", code))
    if "heldout_test" in configs.get(DEFAULT_CONFIG, {}):
        code = (
            f'{load}heldout = load_dataset({where}, "{DEFAULT_CONFIG}", split="heldout_test"{revision})\n'
            'unseen = heldout.filter(lambda row: row["persona_group"] == "unseen")'
        )
        found.append(("Personas and questions that no training row has seen:", "python", code))
    if "judgements" in configs:
        code = f'{load}judgements = load_dataset({where}, "judgements", split="train"{revision})'
        found.append(("Every call of a judge:", "python", code))
    return found


def persona_snippets(statistics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """As `snippets`, for one persona's rows without the rest. None where no persona is named or the default config has no `train`."""
    configs, repository = with_rows(statistics["configs"]), statistics.get("repo_id")
    persona, default = statistics.get("example_persona"), default_config(configs)
    if not persona or default is None or "train" not in configs[default]:
        return []
    where = f'"{repository or FOLDER}"'
    revision = f', revision="{tag(statistics["version"])}"' if repository else ""
    place = f"hf://datasets/{repository}@{tag(statistics['version'])}" if repository else FOLDER
    files = f"{place}/data/{default}/train-*.parquet"
    streamed = f'{where}, split="train"{revision}, streaming=True, filters=only'
    why = "With `datasets`, streaming; without `streaming=True` it downloads whole files first"
    if repository:
        # 1.6 % of train's bytes at the paper's size and not 6.4 % (docs/data.md).
        streamed = f'\n    {streamed},\n    storage_options={{"hf": {{"block_size": 2**16}}}},\n'
        why += ", and without `block_size` the Hub's client reads 5 MiB on after every piece that is wanted"
    return [
        (
            f"{why}:",
            "python",
            "from datasets import load_dataset\n\n"
            f'only = [("persona_id", "==", "{persona}")]\n'
            f"rows = load_dataset({streamed})\n"
            "pairs = list(rows)",
        ),
        (
            "With DuckDB:",
            "python",
            f"import duckdb\n\nduckdb.sql(\"SELECT * FROM '{files}' WHERE persona_id = '{persona}'\")",
        ),
        (
            "With Polars:",
            "python",
            f'import polars\n\npolars.scan_parquet("{files}").filter(polars.col("persona_id") == "{persona}").collect()',
        ),
    ]


def training_command(statistics: Mapping[str, Any]) -> str | None:
    """The paper's method with TRL's own script: it takes the default config's split `train`, which has seen personas only."""
    configs = with_rows(statistics["configs"])
    if "train" not in configs.get(DEFAULT_CONFIG, {}):
        return None
    where = statistics.get("repo_id") or FOLDER
    length = max_length(statistics)
    room = f" --max_length {length}" if length else ""
    return f"trl dpo --dataset_name {where} \\\n    --model_name_or_path Qwen/Qwen3-0.6B --output_dir persona-dpo{room}"


def max_length(statistics: Mapping[str, Any]) -> int | None:
    """Tokens that hold the longest training row and the marks that a chat template puts around its three messages."""
    longest = statistics.get("longest_row")
    return None if longest is None else -(-(longest + TEMPLATE_TOKENS) // 64) * 64
