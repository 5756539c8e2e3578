"""Which rows are trained on, and with whose persona: a stated mix of configs, a stated number, a part kept back for validation.

Mirrored contrast pairs go together everywhere. All draws depend on `rows_seed` and ids alone, so that runs with different training seeds
see the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, Value

from builder.errors import InputError
from builder.randomness import rng_for, seed_for
from training.conditioning import Conditioning
from training.prompts import PersonaPrompts


def choose_rows(
    rows: Dataset, shares: Sequence[float] | None, configs: Sequence[str], limit: int | None, seed: int
) -> Dataset:
    """At most `limit` rows with `shares` of the configs (one each, in the order of `configs`; None: as they come).

    With shares as many rows as the scarcest config allows. Raises InputError for shares that do not fit the configs.
    """
    kinds = rows["pair_kind"][:]
    if shares is None:
        # A draw over all rows; its mix is that of the dataset, but for chance.
        return rows.select(_draw(rows, range(len(rows)), len(rows) if limit is None else limit, seed))
    if len(shares) != len(configs) or any(not share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"dataset_shares is {list(shares)} for the configs {list(configs)}; give one positive share a config, together 1."
        )
    places = {config: [i for i, kind in enumerate(kinds) if kind == config] for config in configs}
    total = min(len(places[config]) / share for config, share in zip(configs, shares, strict=True))
    total = min(total, len(rows) if limit is None else limit)
    chosen: list[int] = []
    for config, share in zip(configs, shares, strict=True):
        chosen += _draw(rows, places[config], round(total * share), seed)
    return rows.select(sorted(chosen))


def split_validation(rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """(rows to train on, rows kept back): the pairs of `share` of the questions, at least one, so that no text of theirs is trained on."""
    if share == 0:
        return rows, rows.select([])
    questions = sorted(set(rows["prompt_id"][:]), key=lambda prompt: seed_for(seed, "validation", prompt))
    kept_back = set(questions[: max(1, round(share * len(questions)))])
    if len(kept_back) == len(questions):
        raise InputError(
            f"validation_share is {share}, but the train rows have only {len(questions)} questions, so that none would be left to train on."
        )
    places = [i for i, prompt in enumerate(rows["prompt_id"][:]) if prompt in kept_back]
    others = sorted(set(range(len(rows))) - set(places))
    return rows.select(others), rows.select(places)


def condition_rows(rows: Dataset, prompts: PersonaPrompts, dropout: float = 0.0) -> Dataset:
    """The rows with the prompt that the trainer gets, and `shown_persona_id`: whose persona it shows (null: none).

    dropout: share of the rows, drawn by id, whose prompt shows no persona.
    """

    if len(rows) == 0:  # `map` adds no column to a table without rows
        columns = Features({**rows.features, "shown_persona_id": Value("string")})
        return Dataset.from_dict({name: [] for name in columns}, features=columns)

    def conditioned(row: Mapping[str, Any]) -> dict[str, Any]:
        shown = shown_in_training(row, prompts.conditioning, dropout)
        return {"prompt": prompts.messages(shown, row["prompt_id"], row["question"]), "shown_persona_id": shown or ""}

    mode = prompts.conditioning.mode
    return rows.map(conditioned, desc=f"Prompts with persona: {mode}", load_from_cache_file=False)


def shown_in_training(row: Mapping[str, Any], conditioning: Conditioning, dropout: float) -> str | None:
    """Whose persona the row's prompt shows; None: none."""
    if conditioning.mode == "none":
        return None
    mirrored_set = min(row["pair_id"], row["mirror_pair_id"] or row["pair_id"])
    if dropout and rng_for(conditioning.seed, "persona_dropout", mirrored_set).random() < dropout:
        return None
    return row["wrong_persona_id"] if conditioning.mode == "shuffled" else row["persona_id"]


def _draw(rows: Dataset, places: Sequence[int], count: int, seed: int) -> list[int]:
    """`count` of these rows or one less, in the dataset's order; a pair and its mirror together."""
    ids, mirrors = rows["pair_id"][:], rows["mirror_pair_id"][:]  # as lists: one value at a time of a table is slow
    sets: dict[str, list[int]] = {}
    for place in places:
        sets.setdefault(min(ids[place], mirrors[place] or ids[place]), []).append(place)
    drawn: list[int] = []
    for name in sorted(sets, key=lambda name: seed_for(seed, "train_rows", name)):
        if len(drawn) + len(sets[name]) <= count:
            drawn += sets[name]
    return sorted(drawn)
