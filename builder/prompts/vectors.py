"""What a question is about, as 96 numbers: the mean of its words' vectors, from a table that comes with the package.

The table was distilled by make_word_vectors.py from a sentence encoder (which one, and its licence, stands in the file), as
model2vec does: the encoder's vector of each word alone, fewer dimensions, four bits a number. So topics and the packaged
classifier need no model and no download, and a question costs microseconds.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "word_vectors.npz"
HALF_RANGE = 7  # four bits: -7 to 7
# Endings tried in turn when a word is not in the table.
ENDINGS = ("s", "es", "ed", "ing", "ly", "d", "er", "ers", "ness")


def sentence_vectors(texts: Sequence[str], ignored: Collection[str] = ()) -> np.ndarray:
    """(texts, dimensions), each row of length 1; a text without any known word has a row of zeros.

    Rare words count more, by the logarithm of their rank (the table is in order of frequency). Words in `ignored` do not count.
    """
    position, table = word_table()
    skipped = frozenset(ignored)
    result = np.zeros((len(texts), table.shape[1]))
    for row, text in enumerate(texts):
        found = [find(word, position) for word in words(text) if word not in skipped]
        known = [index for index in found if index is not None]
        if known:
            result[row] = table[known].sum(axis=0)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    return np.divide(result, lengths, out=np.zeros_like(result), where=lengths > 0)


def words(text: str) -> list[str]:
    """Lower-case words of two letters or more, without accents and without what follows an apostrophe."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.findall(r"[^\W\d_]{2,}", re.sub(r"['’]\w*", " ", plain))


def find(word: str, position: dict[str, int]) -> int | None:
    """The row of a word, or of what remains of it without a common ending."""
    if word in position:
        return position[word]
    for ending in ENDINGS:
        stem = word.removesuffix(ending)
        if len(stem) > 2 and stem != word and stem in position:
            return position[stem]
    return None


@lru_cache(maxsize=1)
def word_table() -> tuple[dict[str, int], np.ndarray]:
    """({word: row}, (words, dimensions) of float64 whose rows are as long as the word counts)."""
    with np.load(FILE, allow_pickle=False) as file:
        listed = file["words"].tobytes().decode("utf-8").split("\n")
        packed = file["packed"]
    levels = np.empty((packed.shape[0], 2 * packed.shape[1]), dtype=np.float64)
    levels[:, 0::2] = (packed >> 4).astype(np.int8) - HALF_RANGE
    levels[:, 1::2] = (packed & 15).astype(np.int8) - HALF_RANGE
    weight = np.log1p(np.arange(1, len(listed) + 1)) / np.linalg.norm(levels, axis=1)
    return {word: row for row, word in enumerate(listed)}, levels * weight[:, None]


def about() -> dict[str, Any]:
    """Where the table comes from: encoder, licence, sizes."""
    with np.load(FILE, allow_pickle=False) as file:
        return json.loads(file["about"].tobytes())
