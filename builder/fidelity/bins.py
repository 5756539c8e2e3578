"""The declared bins of every compared attribute (bins.yaml): at most 12, the nulls among them."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from builder.census.codebook import codebook_for, packaged_years
from builder.errors import InputError

FILE = Path(__file__).with_name("bins.yaml")
MOST_BINS = 12
NOT_KNOWN = "Not known"  # null with reason `missing`

# A value in words or numbers with no reason, or None with the reason for the null.
Answer = tuple[Any, str | None]


@dataclass(frozen=True)
class Binning:
    """The bins of one attribute in one survey year.

    labels: of all bins in declared order, those of the nulls last. edges: the lowest number of each bin (numbers only). words: the words
    that the year's codebook has -> bin (words only). nulls: reason -> bin.
    """

    attribute: str
    label: str
    labels: tuple[str, ...]
    edges: tuple[int, ...]
    words: dict[str, int]
    nulls: dict[str, int]

    @property
    def without_answer(self) -> set[int]:
        """The bins of those who were not asked or whose answer is not known."""
        return {place for reason, place in self.nulls.items() if reason != "none"}

    def place(self, answer: Answer) -> int:
        """The bin of an answer. Raises InputError for words that no codebook has."""
        value, reason = answer
        if value is None:
            return self.nulls[reason or "missing"]
        if self.edges:
            return bisect_right(self.edges, value) - 1
        if value not in self.words:
            raise InputError(
                f"{self.attribute} is {value!r}, which no codebook of this version says. The personas were built by another version: "
                "build them again."
            )
        return self.words[value]


def binned_attributes() -> tuple[str, ...]:
    return tuple(declarations())


@lru_cache
def binning(attribute: str, survey_year: int) -> Binning:
    """The bins of an attribute; its words are those of the survey year's codebook, and of the other years where that has none."""
    declared = declarations()[attribute]
    bins, nulls = declared["bins"], {**declared.get("nulls", {}), "missing": NOT_KNOWN}
    # Imputed origins are told in the words of the donors' year, so the other years count too; the survey year's own words go last and win.
    words: dict[str, int] = {}
    for year in [*(year for year in packaged_years() if year != survey_year), survey_year]:
        words |= words_of_bins(bins, year)
    return Binning(
        attribute,
        declared["label"],
        (*(entry["label"] for entry in bins), *nulls.values()),
        tuple(entry["from"] for entry in bins if "from" in entry),
        words,
        {reason: len(bins) + number for number, reason in enumerate(nulls)},
    )


def words_of_bins(bins: list[dict[str, Any]], survey_year: int) -> dict[str, int]:
    labels = codebook_for(survey_year)
    words: dict[str, int] = {}
    for number, entry in enumerate(bins):
        words |= dict.fromkeys(entry.get("words", ()), number)
        for column in entry.keys() - {"label", "from", "words"}:
            spans = [code_range(part) for part in entry[column]]
            inside = [text for code, text in labels.get(column, {}).items() if any(code in span for span in spans)]
            words |= dict.fromkeys(inside, number)
    return words


def code_range(part: int | str) -> range:
    """`10-950` or one code."""
    first, _, last = str(part).partition("-")
    return range(int(first), int(last or first) + 1)


@lru_cache(maxsize=1)
def declarations() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))
