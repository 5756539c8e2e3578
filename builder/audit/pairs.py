"""A pair table as the audit reads it: numbers for every row, texts for a sample.

A table of full size holds gigabytes of text. Ids become numbers, every text a 64-bit hash and its number of words; the texts themselves
are kept only for the pairs on which probes are fitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from builder.lexical import words
from builder.randomness import rng_for
from builder.schema import SPLITS
from builder.statistics import Cluster
from builder.tables import iterate_rows, read_columns

SMALL = (
    *("split", "pair_id", "persona_id", "prompt_id", "persona_group", "wrong_persona_id"),
    *("chosen_tokens", "rejected_tokens", "length_violation", "attribute_leak", "inferable_attributes"),
)
OWN = {"dpf": ("base_id",), "dpf_matched": ("base_id",), "contrast": ("partner_persona_id", "mirror_pair_id")}
TEXTS = ("chosen.list.element.content", "rejected.list.element.content")
UNKNOWN = -1  # an id that the table of personas, prompts or pairs does not hold
ABSENT = -2  # no id at all
FEWEST_PROMPTS = 5  # one for every fold, also where a single prompt has more pairs than wanted


@dataclass(frozen=True)
class Sample:
    """The pairs on which probes are fitted, by pair id: `rows` are their places in the table, shape (sampled,)."""

    rows: np.ndarray
    chosen: list[str]
    rejected: list[str]


@dataclass(frozen=True)
class Pairs:
    """One pair table. All arrays have shape (pairs,); persona, partner, wrong and prompt are places in the tables of personas and prompts.

    `chosen`, `rejected`: hashes of the texts. `mirror`: place of the mirror in this table. `base`: number of the base answer. `partner`,
    `mirror` and `base` are ABSENT where the config has none.
    """

    config: str
    personas: Sequence[str]
    prompts: Sequence[str]
    pair_ids: Any  # pyarrow strings
    split: np.ndarray
    persona: np.ndarray
    partner: np.ndarray
    wrong: np.ndarray
    prompt: np.ndarray
    mirror: np.ndarray
    base: np.ndarray
    base_ids: Sequence[str]
    group: np.ndarray  # of strings
    chosen: np.ndarray
    rejected: np.ndarray
    degenerate: np.ndarray  # an empty side, or twice the same text
    chosen_words: np.ndarray
    rejected_words: np.ndarray
    chosen_tokens: np.ndarray
    rejected_tokens: np.ndarray
    not_shorter: np.ndarray
    names_attribute: np.ndarray
    gives_away: np.ndarray  # number of attributes that can be inferred
    sample: Sample

    def __len__(self) -> int:
        return len(self.persona)

    def clusters(self, rows: np.ndarray | None = None) -> list[Cluster]:
        """Who a pair belongs to: the two personas of a contrast pair, else persona and prompt.

        All pairs of a prompt share its base answer, so that prompts are drawn like personas; an interval over personas alone would be
        too narrow.
        """
        rows = np.arange(len(self)) if rows is None else rows
        if self.config == "contrast":
            first, second = np.minimum(self.persona, self.partner)[rows], np.maximum(self.persona, self.partner)[rows]
            return [(self._name(a), self._name(b)) for a, b in zip(first, second, strict=True)]
        return [
            (self._name(a), self.prompts[b] if b >= 0 else "?")
            for a, b in zip(self.persona[rows], self.prompt[rows], strict=True)
        ]

    def _name(self, persona: int) -> str:
        return self.personas[persona] if persona >= 0 else "?"


def read_pairs(
    run: Path,
    config: str,
    personas: Sequence[str],
    prompts: Sequence[str],
    seed: int,
    probe_pairs: int,
    counted: dict[int, int],
) -> Pairs:
    """Read RUN/tables/<config>.parquet once. `counted`: words of the texts counted so far, by hash; it grows."""
    table = read_columns(run, config, (*SMALL, *OWN[config]))
    split = _places(table["split"], SPLITS)
    prompt = _places(table["prompt_id"], prompts)
    rows = _sample_rows(table["pair_id"], table["prompt_id"], seed, probe_pairs)
    wanted = np.zeros(len(prompt), dtype=bool)
    wanted[rows] = True

    n = table.num_rows
    hashes = np.zeros((n, 2), dtype=np.uint64)
    lengths = np.zeros((n, 2), dtype=np.int32)
    degenerate = np.zeros(n, dtype=bool)
    kept: dict[int, tuple[str, str]] = {}
    for place, row in enumerate(iterate_rows(run, config, TEXTS)):
        sides = _text(row["chosen"]), _text(row["rejected"])
        for side, text in enumerate(sides):
            number = text_hash(text)
            hashes[place, side] = number
            if number not in counted:
                counted[number] = len(words(text))
            lengths[place, side] = counted[number]
        stripped = sides[0].strip(), sides[1].strip()
        degenerate[place] = not stripped[0] or not stripped[1] or stripped[0] == stripped[1]
        if wanted[place]:
            kept[place] = sides

    absent = np.full(n, ABSENT)
    contrast = config == "contrast"
    base_ids = [] if contrast else table["base_id"].unique().to_pylist()
    return Pairs(
        config=config,
        personas=personas,
        prompts=prompts,
        pair_ids=table["pair_id"],
        split=split,
        persona=_places(table["persona_id"], personas),
        partner=_places(table["partner_persona_id"], personas) if contrast else absent,
        wrong=_places(table["wrong_persona_id"], personas),
        prompt=prompt,
        mirror=_places(table["mirror_pair_id"], table["pair_id"]) if contrast else absent,
        base=absent if contrast else _places(table["base_id"], base_ids),
        base_ids=base_ids,
        group=np.array(table["persona_group"].to_pylist(), dtype=object),
        chosen=hashes[:, 0],
        rejected=hashes[:, 1],
        degenerate=degenerate,
        chosen_words=lengths[:, 0],
        rejected_words=lengths[:, 1],
        chosen_tokens=_numbers(table["chosen_tokens"]),
        rejected_tokens=_numbers(table["rejected_tokens"]),
        not_shorter=_numbers(table["length_violation"]),
        names_attribute=_numbers(table["attribute_leak"]),
        gives_away=_lengths(table["inferable_attributes"]),
        sample=Sample(rows, [kept[i][0] for i in rows.tolist()], [kept[i][1] for i in rows.tolist()]),
    )


def text_hash(text: str) -> int:
    """64 bits: among a million texts the chance that two share one is 3 in 100 million."""
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def _text(message: list[dict[str, str]] | None) -> str:
    return message[0]["content"] or "" if message else ""


def _places(column: Any, ids: Any) -> np.ndarray:
    """Where each value of an Arrow column stands among `ids`: UNKNOWN if nowhere, ABSENT for a null."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    known = ids.combine_chunks() if isinstance(ids, arrow.ChunkedArray) else arrow.array(ids, arrow.string())
    places = compute.index_in(column, value_set=known)
    places = compute.if_else(column.is_null(), ABSENT, compute.fill_null(places, UNKNOWN))
    return places.to_numpy().astype(np.int32)


