"""What a visitor asked for in the address, as conditions for DuckDB: column names from lists of ours, values only ever bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from builder.schema import ATTRIBUTES, BIG_FIVE

LONGEST_SEARCH = 200  # characters
LONGEST_VALUE = 500
LARGEST_NUMBER = 10**15  # of a row in an address

# Parameter -> column of the index of pairs.
PAIR_VALUES = {
    "config": "config",
    "split": "split",
    "persona": "persona_id",
    "partner": "partner_persona_id",
    "prompt": "prompt_id",
    "topic": "topic",
    "group": "persona_group",
    "verdict": "judge_verdict",
    "judge": "judge",
}
PAIR_FLAGS = {"flip": "flip", "length": "length_violation", "leak": "attribute_leak", "adult": "is_adult"}
SEARCHED = ("any", "question", "chosen", "rejected", "critique")
PAIR_PARAMETERS = (*PAIR_VALUES, *PAIR_FLAGS, "q", "in", "after", "before")
# What the lists of questions and of personas take.
PROMPT_PARAMETERS = ("q", "topic", "pool", "votes", "after", "before")
FACETS = (*ATTRIBUTES, *BIG_FIVE)
PERSONA_PARAMETERS = ("q", "group", "adult", "show", "after", "before", *(f for f in FACETS if f != "big_five_scores"))
NOT_GIVEN = "(not given)"
# Numbers are offered in bands: (from, to), both included; None is open.
BANDS: Mapping[str, Sequence[tuple[int | None, int | None]]] = {
    "age": ((None, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 74), (75, None)),
    "income": ((None, 0), (1, 24_999), (25_000, 49_999), (50_000, 99_999), (100_000, 199_999), (200_000, None)),
}


class BadRequest(Exception):  # noqa: N818 - shown as a page
    """The address asks for something that there is not. The message says what is possible."""


class NotFound(Exception):  # noqa: N818 - shown as a page
    """No such persona, question, pair or result."""


@dataclass(frozen=True)
class Asked:
    """The parameters of an address that are filled in, in the order of `known`."""

    values: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    def address(self, page: str, **changed: str | int | None) -> str:
        """A relative link with these parameters, some of them changed; None or "" leaves one out."""
        values = {**self.values, **changed}
        # What the address is of stands in front of where one came from.
        kept = {
            name: values[name] for name in sorted(values, key=lambda n: n != "id") if values[name] not in (None, "")
        }
        return page + ("?" + urlencode(kept) if kept else "")

    def without_place(self) -> "Asked":
        """The filter alone, whatever page of it is looked at."""
        return Asked({k: v for k, v in self.values.items() if k not in ("after", "before", "id", "view", "show")})


def read_address(given: Sequence[tuple[str, str]], known: Sequence[str]) -> Asked:
    """Raises BadRequest for an unknown parameter, one given twice, or a value longer than any there can be."""
    values: dict[str, str] = {}
    for name, raw in given:
        if name.startswith("__"):  # Hugging Face adds such to the address of a Space
            continue
        if name not in known:
            raise BadRequest(f"There is no filter “{name[:60]}” here. There are: {', '.join(known)}.")
        value = raw.replace("\0", "").strip()
        if not value:
            continue
        if name in values:
            raise BadRequest(f"The filter “{name}” is given twice. Keep one of them.")
        limit = LONGEST_SEARCH if name == "q" else LONGEST_VALUE
        if len(value) > limit:
            raise BadRequest(f"“{name}” has {len(value):,} characters; at most {limit} are taken. Shorten it.")
        values[name] = value
    return Asked({name: values[name] for name in known if name in values})


def place_in(asked: Asked) -> tuple[int | None, int | None]:
    """(after, before): the number of the row behind which, or in front of which, the page stands. Raises BadRequest."""
    numbers: list[int | None] = []
    for name in ("after", "before"):
        text = asked[name]
        if text and not (text.isascii() and text.isdigit() and int(text) <= LARGEST_NUMBER):
            raise BadRequest(f"“{name}” is the number of a row, and “{text[:40]}” is none. Go on from the first page.")
        numbers.append(int(text) if text else None)
    return numbers[0], numbers[1] if numbers[0] is None else None


@dataclass(frozen=True)
class Where:
    """SQL with a `?` for each of `parameters`."""

    conditions: tuple[str, ...] = ()
    parameters: tuple[str | int | float | bool, ...] = ()

    def sql(self) -> str:
        return " AND ".join(self.conditions) or "true"

    def with_(self, condition: str, *parameters: str | int | float | bool) -> "Where":
        return Where((*self.conditions, condition), (*self.parameters, *parameters))


def pairs_where(asked: Asked, leave_out: str = "") -> Where:
    """The light filters of pairs, all but the search in texts. Raises BadRequest for a switch that is neither yes nor no."""
    where = Where()
    for name, column in PAIR_VALUES.items():
        if asked[name] and name != leave_out:
            # An unknown value becomes null, and null equals nothing.
            where = where.with_(f"{column} = TRY_CAST(? AS {column}_values)", asked[name])
    for name, column in PAIR_FLAGS.items():
        if asked[name] and name != leave_out:
            where = where.with_(f"{column} = ?", yes_or_no(asked, name))
    return where


def yes_or_no(asked: Asked, name: str) -> bool:
    if asked[name] not in ("yes", "no"):
        raise BadRequest(f"“{name}” is yes or no, and “{asked[name][:40]}” is neither.")
    return asked[name] == "yes"


def prompts_where(asked: Asked) -> Where:
    where = Where()
    if asked["q"]:
        where = where.with_("(question ILIKE ? ESCAPE '\\' OR prompt_id = ?)", like(asked["q"]), asked["q"])
    for name in ("topic", "pool"):
        if asked[name]:
            where = where.with_(f"{name} = ?", asked[name])
    if asked["votes"]:
        low, high = VOTES.get(asked["votes"], (None, None))
        if low is None:
            raise BadRequest(f"“votes” is one of {', '.join(VOTES)}.")
        where = where.with_("controversy_score >= ? AND controversy_score <= ?", low, high or 1.0)
    return where


VOTES: Mapping[str, tuple[float, float]] = {"all": (1.0, 1.0), "most": (0.5, 0.999999), "few": (0.0, 0.499999)}


def personas_where(asked: Asked, leave_out: str = "") -> Where:
    where = Where()
    if asked["q"]:
        where = where.with_("(profile ILIKE ? ESCAPE '\\' OR persona_id = ?)", like(asked["q"]), asked["q"])
    if asked["group"]:
        where = where.with_('"group" = ?', asked["group"])
    if asked["adult"]:
        where = where.with_("is_adult = ?", yes_or_no(asked, "adult"))
    for name in FACETS:
        if name == "big_five_scores" or not asked[name] or name == leave_out:
            continue
        shown = column_of(name)
        if asked[name] == NOT_GIVEN:
            where = where.with_(f"{shown} IS NULL")
        elif name in BANDS:
            low, high = band(name, asked[name])
            where = where if low is None else where.with_(f"{shown} >= ?", low)
            where = where if high is None else where.with_(f"{shown} <= ?", high)
        else:
            where = where.with_(f"{shown}::VARCHAR = ?", asked[name])
    return where


def column_of(name: str) -> str:
    """The SQL of an attribute or of one of the five traits."""
    return f"big_five_scores.{name}" if name in BIG_FIVE else name


def band(name: str, text: str) -> tuple[int | None, int | None]:
    """`25..34`, `..17`, `75..` or one number. Raises BadRequest."""
    low, dots, high = text.partition("..")
    try:
        ends = [int(end) if end else None for end in ((low, high) if dots else (text, text))]
    except ValueError:
        ends = []
    if not any(end is not None for end in ends) or any(end is not None and abs(end) > LARGEST_NUMBER for end in ends):
        raise BadRequest(f"“{name}” is a number or a band such as 25..34, and “{text[:40]}” is neither.")
    return ends[0], ends[1]


def band_text(low: int | None, high: int | None) -> str:
    return f"{'' if low is None else low}..{'' if high is None else high}"


def like(text: str) -> str:
    """A pattern for ILIKE ... ESCAPE '\\' that finds the text anywhere, its own % and _ taken as they are."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
