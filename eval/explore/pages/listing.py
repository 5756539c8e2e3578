"""A page of a table's rows, how often each value occurs, and what stands beside a row."""

from eval.explore.database import Row, Tables
from eval.explore.filters import NotFound, Where
from eval.explore.search import PAGE

EVERYTHING = Where()


def page_of(
    tables: Tables, table: str, columns: str, where: Where, after: int | None, before: int | None, size: int = PAGE
) -> tuple[list[Row], bool, bool]:
    """(rows, whether there are earlier ones, whether there are later ones)"""
    if before is not None:
        inside = where.with_("num < ?", before)
        rows = tables.ask(
            f"SELECT {columns} FROM {table} WHERE {inside.sql()} ORDER BY num DESC LIMIT {size + 1}", inside.parameters
        )
        return rows[:size][::-1], len(rows) > size, True
    inside = where.with_("num > ?", -1 if after is None else after)
    rows = tables.ask(
        f"SELECT {columns} FROM {table} WHERE {inside.sql()} ORDER BY num LIMIT {size + 1}", inside.parameters
    )
    return rows[:size], after is not None, len(rows) > size


def value_counts(tables: Tables, table: str, column: str, where: Where = EVERYTHING) -> list[Row]:
    """Values of a column with how often each occurs, most frequent first."""
    query = f"SELECT {column}::VARCHAR AS value, count(*) AS n FROM {table} WHERE {where.sql()} GROUP BY ALL ORDER BY n DESC, value"
    return [row for row in tables.ask_once(query, where.parameters) if row["value"] is not None]


def is_verdict(verdict: str) -> str:
    return f"judge_verdict::VARCHAR = '{verdict}'"


def ids_beside(tables: Tables, table: str, key: str, number: int) -> tuple[str | None, str | None]:
    rows = tables.ask(f"SELECT num, {key} AS id FROM {table} WHERE num IN (?, ?)", [number - 1, number + 1])
    found = {row["num"]: row["id"] for row in rows}
    return found.get(number - 1), found.get(number + 1)


def needs_config(tables: Tables, config: str) -> None:
    if config not in tables.published.files:
        raise NotFound(f"This dataset has no config {config}: its card lists {', '.join(tables.published.files)}.")
