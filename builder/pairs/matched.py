"""`dpf_matched`: of the pairs written without a word about shortness those are kept whose lengths, taken together, tell nothing.

An order to keep the length is not obeyed exactly, so selection does the rest. Within each (split, persona group) a pair whose chosen side
is longer by some amount stays only with another whose chosen side is shorter by the same amount. Every rule that looks at length alone and
treats the two sides alike, "take the shorter one" among them, then wins exactly half of what is kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from builder.lexical import words
from builder.randomness import seed_for

# What `length_rows` reads of a pair table.
MATCHED_COLUMNS = ("pair_id", "split", "persona_group", "chosen_tokens", "rejected_tokens", "chosen", "rejected")
# Pair id, split, persona group, and chosen minus rejected: tokens, and whatever else is to be balanced.
LengthRow = tuple[str, str, str, tuple[int, ...]]


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
        yield pair_id, split, group, (chosen_tokens - rejected_tokens, longer_in_words, longer_in_characters)


def select_symmetric(seed: int, rows: Iterable[LengthRow]) -> tuple[set[str], dict[str, Any]]:
    """(ids of the pairs to keep, what the choice left out).

    Within each (split, persona group) as many kept pairs have the differences `d` as have `-d`, for every `d`; a pair without any
    difference is always kept. Of the side with more pairs a seeded draw over pair ids stays, so the order of `rows` changes nothing.

    The report says for each split {in, kept, share_kept, dropped: {unmatched_length: n}}.
    """
    cells: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for pair_id, split, group, difference in rows:
        cells.setdefault((split, group, difference), []).append(pair_id)
    kept: set[str] = set()
    before, after = Counter[str](), Counter[str]()
    for (split, group, difference), ids in cells.items():
        opposite = cells.get((split, group, tuple(-d for d in difference)), [])
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
