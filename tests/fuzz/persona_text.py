"""Persona text: our own profile lines and back, personas and questions of other people's files, the release of the paper's authors."""

import dataclasses
import functools
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from builder.imports.authors import COLUMNS, released_columns, scan_rows
from builder.imports.nemotron import COLUMNS as NEMOTRON
from builder.imports.persona_text import NULL_WORDS, parse_persona
from builder.imports.personas_file import read_persona_file
from builder.imports.reading import open_source
from builder.personas.profile import profile_lines, profile_text
from builder.prompts.sources import read_prompts
from builder.recipe import BuildRecipe, load_recipe
from builder.schema import ATTRIBUTES, BIG_FIVE, BIG_FIVE_LEVELS, GROUPS, PROVENANCE, empty_attributes
from builder.tables import arrow_table
from tests.fuzz.mutations import (
    Files,
    byte_edit,
    cell_edit,
    csv_bytes,
    edited_bytes,
    edited_lines,
    edited_table,
    edited_value,
    encoded,
    encodings,
    line_edit,
    some,
    value_edit,
)
from training.profiles import as_lines, as_prose, corrupted, line_of, stated_attributes

NUMBERS = ("age", "income", "big_five_scores")
TEXTS = tuple(name for name in ATTRIBUTES if name not in NUMBERS)
PERSONA: dict[str, Any] = {
    **{
        "id": "a1",
        "group": "seen",
        "weight": 2.5,
        "age": 41,
        "income": 52000,
        "marital status": "Married",
        "Religion": "Hindu",
    },
    "big_five_scores": dict.fromkeys(BIG_FIVE, "Low"),
    "extras": {"core_values": ["Honesty"], "entertainment_preferences": []},
    "null_reasons": {"fertility": "not_applicable"},
    "attributes": {"sex": "Female", "ancestry": "None"},
}
PROFILE = (
    "About the person asking:\nAge: 41\nSex: Female\n"
    "Income: -$5,000 a year (a loss)\nAbility to speak English: Very well\nReligion: Hindu\n"
    "Big five scores: Openness: Low, Conscientiousness: High, Extraversion: Low, Agreeableness: Average, Neuroticism: Extremely High"
)
NEMOTRON_ROW = {
    **dict.fromkeys(NEMOTRON, "Ann likes rivers. She lives in Ely."),
    **{
        "age": 41,
        "sex": "Female",
        "marital_status": "married_present",
        "education_level": "bachelors",
        "city": "Ely",
        "zipcode": "89301",
    },
}
AUTHORS_ROW = dict(
    zip(COLUMNS, (PROFILE, "Why is it so?", "Because.", "Because of you.", "Say more.", "train"), strict=True)
)
QUESTION = {"question": "Should one do what one said?", "id": 7, "topic": "ethics", "source": "mine", "licence": "CC0"}
PRISM = {"opening_prompt": "Should one?", "conversation_id": "c1"}


# --- our own lines -----------------------------------------------------------------------------------------------------------------------


@st.composite
def values(draw: st.DrawFn) -> Files:
    """What a persona may hold, as JSON: the lines that are printed of it are read back."""
    said: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(TEXTS), st.text(min_size=1, max_size=12), min_size=1, max_size=4)
    )
    said = {name: value for name, value in said.items() if value.split()}
    said["age"] = draw(st.integers(0, 120))
    said["income"] = draw(st.integers(-20_000, 2_000_000))
    said["big_five_scores"] = {trait: draw(st.sampled_from(BIG_FIVE_LEVELS)) for trait in BIG_FIVE}
    return {"values": json.dumps(said).encode()}


@st.composite
def profiles(draw: st.DrawFn) -> Files:
    text = edited_lines(PROFILE, draw(some(line_edit)))
    return {"profile": encoded(edited_bytes(text.encode(), draw(some(byte_edit))), draw(encodings))}


# --- other people's files ----------------------------------------------------------------------------------------------------------------


@st.composite
def rows_in_files(draw: st.DrawFn) -> Files:
    """One to five rows with something changed, in one of the formats, under one of the names that decide who reads them."""
    kind, row = draw(
        st.sampled_from(
            (
                ("personas", PERSONA),
                ("personas", {"profile": PROFILE}),
                ("personas", NEMOTRON_ROW),
                ("prompts", QUESTION),
                ("prompts", PRISM),
                ("authors", AUTHORS_ROW),
            )
        )
    )
    rows = [edited_value(row, draw(some(value_edit, 3))) for _ in range(draw(st.integers(1, 5)))]
    suffix = draw(st.sampled_from(("jsonl", "jsonl", "csv", "tsv" if kind == "prompts" else "parquet", "txt")))
    if suffix == "parquet":
        content = edited_bytes(as_parquet(rows), draw(some(byte_edit, 1)))
    elif suffix in ("csv", "tsv"):
        table = edited_table(as_cells(rows, row), draw(some(cell_edit)))
        separator = draw(st.sampled_from((",", ";", "\t")))
        content = edited_bytes(encoded(csv_bytes(table, separator), draw(encodings)), draw(some(byte_edit, 2)))
    else:
        text = "\n".join(
            json.dumps(value, default=str, skipkeys=True, ensure_ascii=draw(st.booleans())) for value in rows
        )
        content = edited_bytes(encoded(text, draw(encodings)), draw(some(byte_edit, 2)))
    return {f"{kind}.{suffix}": content}


