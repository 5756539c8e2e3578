"""Stages `personas` and `prompts`: who is asked what. Each is worked on whole, not in shards."""

from typing import Any

from builder.recipe import BuildRecipe
from builder.stages.site import Site, StageResult
from builder.tables import write_parquet, write_table


def make_personas(recipe: BuildRecipe, site: Site, records: Any) -> StageResult:
    """records: what `read_records` of builder/personas, or `draw_personas` of builder/imports, has read."""
    from builder.imports.personas_file import read_persona_file
    from builder.personas.personas import build_personas

    def count_tokens(texts: list[str]) -> list[int]:
        return site.calls.count_tokens("generator", texts)

    site.calls.begin_part()
    if recipe.personas.source == "census":
        known = site.earlier.earlier_personas() if site.earlier is not None else None
        table = build_personas(recipe, site.calls, count_tokens, records, known)
    else:
        table = read_persona_file(recipe, count_tokens, records)
    # The source's row of every persona, with SERIALNO and PUMA of the census: stays in the build and is never published.
    write_parquet(site.folder / "tables" / "persona_records.parquet", table.records)
    rows = (site.earlier.personas if site.earlier is not None else []) + table.rows
    write_table(site.folder / "tables" / "personas.parquet", "personas", rows)
    return StageResult(table.counts, table.details, table.ledger, site.calls.part_usage())


def make_prompts(recipe: BuildRecipe, site: Site, usable: Any) -> StageResult:
    """usable: the `UsablePrompts` that builder/prompts has read."""
    from builder.prompts.prompts import build_prompts

    site.calls.begin_part()
    earlier = site.earlier.prompts if site.earlier is not None else ()
    table = build_prompts(recipe, site.calls, usable, earlier)
    write_table(site.folder / "tables" / "prompts.parquet", "prompts", table.rows)
    return StageResult(table.counts, table.details, table.ledger, site.calls.part_usage())