def _numbers(column: Any) -> np.ndarray:
    import pyarrow as arrow

    return column.cast(arrow.int64()).fill_null(0).to_numpy()


def _lengths(column: Any) -> np.ndarray:
    import pyarrow.compute as compute

    return compute.list_value_length(column).fill_null(0).to_numpy()


def _sample_rows(pair_ids: Any, prompt_ids: Any, seed: int, wanted: int) -> np.ndarray:
    """Places of all pairs of as many prompts, in a seeded order, as together have at most `wanted` pairs; sorted by pair id.

    Prompts are drawn whole, so that a contrast pair and its mirror are drawn together.
    """
    import pyarrow.compute as compute

    order = compute.sort_indices(pair_ids).to_numpy()
    prompts, place = np.unique(np.array(prompt_ids.to_pylist(), dtype=str), return_inverse=True)
    if not len(prompts):
        return order
    drawn = rng_for(seed, "audit.sample", "prompts").permutation(len(prompts))
    together = np.cumsum(np.bincount(place, minlength=len(prompts))[drawn])
    count = max(int((together <= wanted).sum()), min(FEWEST_PROMPTS, len(prompts)))
    chosen = np.zeros(len(prompts), dtype=bool)
    chosen[drawn[:count]] = True
    return order[chosen[place][order]]