def as_cells(rows: list[Any], row: dict[str, Any]) -> list[list[str]]:
    dicts = [value if isinstance(value, dict) else {"x": value} for value in rows]
    names = list(dict.fromkeys([*row, *(str(key) for value in dicts for key in value)]))
    cells = [[value.get(name) for name in names] for value in dicts]
    return [names, *[["" if cell is None else _shown(cell) for cell in row_cells] for row_cells in cells]]


def _shown(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, default=str, skipkeys=True)


def as_parquet(rows: list[Any]) -> bytes:
    """Columns that Arrow cannot hold are left out."""
    dicts = [value if isinstance(value, dict) else {"x": value} for value in rows]
    columns = {}
    for name in dict.fromkeys(key for value in dicts for key in value if isinstance(key, str)):
        try:
            columns[name] = pa.array([value.get(name) for value in dicts])
        except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError, ValueError):
            continue
    out = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), out)
    except (pa.ArrowException, UnicodeEncodeError):
        return b""
    return out.getvalue()


def inputs() -> st.SearchStrategy[Files]:
    return st.one_of(values(), profiles(), rows_in_files(), rows_in_files(), rows_in_files())


def check(folder: Path, files: Files) -> None:
    """Raises InputError as the reader of that kind of file does."""
    name, content = next(iter(files.items()))
    path = folder / name
    if name == "values":
        check_lines({**empty_attributes(), **json.loads(content)})
    elif name == "profile":
        check_profile(content.decode("utf-8", "replace"))
    elif name.startswith("personas"):
        check_personas(path, 1)
        # Most files have no second person. Those that do are divided into groups, or say them.
        check_personas(path, 2)
    elif name.startswith("prompts"):
        check_prompts(path)
    else:
        source = open_source(path)
        scan = scan_rows(source, released_columns(source), folder)
        assert len(scan.rows) + len(scan.ledger) == scan.read


def check_lines(values: dict[str, Any]) -> None:
    lines = profile_lines(values)
    stated = stated_attributes(profile_text(lines))
    assert [line_of(name, value) for name, value in stated.items()] == lines
    assert as_lines(stated) == profile_text(lines)
    back = parse_persona(profile_text(lines))
    assert not back.unreadable
    assert not back.unknown
    for name, value in values.items():
        read = back.attributes.values[name]
        said = " ".join(value.split()) if isinstance(value, str) else value
        assert read == (None if isinstance(said, str) and said.lower() in NULL_WORDS else said), name


def check_profile(text: str) -> None:
    parse_persona(text)
    stated = stated_attributes(text)
    assert stated_attributes(as_lines(stated)) == stated
    assert as_prose(stated)
    assert set(corrupted(stated, 0.5, 0)) <= set(stated)


@functools.cache
def recipe_of(count: int) -> BuildRecipe:
    return load_recipe("demo", [f"personas.count={count}"])


def check_personas(path: Path, count: int) -> None:
    recipe = recipe_of(count)
    recipe = dataclasses.replace(recipe, personas=dataclasses.replace(recipe.personas, source=str(path)))
    made = read_persona_file(recipe, lambda texts: [len(text.split()) for text in texts])
    # What cannot be written would end a build in the middle.
    rows = arrow_table("personas", made.rows).to_pylist()
    assert len(rows) == count
    for row in rows:
        assert row["group"] in GROUPS
        assert row["profile"].strip()
        assert row["weight"] >= 1
        for name in ATTRIBUTES:
            assert (row["provenance"][name] in PROVENANCE) == (row["null_reasons"][name] is None)
    json.dumps(made.details).encode("utf-8")
    json.dumps(made.ledger, ensure_ascii=False).encode("utf-8")


def check_prompts(path: Path) -> None:
    for column in (None, "topic"):
        read = read_prompts(str(path), column)
        assert read.prompts
        assert not {prompt.line for prompt in read.prompts} & set(read.unusable)
        for prompt in read.prompts:
            assert prompt.question.strip() == prompt.question != ""
            json.dumps(dataclasses.asdict(prompt), ensure_ascii=False).encode("utf-8")
