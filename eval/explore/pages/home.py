"""The start: what the dataset is, its configs with their sizes, and their figures."""

from typing import Any

from builder.schema import PAIR_CONFIGS
from eval.explore.database import Row, Tables
from eval.explore.pages.listing import EVERYTHING, is_verdict, value_counts
from eval.explore.pages.words import CONFIG_WORDS, SPLIT_WORDS


def home_page(tables: Tables) -> dict[str, Any]:
    published = tables.published
    configs = []
    for config, splits in published.files.items():
        counts = _split_counts(tables, config) if config in PAIR_CONFIGS else {"all": _rows_of(tables, config)}
        configs.append(
            {
                "name": config,
                "words": CONFIG_WORDS[config],
                "rows": sum(counts.values()),
                "splits": [(split, counts.get(split, 0), SPLIT_WORDS.get(split, "")) for split in splits]
                if config in PAIR_CONFIGS
                else [],
            }
        )
    build = published.build
    judge = build.get("judge")
    facts = [
        ("Version", published.version),
        ("Licence", build.get("licence")),
        ("Judge", judge.get("label") if isinstance(judge, dict) else None),
        ("Fingerprint of the build", str(build.get("fingerprint") or "")[:12]),
        ("Hash of the data", str(build.get("content_sha256") or "")[:12]),
    ]
    return {
        "configs": configs,
        "facts": [(name, str(value)) for name, value in facts if value],
        "numbers": _numbers_of_configs(tables),
        "personas": _rows_of(tables, "personas"),
        "prompts": _rows_of(tables, "prompts"),
        "groups": value_counts(tables, "personas", '"group"') if tables.attributes else [],
        "default": next((c["name"] for c in configs if c["name"] in PAIR_CONFIGS), "dpf"),
        "hub": published.source.removeprefix("hub:").partition("@")[0] if published.source.startswith("hub:") else None,
        "revision": published.source.partition("@")[2],
    }


def _split_counts(tables: Tables, config: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in tables.parts:
        if part.config == config:
            counts[part.split] = counts.get(part.split, 0) + part.rows
    return counts


def _rows_of(tables: Tables, config: str) -> int:
    if config == "judgements":
        query = "SELECT count(*) AS n FROM read_parquet(?)"
        return int(tables.keep(query, lambda: tables.ask(query, [tables.judgements])[0]["n"]))
    return tables.count(config, EVERYTHING)


def _numbers_of_configs(tables: Tables) -> list[Row]:
    """One row a config: shares in %, None where nothing is known."""
    share = "100.0 * avg(({0})::INTEGER)"
    query = (
        "SELECT config::VARCHAR AS config, count(*) AS rows, count(DISTINCT persona_id) AS personas, "
        "count(DISTINCT prompt_id) AS prompts, "
        # Where the judge gave no verdict, it prefers neither.
        f"{share.format(is_verdict('chosen'))} FILTER (WHERE NOT {is_verdict('unscored')}) AS chosen, "
        f"{share.format('length_violation')} AS length, "
        f"{share.format('attribute_leak')} AS leak, {share.format('flip')} AS flip, "
        "avg(chosen_tokens) AS chosen_tokens, avg(rejected_tokens) AS rejected_tokens FROM pairs GROUP BY ALL ORDER BY min(num)"
    )
    return tables.ask_once(query)
