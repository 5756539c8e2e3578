"""`dpf_matched`: of the pairs written without a word about shortness those are kept whose lengths, taken together, tell nothing.

An order to keep the length is not obeyed exactly, so selection does the rest, by exchange: within each (split, persona group) a pair stays
only with a counterpart whose two sides have each other's lengths. Differences alone would not do. Where revisions are pulled towards a
usual length, as many are longer as shorter, and yet "the side nearer to the usual length" wins.
"""

import functools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from builder.lexical import words
from builder.randomness import seed_for

# What `length_rows` reads of a pair table.
MATCHED_COLUMNS = ("pair_id", "split", "persona_group", "chosen_tokens", "rejected_tokens", "chosen", "rejected")
# The length bins of (chosen, rejected), and chosen minus rejected: tokens, and whatever else is to be balanced.
Lengths = tuple[tuple[int, int], tuple[int, ...]]
# Pair id, split, persona group, lengths.
LengthRow = tuple[str, str, str, Lengths]
LONGEST = 1_000_000  # tokens; what is longer falls into the last bin


def length_rows(table: Any) -> Iterator[LengthRow]:
    """The small columns of an Arrow table with MATCHED_COLUMNS, a shard's at a time: texts are read and let go.

    The differences are that of the tokens, and the signs (-1, 0, 1) of those of words (as the audit counts them) and characters: which side
    is shorter by words or by characters then tells as little as which is shorter by tokens. Their sizes would leave few pairs a match.
    """
    columns = table.select(MATCHED_COLUMNS).to_pydict()
    for pair_id, split, group, chosen_tokens, rejected_tokens, chosen, rejected in zip(
        *(columns[name] for name in MATCHED_COLUMNS), strict=True
    ):
        first, second = chosen[0]["content"], rejected[0]["content"]
        longer_in_words = _sign(len(words(first)) - len(words(second)))
        longer_in_characters = _sign(len(first) - len(second))
        bins = length_bin(chosen_tokens), length_bin(rejected_tokens)
        yield pair_id, split, group, (bins, (chosen_tokens - rejected_tokens, longer_in_words, longer_in_characters))


def length_bin(tokens: int) -> int:
    """Which of the bins holds this length: one for every length up to 10 tokens, then each about 10 % wide."""
    return bisect_right(_bin_starts(), tokens)


@functools.cache
def _bin_starts() -> list[int]:
    # In whole numbers: a logarithm is rounded differently from machine to machine, and a length at an edge would change its bin.
    starts = [1]
    while starts[-1] < LONGEST:
        starts.append(max(starts[-1] + 1, starts[-1] * 11 // 10))
    return starts


def exchanged(lengths: Lengths) -> Lengths:
    """Those of the same two texts with the rejected one chosen."""
    (chosen, rejected), difference = lengths
    return (rejected, chosen), tuple(-d for d in difference)


def select_symmetric(seed: int, rows: Iterable[LengthRow]) -> tuple[set[str], dict[str, Any]]:
    """(ids of the pairs to keep, what the choice left out).

    Within each (split, persona group) as many kept pairs have any given lengths as have these exchanged. So every rule that sees only the
    two bins of length, whatever it makes of them, and takes the same text in whichever place it stands, wins exactly half of what is kept;
    so does every rule on the exact differences. A rule on exact lengths has only the insides of the bins to go by.

    A pair with two sides of one bin and no difference is its own counterpart and always kept. Of the side with more pairs a seeded draw
    over pair ids stays, so the order of `rows` changes nothing.

    The report says for each split {in, kept, share_kept, dropped: {unmatched_length: n}}.
    """
    cells: dict[tuple[str, str, Lengths], list[str]] = {}
    for pair_id, split, group, lengths in rows:
        cells.setdefault((split, group, lengths), []).append(pair_id)
    kept: set[str] = set()
    before, after = Counter[str](), Counter[str]()
    for (split, group, lengths), ids in cells.items():
        opposite = cells.get((split, group, exchanged(lengths)), [])
        if len(opposite) < len(ids):
            stay = sorted(ids, key=lambda pair_id: (seed_for(seed, "matched", pair_id), pair_id))[: len(opposite)]
        else:
            stay = ids
        kept.update(stay)
        before[split] += len(ids)
        after[split] += len(stay)
    report = {
        split: {
            "in": before[split],
            "kept": after[split],
            "share_kept": after[split] / before[split],
            "dropped": {"unmatched_length": before[split] - after[split]},
        }
        for split in sorted(before)
    }
    return kept, report


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
