"""What is scored when training ends: test rows under the true, no and a wrong persona, each (prompt, text) once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.schema import preference_messages
from training.conditioning import CONDITIONS, prompt_messages
from training.metrics import sample_rows
from training.scoring import Item
from training.tokens import token_ids

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """rows: the drawn rows, each with its `split` and the true persona's prompt. items: the distinct (messages, text).

    places: for each condition and row the indices of its chosen and its rejected text in `items`. left_out: rows of which a text is longer
    than the model reads, under whatever condition, with their mirrors.
    """

    rows: list[dict[str, Any]]
    items: list[Item]
    places: dict[str, list[tuple[int, int]]]
    left_out: int

    def margins(self, scores: Sequence[float]) -> dict[str, list[float]]:
        """Score of chosen minus score of rejected, by condition and row. `scores`: one an item."""
        return {
            condition: [scores[chosen] - scores[rejected] for chosen, rejected in places]
            for condition, places in self.places.items()
        }


def plan_evaluation(
    splits: Mapping[str, Sequence[Row]],
    profiles: Mapping[str, str],
    limit: int | None,
    seed: int,
    tokenizer: Any,
    context: int | None,
) -> Evaluation:
    """At most `limit` rows of each split (None: all), whatever the model was trained to see.

    context: the tokens that the model reads. Raises InputError for a wrong persona without a profile.
    """
    rows = [
        # A blind model's rows carry the neutral text; here every row gets its own persona back.
        {
            **row,
            "split": split,
            "prompt": preference_messages(profiles[row["persona_id"]], row["prompt"][-1]["content"]),
        }
        for split, all_rows in splits.items()
        for row in sample_rows(all_rows, limit, seed)
    ]
    kept = _rows_that_fit(rows, profiles, tokenizer, context)
    items: list[Item] = []
    known: dict[tuple[str, str, str], int] = {}

    def place(messages: list[dict[str, str]], text: str) -> int:
        key = (messages[0]["content"], messages[-1]["content"], text)
        if key not in known:
            known[key] = len(items)
            items.append((messages, text))
        return known[key]

    places: dict[str, list[tuple[int, int]]] = {}
    for condition in CONDITIONS:
        shown = [(prompt_messages(condition, row, profiles), row) for row in kept]
        places[condition] = [
            (place(messages, row["chosen"][0]["content"]), place(messages, row["rejected"][0]["content"]))
            for messages, row in shown
        ]
    return Evaluation(kept, items, places, len(rows) - len(kept))


def _rows_that_fit(
    rows: list[dict[str, Any]], profiles: Mapping[str, str], tokenizer: Any, context: int | None
) -> list[dict[str, Any]]:
    """The wrong persona's profile may be longer than the true one's, whose row was measured before training."""
    if context is None:
        return rows

    def fits(row: dict[str, Any]) -> bool:
        return all(
            len(token_ids(tokenizer, prompt_messages(condition, row, profiles) + row[side])) <= context
            for condition in CONDITIONS
            for side in ("chosen", "rejected")
        )

    fitting = {row["pair_id"] for row in rows if fits(row)}
    return [
        row
        for row in rows
        if row["pair_id"] in fitting and (row["mirror_pair_id"] is None or row["mirror_pair_id"] in fitting)
    ]
