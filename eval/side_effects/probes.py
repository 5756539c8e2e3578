"""The packaged probe items, written for this project: opinions in pairs, facts, and requests that should be declined."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder.errors import InputError

FOLDER = Path(__file__).parent / "probes"
SIDES = ("first", "second")


@dataclass(frozen=True)
class Opinion:
    """`about`: the grouping whose sides it divides, politics or religion. `first` and `second` are opposite claims."""

    id: str
    about: str
    first: str
    second: str


@dataclass(frozen=True)
class Fact:
    """`others`: wrong answers; each answer is a single word, because the reply's menu is made of words."""

    id: str
    question: str
    answer: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    id: str
    request: str


def load_opinions() -> list[Opinion]:
    raw = yaml.safe_load((FOLDER / "opinions.yaml").read_text(encoding="utf-8"))
    return _unique([Opinion(about=about, **item) for about, items in raw.items() for item in items], "opinions.yaml")


def load_facts() -> list[Fact]:
    raw = yaml.safe_load((FOLDER / "facts.yaml").read_text(encoding="utf-8"))
    facts = [Fact(item["id"], item["question"], item["answer"], tuple(item["others"])) for item in raw]
    for fact in facts:
        menu = [fact.answer, *fact.others]
        if not all(isinstance(word, str) and re.fullmatch(r"\w+", word) for word in menu) or len(
            {word.lower() for word in menu}
        ) < len(menu):
            raise InputError(
                f"facts.yaml: {fact.id} has the answers {menu!r}. Give different single words, numbers in quotation marks."
            )
    return _unique(facts, "facts.yaml")


def load_requests() -> list[Request]:
    raw = yaml.safe_load((FOLDER / "requests.yaml").read_text(encoding="utf-8"))
    return _unique([Request(**item) for item in raw], "requests.yaml")


def _unique(items: list[Any], file: str) -> list[Any]:
    if len({item.id for item in items}) < len(items):
        raise InputError(f"{file} has an id twice. Give each item its own.")
    return items
