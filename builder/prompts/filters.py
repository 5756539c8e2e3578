"""The text filters, in the paper's order, and the removal of repeated prompts.

Every prompt that goes is counted under the first reason that applies. Two prompts at or above the recipe's similarity
never both stay, so the two sides of the train / held-out split cannot share one. Paraphrases in other words are not
found by this and may straddle it.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence

from builder.errors import InputError
from builder.prompts.sources import SourcePrompt

PERMUTATIONS = 128
RECALL = 0.999  # least probability with which the index offers a prompt exactly at the threshold for comparison


def text_filters(
    prompts: Sequence[SourcePrompt], min_words: int, require_question_mark: bool
) -> tuple[list[SourcePrompt], dict[str, int]]:
    """Keep prompts with a `?` (if required) and at least `min_words` words between white space; count the others.

    "Contains" and not "ends with", and words as white space separates them: on PRISM this reading gives counts near the
    paper's.
    """
    kept = []
    dropped = {"no_question_mark": 0, "too_few_words": 0}
    for prompt in prompts:
        if require_question_mark and "?" not in prompt.question:
            dropped["no_question_mark"] += 1
        elif len(prompt.question.split()) < min_words:
            dropped["too_few_words"] += 1
        else:
            kept.append(prompt)
    return kept, dropped


def remove_duplicates(prompts: Sequence[SourcePrompt], similarity: float) -> tuple[list[SourcePrompt], dict[str, int]]:
    """Keep the first of prompts that are equal but for case, spacing and punctuation, or whose word-pair shingles have
    a Jaccard similarity of at least `similarity` (0 < similarity <= 1) to one already kept.

    Word pairs rather than words: with single words "is abortion wrong in your view" and "is euthanasia wrong in your
    view" would count as one.
    """
    if not 0 < similarity <= 1:
        raise InputError(
            f"prompts.near_duplicate_similarity is {similarity:g}; it takes a number above 0 and at most 1 (1: only "
            "prompts with exactly the same word pairs count as one)."
        )
    unlike, exact = _without_exact(prompts)
    kept = _without_near(unlike, similarity)
    return kept, {"exact_duplicate": exact, "near_duplicate": len(unlike) - len(kept)}


def unlike_earlier(prompts: Sequence[SourcePrompt], earlier: Sequence[str], similarity: float) -> list[SourcePrompt]:
    """The prompts that are neither equal to one of these questions nor similar to it, in the sense of `remove_duplicates`."""
    known = {normalised(question) for question in earlier}
    return _without_near(
        [prompt for prompt in prompts if normalised(prompt.question) not in known], similarity, earlier
    )


def normalised(question: str) -> str:
    """The words in lower case with one space between: what remains equal when case, spacing and punctuation differ."""
    plain = unicodedata.normalize("NFKC", question).casefold()
    words = re.findall(r"\w+", re.sub(r"['’]", "", plain))
    # A prompt without any word (only signs) is compared as it is, lest all of them count as the same.
    return " ".join(words) or " ".join(plain.split())


def shingles(question: str) -> frozenset[str]:
    """The pairs of neighbouring words; the word itself where there is only one."""
    words = normalised(question).split(" ")
    return frozenset(" ".join(pair) for pair in itertools.pairwise(words)) or frozenset(words)


def _without_exact(prompts: Sequence[SourcePrompt]) -> tuple[list[SourcePrompt], int]:
    first_of: dict[str, SourcePrompt] = {}
    for prompt in prompts:
        first_of.setdefault(normalised(prompt.question), prompt)
    return list(first_of.values()), len(prompts) - len(first_of)


def _without_near(
    prompts: Sequence[SourcePrompt], similarity: float, earlier: Sequence[str] = ()
) -> list[SourcePrompt]:
    """The prompts that are unlike every earlier question and every prompt kept before them."""
    # datasketch is small, needs only numpy and scipy, and its hash tables are fixed by an integer, so that the result
    # is the same in every process. It only proposes; the Jaccard similarity of a proposed pair is computed exactly, so
    # nothing below the threshold is ever dropped. text-dedup wraps the same algorithm in a command line with Spark;
    # comparing all pairs is quadratic.
    from datasketch import MinHash, MinHashLSH

    sets = [shingles(question) for question in (*earlier, *(prompt.question for prompt in prompts))]
    encoded = [[shingle.encode("utf-8") for shingle in sorted(members)] for members in sets]
    # The seed fixes which hash functions are used. It is part of the method, not a draw, so it does not follow the
    # recipe's seed.
    signatures = list(MinHash.bulk(encoded, num_perm=PERMUTATIONS, seed=1))
    index = MinHashLSH(num_perm=PERMUTATIONS, params=_bands(similarity))
    kept = []
    for position, signature in enumerate(signatures):
        is_earlier = position < len(earlier)
        if not is_earlier and any(
            jaccard(sets[position], sets[other]) >= similarity for other in index.query(signature)
        ):
            continue
        index.insert(position, signature)
        if not is_earlier:
            kept.append(prompts[position - len(earlier)])
    return kept


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared members over all members; both sets non-empty."""
    return len(left & right) / len(left | right)


def _bands(similarity: float) -> tuple[int, int]:
    """(bands, rows a band): the longest rows (fewest false proposals) that still find a pair at the threshold."""
    for rows in range(PERMUTATIONS // 2, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1
