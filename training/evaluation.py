"""What is scored in an evaluation: test rows under the true, no and a wrong persona, each (persona, question, answer) once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from training.conditioning import CONDITIONS
from training.metrics import sample_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """An answer to be scored, with the persona that the scorer is shown (None: no persona)."""

    persona_id: str | None
    prompt_id: str
    question: str
    answer: str


# One score a candidate, in their order; higher = preferred.
ScoreFunction = Callable[[Sequence[Candidate]], list[float]]


@dataclass(frozen=True)
class Scorer:
    """A loaded model. usable: whether a candidate can be scored at all (short enough, its persona known). record: its training.json."""

    score: ScoreFunction
    usable: Callable[[Candidate], bool]
    record: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """rows: the drawn rows, each with its `split`. candidates: the distinct ones.

    places: for each condition and row the indices of its chosen and its rejected answer in `candidates`. left_out: rows of which an answer
    cannot be scored under one of the conditions, with their mirrors.
    """

    rows: list[dict[str, Any]]
    candidates: list[Candidate]
    places: dict[str, list[tuple[int, int]]]
    left_out: int

    def margins(self, scores: Sequence[float]) -> dict[str, list[float]]:
        """Score of chosen minus score of rejected, by condition and row. `scores`: one a candidate."""
        return {
            condition: [scores[chosen] - scores[rejected] for chosen, rejected in places]
            for condition, places in self.places.items()
        }


def plan_evaluation(
    splits: Mapping[str, Sequence[Row] | Dataset], limit: int | None, seed: int, usable: Callable[[Candidate], bool]
) -> Evaluation:
    """At most `limit` rows of each pair config in each cell (None: all), drawn by `seed` and id.

    A row: `pair_id, mirror_pair_id, persona_id, wrong_persona_id, prompt_id, question, chosen, rejected` and what the metrics group by.
    usable: whether the scorer can score a candidate (short enough for it, its persona known to it).
    """
    rows = drawn_rows(splits, limit, seed)
    kept = _usable_rows(rows, usable)
    candidates: dict[Candidate, int] = {}

    def place(candidate: Candidate) -> int:
        return candidates.setdefault(candidate, len(candidates))

    places = {
        condition: [
            (place(candidate_of(row, condition, "chosen")), place(candidate_of(row, condition, "rejected")))
            for row in kept
        ]
        for condition in CONDITIONS
    }
    return Evaluation(kept, list(candidates), places, len(rows) - len(kept))


def drawn_rows(splits: Mapping[str, Sequence[Row] | Dataset], limit: int | None, seed: int) -> list[dict[str, Any]]:
    """The rows of `plan_evaluation`, before it is known which of them can be scored.

    Drawn by their ids, and only then read: of a full dataset's hundreds of thousands of rows mostly a few hundred are asked for.
    """
    drawn: list[dict[str, Any]] = []
    for split, rows in splits.items():
        places = drawn_places(rows, limit, seed)
        chosen = rows.select(places) if isinstance(rows, Dataset) else [rows[place] for place in places]
        drawn += [{**row, "split": split} for row in chosen]
    return drawn


def drawn_places(rows: Sequence[Row] | Dataset, limit: int | None, seed: int) -> list[int]:
    """Where the drawn rows of one split stand: at most `limit` of each pair config and persona group, cell after cell."""
    names = ("pair_kind", "persona_group", "pair_id", "mirror_pair_id")
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for place, values in enumerate(zip(*(_column(rows, name) for name in names), strict=True)):
        kind, group, pair, mirror = values
        cells.setdefault((kind, group), []).append({"pair_id": pair, "mirror_pair_id": mirror, "place": place})
    return [row["place"] for own in cells.values() for row in sample_rows(own, limit, seed)]


def _column(rows: Sequence[Row] | Dataset, name: str) -> Sequence[Any]:
    return rows[name][:] if isinstance(rows, Dataset) else [row[name] for row in rows]


def candidate_of(row: Row, condition: str, side: str) -> Candidate:
    """side: `chosen` or `rejected`."""
    return Candidate(shown_persona(row, condition), row["prompt_id"], row["question"], row[side][0]["content"])


def pair_candidates(rows: Iterable[Row]) -> list[Candidate]:
    """Two candidates a row, chosen then rejected, with its own persona."""
    return [candidate_of(row, "true", side) for row in rows for side in ("chosen", "rejected")]


def shown_persona(row: Row, condition: str) -> str | None:
    """Whose persona is shown under a condition."""
    return {"true": row["persona_id"], "none": None, "wrong": row["wrong_persona_id"]}[condition]


def _usable_rows(rows: list[dict[str, Any]], usable: Callable[[Candidate], bool]) -> list[dict[str, Any]]:
    """Whole mirrored sets: without its mirror a contrast row would let a persona-blind model score other than one half."""
    fitting = {
        row["pair_id"]
        for row in rows
        if all(
            usable(candidate_of(row, condition, side)) for condition in CONDITIONS for side in ("chosen", "rejected")
        )
    }
    return [
        row
        for row in rows
        if row["pair_id"] in fitting and (row["mirror_pair_id"] is None or row["mirror_pair_id"] in fitting)
    ]
