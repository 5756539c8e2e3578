"""One search over everything: an id leads to its page, words find personas, questions and pairs."""

from typing import Any

from eval.explore import filters
from eval.explore.database import Tables
from eval.explore.filters import Asked, Where
from eval.explore.pages.excerpts import add_excerpts, add_questions, around, hit_in
from eval.explore.search import find_pairs


def search_page(tables: Tables, text: str) -> dict[str, Any] | str:
    """An address to go to where the text is an id, else what was found."""
    if tables.number_of(text) is not None:
        return Asked({"id": text}).address("pair")
    for config, page in (("personas", "persona"), ("prompts", "prompt")):
        key = f"{page}_id"
        if tables.ask(f"SELECT 1 FROM {config} WHERE {key} = ?", [text]):
            return Asked({"id": text}).address(page)
    asked = Asked({"q": text})
    people = filters.personas_where(asked) if tables.attributes else Where(("false",))
    questions = filters.prompts_where(asked) if tables.prompt_columns else Where(("false",))
    columns = "persona_id, profile" if tables.attributes else "persona_id"
    found = tables.ask(f"SELECT {columns} FROM personas WHERE {people.sql()} ORDER BY num LIMIT 5", people.parameters)
    for row in found:
        profile = row["profile"] or ""
        row["excerpt"] = around(profile, *(hit_in(profile, text) or (0, 0)))
    pairs_found = find_pairs(tables, asked)
    rows = tables.light_rows(pairs_found.numbers[:8])
    add_questions(tables, rows)
    add_excerpts(tables, rows, asked)
    return {
        "text": text,
        "asked": asked,
        "personas": found,
        "persona_count": tables.count("personas", people),
        "prompts": tables.ask(
            f"SELECT * FROM prompts WHERE {questions.sql()} ORDER BY num LIMIT 5", questions.parameters
        ),
        "prompt_count": tables.count("prompts", questions),
        "pairs": rows,
        "pair_count": pairs_found.count,
        "finished": pairs_found.stopped_at is None,
    }
