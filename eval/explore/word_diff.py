"""What differs between two texts, word by word, as a person would mark it."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

# A word with the space behind it, so that marks join into phrases; punctuation apart, so that `word.` and `word,` share the word.
TOKENS = re.compile(r"\w+(?:['’\-]\w+)*\s*|[^\w\s]\s*|\s+")
# Ordinary texts of this many tokens each take some tens of milliseconds.
MOST_TOKENS = 2000
# Places where the two have the same word: each costs time in every round, so that texts of few words again and again would take minutes.
MOST_MATCHES = 100_000
# With fewer shared words, marks would cover nearly everything and show nothing.
LEAST_SHARED = 0.3


@dataclass(frozen=True)
class Piece:
    """changed: the other text does not have it."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Difference:
    """before, after: the two texts whole, in pieces. shared: of the words of both, the share that the other has at the same place.

    marked: False where the texts share too little, or are too long, to be compared; then each is one piece.
    """

    before: Sequence[Piece]
    after: Sequence[Piece]
    shared: float | None
    marked: bool


def word_difference(before: str, after: str) -> Difference:
    first, second = TOKENS.findall(before), TOKENS.findall(after)
    plain = Difference([Piece(before, False)], [Piece(after, False)], None, False)
    if len(first) + len(second) > 2 * MOST_TOKENS:
        return plain
    # Space and case do not make another word.
    keys = [[token.strip().casefold() for token in tokens] for tokens in (first, second)]
    often = [Counter(own) for own in keys]
    if sum(number * often[1][key] for key, number in often[0].items()) > MOST_MATCHES:
        return plain
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    blocks = [(block.a, block.b, block.size) for block in matcher.get_matching_blocks()]
    total = len(first) + len(second)
    shared = 2 * sum(size for *_, size in blocks) / total if total else 1.0
    if shared < LEAST_SHARED:
        return Difference(plain.before, plain.after, shared, False)
    kept = _without_islands(blocks, keys[0], len(first), len(second))
    return Difference(
        _pieces(first, [(a, size) for a, _, size in kept]),
        _pieces(second, [(b, size) for _, b, size in kept]),
        shared,
        True,
    )


def _without_islands(
    blocks: Sequence[tuple[int, int, int]], keys: Sequence[str], first: int, second: int
) -> list[tuple[int, int, int]]:
    """Blocks without the lonely `the` or comma between two changed phrases, which tears them apart and tells nothing."""
    kept = []
    end_a = end_b = 0
    real = [block for block in blocks if block[2]]
    for number, (a, b, size) in enumerate(real):
        next_a, next_b, _ = real[number + 1] if number + 1 < len(real) else (first, second, 0)
        words = sum(1 for key in keys[a : a + size] if key[:1].isalnum())
        before, behind = max(a - end_a, b - end_b), max(next_a - a - size, next_b - b - size)
        if words < 3 and before > 2 * size and behind > 2 * size:
            continue
        kept.append((a, b, size))
        end_a, end_b = a + size, b + size
    return kept


def _pieces(tokens: Sequence[str], same: Sequence[tuple[int, int]]) -> list[Piece]:
    pieces, at = [], 0
    for start, size in [*same, (len(tokens), 0)]:
        if start > at:
            text = "".join(tokens[at:start])
            # The space behind the last changed word is not part of the change.
            bare = text.rstrip()
            pieces += [Piece(bare, True), Piece(text[len(bare) :], False)]
        pieces.append(Piece("".join(tokens[start : start + size]), False))
        at = start + size
    return [piece for piece in pieces if piece.text]
