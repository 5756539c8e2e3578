"""Which pairs a filter finds, a page at a time, and how many they are.

The light columns answer at once. A search in texts reads the files from where the page begins until the page is full or the time is over;
then it says how far it came, and the next page goes on from there.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.explore.database import TEXTS, Part, Tables, TooSlow, text_of
from eval.explore.filters import SEARCHED, Asked, BadRequest, Where, like, pairs_where

PAGE = 25  # pairs
SEARCH_SECONDS = 5.0
NEIGHBOUR_SECONDS = 2.0
COUNT_SECONDS = 0.5  # spent on counting hits beyond the page
MOST_COUNTED = 1000
# Rows looked at at once: few at first, since what hits often is found in them; then more, since each query costs some milliseconds.
FIRST_BITE, LARGEST_BITE = 2_000, 128_000
AT_ONCE = 2  # searches in texts: each takes every core
MOST_WAITING = 8  # callers who wait for their turn: each holds one of the server's threads, which quick pages need too
WAIT_SECONDS = 10.0

_searches = threading.BoundedSemaphore(AT_ONCE)
_room = threading.BoundedSemaphore(AT_ONCE + MOST_WAITING)


class Busy(Exception):  # noqa: N818 - shown as a page
    """Too many others search."""


@dataclass(frozen=True)
class Found:
    """numbers: of the pairs of this page, ascending. earlier, later: whether there are more on that side; None where a search in texts
    stopped before it knew. looked: pairs that a search in texts has looked at, of those from which it began. stopped_at: the number of the
    last pair looked at, where the time was over first.
    """

    numbers: Sequence[int]
    earlier: bool
    later: bool
    looked: int = 0
    stopped_at: int | None = None
    count: str = ""


def find_pairs(tables: Tables, asked: Asked, after: int | None = None, before: int | None = None) -> Found:
    """One page. after, before: see filters.place_in. Raises Busy where too many others search, and TooSlow where not even the first pairs
    could be looked at in time.
    """
    if asked["q"]:
        key = ("find", asked.without_place().address(""), after, before)
        found: Found | None = tables.kept(key)
        if found is not None:
            return found
        if not _room.acquire(blocking=False):
            raise Busy
        try:
            found = tables.keep(key, lambda: _find_texts(tables, asked, after, before))
        finally:
            _room.release()
        return found
    where = pairs_where(asked)
    if before is not None:
        numbers = _numbers(tables, where.with_("num < ?", before), "DESC", PAGE + 1)
        return Found(numbers[-PAGE:], len(numbers) > PAGE, True, count=f"{tables.count('pairs', where):,}")
    start = -1 if after is None else after
    numbers = _numbers(tables, where.with_("num > ?", start), "", PAGE + 1)
    earlier = after is not None and bool(_numbers(tables, where.with_("num <= ?", after), "DESC", 1))
    return Found(numbers[:PAGE], earlier, len(numbers) > PAGE, count=f"{tables.count('pairs', where):,}")


@dataclass(frozen=True)
class Beside:
    """earlier, later: the numbers of the pairs before and behind one in the filter; None where there is none. unknown: which of the two
    links, Previous and Next, a search in texts could not find in time.
    """

    earlier: int | None
    later: int | None
    unknown: Sequence[str] = ()


def neighbours(tables: Tables, asked: Asked, number: int) -> Beside:
    """Never waits for other searches: a pair is shown at once, with its links or without."""
    if asked["q"]:
        key = ("neighbours", asked.without_place().address(""), number)
        beside: Beside = tables.keep(
            key, lambda: _neighbours_in_texts(tables, asked, number), lasting=lambda made: not made.unknown
        )
        return beside
    where = pairs_where(asked)
    sides = (
        _numbers(tables, where.with_("num < ?", number), "DESC", 1),
        _numbers(tables, where.with_("num > ?", number), "", 1),
    )
    return Beside(sides[0][0] if sides[0] else None, sides[1][0] if sides[1] else None)


def _numbers(tables: Tables, where: Where, order: str, limit: int) -> list[int]:
    rows = tables.ask(f"SELECT num FROM pairs WHERE {where.sql()} ORDER BY num {order} LIMIT {limit}", where.parameters)
    return sorted(row["num"] for row in rows)


# ---- in texts


@dataclass(frozen=True)
class _Bite:
    """hits among the `looked` pairs; `last`: the number up to which (down to which) all has been looked at; over: that was all."""

    hits: Sequence[int]
    looked: int
    last: int
    over: bool


def _find_texts(tables: Tables, asked: Asked, after: int | None, before: int | None) -> Found:
    hits: list[int] = []
    looked, stopped, over = 0, None, True
    started = time.monotonic()
    first_page = after is None and before is None
    for bite in _hits(tables, asked, after, before, SEARCH_SECONDS):
        hits += bite.hits
        looked += bite.looked
        stopped, over = bite.last, bite.over
        if len(hits) > PAGE and (
            not first_page or len(hits) > MOST_COUNTED or time.monotonic() - started > COUNT_SECONDS
        ):
            break
    more = len(hits) > PAGE
    page = sorted(hits, reverse=before is not None)[:PAGE]
    counted = f"{len(hits):,}"
    if len(hits) > MOST_COUNTED:
        counted = f"more than {MOST_COUNTED:,}"
    elif not over:
        counted = f"at least {len(hits):,}"
    # Where the time was over before the page was full, the next page goes on from there.
    unfinished = stopped if not over and not more else None
    if before is not None:
        return Found(sorted(page), more or unfinished is not None, True, looked, unfinished)
    return Found(
        page, after is not None, more or unfinished is not None, looked, unfinished, counted if first_page else ""
    )


def _neighbours_in_texts(tables: Tables, asked: Asked, number: int) -> Beside:
    earlier, earlier_known = _first_of(_hits(tables, asked, None, number, NEIGHBOUR_SECONDS, wait_seconds=0))
    later, later_known = _first_of(_hits(tables, asked, number, None, NEIGHBOUR_SECONDS, wait_seconds=0))
    known = {"Previous": earlier_known, "Next": later_known}
    return Beside(earlier, later, tuple(link for link in known if not known[link]))


def _first_of(bites: Iterator[_Bite]) -> tuple[int | None, bool]:
    """(the first hit, whether it is known): the time may be over before there was a hit or an end."""
    try:
        for bite in bites:
            if bite.hits or bite.over:
                return (bite.hits[0] if bite.hits else None), True
    except (Busy, TooSlow):
        pass
    return None, False


def _hits(
    tables: Tables,
    asked: Asked,
    after: int | None,
    before: int | None,
    seconds: float,
    wait_seconds: float = WAIT_SECONDS,
) -> Iterator[_Bite]:
    """Looks at the pairs behind `after`, or backwards from `before`, bite by bite, until all were looked at or the time is over.

    wait_seconds: for a turn; raises Busy where none comes.
    """
    if asked["in"] and asked["in"] not in SEARCHED:
        raise BadRequest(f"“in” is one of {', '.join(SEARCHED)}, and “{asked['in'][:40]}” is none of them.")
    names = tuple(TEXTS) if asked["in"] in ("", "any") else (asked["in"],)
    where = pairs_where(asked)
    backwards = before is not None
    if not _searches.acquire(timeout=wait_seconds):
        raise Busy
    begun = False
    try:
        deadline = time.monotonic() + seconds
        size = FIRST_BITE
        for part in reversed(tables.parts) if backwards else tables.parts:
            low, high = part.first, part.first + part.rows - 1
            low, high = max(low, -1 if after is None else after + 1), min(high, high if before is None else before - 1)
            if where.conditions and low <= high:
                # One persona's pairs lie together: the rest of the file is passed over at once.
                whole = _bounds(tables, where, low, high)
                low, high = (whole[0], whole[1]) if whole is not None else (0, -1)
            while low <= high:
                start, end = (max(low, high - size + 1), high) if backwards else (low, min(high, low + size - 1))
                # Only where the other filters leave something.
                bounds = _bounds(tables, where, start, end) if where.conditions else (start, end, end - start + 1)
                hits: list[int] = []
                if bounds is not None:
                    left = deadline - time.monotonic()
                    try:
                        if left <= 0:
                            raise TooSlow
                        hits = _look(tables, part, asked["q"], names, where, bounds[0], bounds[1], left)
                    except TooSlow:
                        if not begun:
                            raise
                        return
                begun = True
                looked = 0 if bounds is None else bounds[2]
                yield _Bite(sorted(hits, reverse=backwards), looked, start if backwards else end, over=False)
                low, high = (low, start - 1) if backwards else (end + 1, high)
                size = min(2 * size, LARGEST_BITE)
        yield _Bite([], 0, 0 if backwards else tables.rows, over=True)
    finally:
        _searches.release()


def _bounds(tables: Tables, where: Where, start: int, end: int) -> tuple[int, int, int] | None:
    """The first and the last number that the light filters leave between these, and how many."""
    within = where.with_("num BETWEEN ? AND ?", start, end)
    query = f"SELECT min(num) AS low, max(num) AS high, count(*) AS n FROM pairs WHERE {within.sql()}"
    row = tables.ask(query, within.parameters)[0]
    return None if row["low"] is None else (row["low"], row["high"], row["n"])


def _look(
    tables: Tables, part: Part, text: str, names: Sequence[str], where: Where, start: int, end: int, seconds: float
) -> list[int]:
    """The hits among the pairs `start` to `end` of one file."""
    pattern = like(text)
    of_file = [name for name in names if name != "question" or not tables.prompt_columns]
    hits: set[int] = set()
    if of_file:
        conditions = " OR ".join(f"{text_of(part, name)} ILIKE ? ESCAPE '\\'" for name in of_file)
        query = "SELECT file_row_number AS place FROM read_parquet(?, file_row_number=true) "
        query += f"WHERE file_row_number BETWEEN ? AND ? AND ({conditions})"
        found = tables.ask(
            query, [part.path, start - part.first, end - part.first, *([pattern] * len(of_file))], seconds
        )
        hits |= {part.first + row["place"] for row in found}
        if hits and where.conditions:
            numbers = sorted(hits)
            within = where.with_("num BETWEEN ? AND ?", numbers[0], numbers[-1])
            allowed = tables.ask(f"SELECT num FROM pairs WHERE {within.sql()}", within.parameters, seconds)
            hits &= {row["num"] for row in allowed}
    if "question" in names and tables.prompt_columns:
        # A question stands once in `prompts`, and in the pairs only its id counts.
        asks = "prompt_id IN (SELECT TRY_CAST(prompt_id AS prompt_id_values) FROM prompts WHERE question ILIKE ? ESCAPE '\\')"
        within = where.with_("num BETWEEN ? AND ?", start, end).with_(asks, pattern)
        hits |= {
            row["num"] for row in tables.ask(f"SELECT num FROM pairs WHERE {within.sql()}", within.parameters, seconds)
        }
    return sorted(hits)
