"""Which rows of `dpf` are set against each other: how unlike two personas are, and a seeded choice of partners by that distance."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from builder.personas.profile import label
from builder.randomness import rng_for
from builder.recipe import ContrastRecipe
from builder.schema import ATTRIBUTES, BIG_FIVE

Row = dict[str, Any]
# Lowest number of each band but the first, as on the page that compares the personas with the census.
BANDS = {
    "age": (5, 10, 15, 18, 25, 35, 45, 55, 65, 75),
    "income": (0, 1, 10_000, 20_000, 35_000, 50_000, 75_000, 100_000, 150_000),
}
NOT_STATED = -1  # the code of an attribute that a profile does not state
# The bands of distance in the order in which a row is served from them. `spread` begins anywhere and goes round.
NEAR, MIDDLE, FAR, UNKNOWN = range(4)
SERVED = {"near": (NEAR, MIDDLE, FAR), "far": (FAR, MIDDLE, NEAR)}


class Candidate(NamedTuple):
    """Two rows of `dpf` of the same prompt, split and persona group, in the order of their ids, and the distance of their personas."""

    first_pair_id: str
    second_pair_id: str
    distance: float | None  # None where a profile of the two states nothing


class Profiles(NamedTuple):
    """What profiles state, as numbers: two personas agree in a column if their codes there are equal.

    codes: shape (personas, columns), int32; NOT_STATED where a profile says nothing. names: of the columns; a Big Five trait is
    `big_five_scores.openness`. weights: of the columns; those of one attribute add up to 1. row_of: persona id -> row.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray
    row_of: dict[str, int]

    @property
    def states_something(self) -> np.ndarray:
        """Shape (personas,), bool."""
        return (self.codes != NOT_STATED).any(axis=1)

    def distances(self, row: int, others: np.ndarray) -> np.ndarray:
        """Share of the attributes in which `row` differs from each of the rows `others`, from 0 (the same in all) to 1; NaN where either
        states nothing."""
        if not (self.codes[row] != NOT_STATED).any():
            return np.full(len(others), np.nan)
        # Rounded: sums of fifths in another order must not break a tie.
        found = np.round((self.codes[others] != self.codes[row]) @ self.weights / self.weights.sum(), 6)
        found[(self.codes[others] == NOT_STATED).all(axis=1)] = np.nan
        return found


def choose_partners(seed: int, contrast: ContrastRecipe, rows: Any, personas: Sequence[Row]) -> list[Candidate]:
    """Every row draws `contrast.partners` others of its cell (prompt, split, persona group), or all if there are fewer.

    rows: Arrow table with pair_id, persona_id, prompt_id, split, persona_group of all rows of `dpf`, in any order. Two rows that draw each
    other are one candidate. Sorted by ids.

    A row ranks the others of its cell by distance (equal ones in random order) and cuts the ranking into three bands of equal size.
    `spread`: one partner from each band in turn, beginning with a random one; `near`, `far`: from that end's band, and from the next when
    it is used up; `any`: from all alike. Others at no known distance are in no ranking: `spread` puts each into a random band, `near` and
    `far` take them last. Which member of a band is drawn is random. The choice depends on the seed, the row's id and its
    cell only.
    """
    profiles = code_profiles(personas)
    columns = (rows[name].to_pylist() for name in ("pair_id", "persona_id", "prompt_id", "split", "persona_group"))
    cells: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for pair_id, persona_id, *cell in zip(*columns, strict=True):
        cells[tuple(cell)].append((persona_id, pair_id))
    chosen: dict[tuple[str, str], float | None] = {}
    for members in cells.values():
        members.sort()
        coded = np.array([profiles.row_of[persona_id] for persona_id, _ in members])
        for place, (_, pair_id) in enumerate(members):
            others = np.delete(np.arange(len(members)), place)
            distances = profiles.distances(coded[place], coded[others])
            for drawn in draw(rng_for(seed, "contrast_partner", pair_id), contrast, distances):
                first, second = sorted((pair_id, members[others[drawn]][1]))
                chosen[first, second] = None if np.isnan(distances[drawn]) else float(distances[drawn])
    return [Candidate(first, second, chosen[first, second]) for first, second in sorted(chosen)]


def rows_without_partner(rows: Any, candidates: Sequence[Candidate]) -> int:
    """How many rows of `dpf` (Arrow, pair_id) are in no candidate: alone in their cell, so that no contrast pair holds them."""
    paired = {pair_id for candidate in candidates for pair_id in candidate[:2]}
    return sum(pair_id not in paired for pair_id in rows["pair_id"].to_pylist())


def draw(rng: np.random.Generator, contrast: ContrastRecipe, distances: np.ndarray) -> list[int]:
    """Places of the partners drawn, of a row whose others stand at `distances` (NaN: nobody knows)."""
    count = len(distances)
    ties, order = rng.random((2, count))
    if contrast.partner_distance == "any":
        return np.argsort(order)[: contrast.partners].tolist()
    known = int((~np.isnan(distances)).sum())
    ranking = np.lexsort((ties, distances))  # NaN comes last
    bands = np.empty(count, dtype=int)
    # Two others are a near and a far one, a single one is in the middle.
    bands[ranking[:known]] = (2 * np.arange(known) + 1) * 3 // max(1, 2 * known)
    if contrast.partner_distance in SERVED:
        bands[ranking[known:]] = UNKNOWN
        turn = np.array([*SERVED[contrast.partner_distance], UNKNOWN])[bands]
    else:
        start = int(rng.integers(3))
        bands[ranking[known:]] = rng.integers(3, size=count - known)
        # The place within the band comes first, so that the bands take turns.
        within = np.empty(count, dtype=int)
        for band in range(3):
            (inside,) = np.nonzero(bands == band)
            within[inside[np.argsort(order[inside])]] = np.arange(len(inside))
        turn = within * 3 + (bands - start) % 3
    return np.lexsort((order, turn))[: contrast.partners].tolist()


def code_profiles(personas: Sequence[Row]) -> Profiles:
    """The attributes that profiles state: text by what it says, numbers by their band, Big Five scores trait by trait.

    An attribute that a persona has and its profile leaves out (for want of room) is not stated: no model can tell. Attributes that no
    profile states are no columns. Of a persona whose profile has no such lines (free words) every attribute with a value counts as stated.
    """
    stated = [stated_values(persona) or filled(persona) for persona in personas]
    names, weights, columns = [], [], []
    for attribute in ATTRIBUTES:
        values = [values.get(attribute) for values in stated]
        if all(value is None for value in values):
            continue
        parts = BIG_FIVE if attribute == "big_five_scores" else (None,)
        for part in parts:
            names.append(attribute if part is None else f"{attribute}.{part}")
            weights.append(1 / len(parts))
            columns.append(codes_of([in_words(attribute, part, value) for value in values]))
    codes = np.array(columns, dtype=np.int32).reshape(len(columns), len(stated)).T
    return Profiles(
        np.ascontiguousarray(codes),
        tuple(names),
        np.array(weights),
        {persona["persona_id"]: row for row, persona in enumerate(personas)},
    )


def stated_values(persona: Row) -> Row:
    """The values of which the profile has a line."""
    keys = {line.partition(":")[0] for line in (persona["profile"] or "").splitlines()}
    return {a: value for a, value in filled(persona).items() if label(a) in keys}


def filled(persona: Row) -> Row:
    return {a: persona[a] for a in ATTRIBUTES if persona[a] is not None}


def in_words(attribute: str, part: str | None, value: Any) -> Any:
    """What is compared: the level of a trait, the band of a number, otherwise the value itself."""
    if value is None or part is not None:
        return None if value is None else value[part]
    return bisect_right(BANDS[attribute], value) if attribute in BANDS else value


def codes_of(values: Sequence[Any]) -> list[int]:
    """Equal values get equal numbers; None is NOT_STATED."""
    numbers: dict[Any, int] = {None: NOT_STATED}
    return [numbers.setdefault(value, len(numbers)) for value in values]
