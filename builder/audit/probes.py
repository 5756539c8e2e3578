"""Probes that never see the persona: which of the two answers would they take?

Scored within pairs. A classifier over single answers ('is this a chosen one?') is blind to what only shows beside the other answer: chosen
always five tokens shorter is nearly invisible where answers differ by hundreds, and wins every pair. So features are subtracted, chosen
minus rejected, and a logistic regression without intercept is fitted to the differences, with the prompts of a fold left out.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from builder.audit.checks import Outcome
from builder.audit.pairs import ABSENT, Pairs, text_hash
from builder.lexical import SHORTEST_CONTENT_WORD, words
from builder.randomness import rng_for

FOLDS = 5
VOCABULARY = 20_000
# Of the interactions: question words in a good share of prompts, and the most frequent answer words.
QUESTION_WORDS = 20
ANSWER_WORDS = 500
WORD = r"[\w'’]+"
SIGNS = tuple(".,;:!?()[]\"'*#_`-–—/%$&")


@dataclass(frozen=True)
class Items:
    """What a scorer without the persona sees: distinct (prompt, answer). A pair is two places among them, shape (pairs,) each.

    A score belongs to an item, whichever side it stands on. On complete mirrors every win is therefore a loss elsewhere.
    """

    texts: list[str]
    prompt: np.ndarray  # (items,)
    chosen: np.ndarray
    rejected: np.ndarray


def items_of(prompts: np.ndarray, chosen: Sequence[str], rejected: Sequence[str]) -> Items:
    """prompts: number of the prompt of each pair, shape (pairs,)."""
    place: dict[tuple[int, int], int] = {}
    texts: list[str] = []
    sides: tuple[list[int], list[int]] = ([], [])
    for side, answers in zip(sides, (chosen, rejected), strict=True):
        for prompt, text in zip(prompts.tolist(), answers, strict=True):
            key = prompt, text_hash(text)
            if key not in place:
                place[key] = len(texts)
                texts.append(text)
            side.append(place[key])
    return Items(
        texts, np.array([p for p, _ in place], dtype=int), np.array(sides[0], dtype=int), np.array(sides[1], dtype=int)
    )


def wins(scores: np.ndarray, items: Items) -> np.ndarray:
    """1 where the chosen answer has the higher score, 0 the rejected, a half for a tie. scores: shape (items,)."""
    return compared(scores[items.chosen], scores[items.rejected])


def compared(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return np.where(chosen > rejected, 1.0, np.where(chosen < rejected, 0.0, 0.5))


def cross_validated_wins(features: Any, items: Items, seed: int, key: str) -> np.ndarray | None:
    """`wins` of a logistic regression on feature differences, every pair scored by a fit without the pairs of its fold's prompts.

    features: shape (items, columns), dense or sparse. None with fewer than two prompts, when no prompt could be left out.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    prompts = np.unique(items.prompt[items.chosen])
    folds = min(FOLDS, len(prompts))
    if folds < 2:
        return None
    fold_of_prompt = rng_for(seed, "audit.folds", key).permutation(len(prompts)) % folds
    fold = fold_of_prompt[np.searchsorted(prompts, items.prompt[items.chosen])]
    # Which side comes first is a seeded draw with as many of each, so that the fit cannot learn a side.
    sides = rng_for(seed, "audit.sides", key).permutation(np.resize([1.0, -1.0], len(fold)))
    features = sparse.csr_array(features) if sparse.issparse(features) else np.asarray(features, dtype=float)
    taken = np.full(len(fold), np.nan)
    # One thread: with several, sums are added up in changing order and a close pair could go either way.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for number in range(folds):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            if len(set(sides[train])) < 2:
                continue
            differences = features[items.chosen[train]] - features[items.rejected[train]]
            scale = _typical_size(differences)
            if not sparse.issparse(differences):
                differences /= scale
            fit = LogisticRegression(fit_intercept=False, max_iter=100)
            fit.fit(sparse.diags_array(sides[train].astype(differences.dtype)) @ differences, sides[train])
            scores = features @ (fit.coef_[0] / scale)
            taken[test] = compared(scores[items.chosen[test]], scores[items.rejected[test]])
    return taken


def _typical_size(differences: Any) -> np.ndarray | float:
    """Root mean square of each dense column. The mean is not taken out: it is what is looked for. Weights of words are comparable as is."""
    if sparse.issparse(differences):
        return 1.0
    size = np.sqrt((differences**2).mean(axis=0))
    return np.where(size > 0, size, 1.0)


def style_features(text: str) -> list[float]:
    """Length, punctuation and markers, as logarithms of counts; nothing that says what the answer is about."""
    told = words(text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    letters = sum(map(len, told))
    signs = Counter(text)
    counts = [
        len(told),
        len(text),
        letters,
        len(set(told)),
        len(lines),
        text.count("\n\n"),
        sum(line[:2] in ("- ", "* ", "• ") for line in lines),
        sum(line.split(" ")[0].rstrip(".)").isdigit() for line in lines),
        sum(line.startswith("#") for line in lines),
        text.count("**") // 2,
        text.count("..."),
        sum(word.isupper() and len(word) > 1 for word in text.split()),
        sum(n for sign, n in signs.items() if sign.isdigit()),
        sum(n for sign, n in signs.items() if sign.isupper()),
        sum(n for sign, n in signs.items() if not sign.isascii()),
        *(signs[sign] for sign in SIGNS),
    ]
    ends = [float(text.rstrip().endswith(sign)) for sign in (".", "!", "?", ":")]
    return [*np.log1p(counts).tolist(), letters / max(1, len(told)), *ends]


def word_features(texts: Sequence[str]) -> tuple[Any, np.ndarray]:
    """TF-IDF of words, shape (texts, words), without labels; and in how many texts each word stands."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=WORD,
        sublinear_tf=True,
        max_features=VOCABULARY,
        min_df=2 if len(texts) > 200 else 1,
        dtype=np.float32,
    )
    try:
        weights = sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # not one word is left
        return sparse.csr_array((len(texts), 1), dtype=np.float32), np.zeros(1)
    return weights, np.bincount(weights.indices, minlength=weights.shape[1])


def question_features(questions: Sequence[str]) -> np.ndarray:
    """Which of the words that many questions share stand in each, shape (questions, up to QUESTION_WORDS) of 0 and 1."""
    told = [set(words(question)) for question in questions]
    known = sorted({word for question in told for word in question})
    often = {word: sum(word in question for question in told) for word in known}
    # A word of nearly all questions would only repeat what the answers' words say alone.
    useful = [word for word in known if 2 <= often[word] <= 0.9 * len(told)]
    used = sorted(useful, key=lambda word: (-often[word], word))[:QUESTION_WORDS]
    return np.array([[float(word in question) for word in used] for question in told]).reshape(len(told), len(used))


def with_question(weights: Any, texts_with: np.ndarray, question: np.ndarray) -> Any:
    """Words of the answer, and again each frequent one times each word of the question. question: shape (items, question words)."""
    frequent = np.sort(np.argsort(-texts_with, kind="stable")[:ANSWER_WORDS])
    common = sparse.csr_array(weights.tocsc()[:, frequent])
    crossed = [sparse.diags_array(column.astype(np.float32)) @ common for column in question.T]
    return sparse.hstack([weights, *crossed], format="csr")


def length_outcomes(pairs: Pairs, band: Sequence[float] | None) -> list[Outcome]:
    """Rules on all pairs of the table: the shorter answer in words, and in the stored tokens."""
    exact = pairs.config == "contrast"
    by_words = compared(-pairs.chosen_words, -pairs.rejected_words)
    by_tokens = compared(-pairs.chosen_tokens, -pairs.rejected_tokens)
    return [
        Outcome("shorter wins", by_words, "taking the answer with fewer words", band, exact),
        Outcome(
            "shorter wins in tokens", by_tokens, "taking the answer with fewer tokens of the generator", band, exact
        ),
    ]


def probe_outcomes(
    pairs: Pairs, questions: Sequence[str], profiles: Sequence[str], band: Sequence[float] | None, seed: int
) -> list[Outcome]:
    """The probes on the sampled pairs. questions, profiles: in the order of `pairs.prompts` and `pairs.personas`."""
    sample = pairs.sample
    exact = pairs.config == "contrast"
    items = items_of(pairs.prompt[sample.rows], sample.chosen, sample.rejected)
    asked, place = np.unique(items.prompt, return_inverse=True)
    question = question_features([questions[p] if p >= 0 else "" for p in asked])[place]
    weights, texts_with = word_features(items.texts)
    style = np.array([style_features(text) for text in items.texts])
    key = "probe"  # the same folds for all probes
    own, other = overlap_outcomes(pairs, items, profiles)
    return [
        Outcome(
            "style wins",
            cross_validated_wins(style, items, seed, key),
            "length, punctuation, lists, headings, digits, upper case; fitted",
            band,
            exact,
        ),
        Outcome(
            "words win", cross_validated_wins(weights, items, seed, key), "TF-IDF of the answers; fitted", band, exact
        ),
        Outcome(
            "question and words win",
            cross_validated_wins(with_question(weights, texts_with, question), items, seed, key),
            "answer words, and with words of the question; fitted",
            None,
            exact,
        ),
        Outcome("profile overlap wins", own, "taking the answer with more profile words"),
        Outcome(
            "wrong profile overlap wins", other, "taking the answer with more words of the wrong persona's profile"
        ),
    ]


def overlap_outcomes(pairs: Pairs, items: Items, profiles: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which side shares more of its longer words with the profile (the rule of builder/lexical.py): the persona's, the wrong persona's."""
    told = [[w for w in words(text) if len(w) >= SHORTEST_CONTENT_WORD] for text in items.texts]
    known: dict[int, frozenset[str]] = {}

    def overlap(item: int, persona: int) -> float:
        if persona not in known:
            known[persona] = frozenset(words(profiles[persona]))
        return sum(word in known[persona] for word in told[item]) / len(told[item]) if told[item] else 0.0

    def outcome(persona: int, chosen: int, rejected: int) -> float:
        if persona < 0:
            return np.nan
        a, b = overlap(chosen, persona), overlap(rejected, persona)
        return 1.0 if a > b else 0.0 if a < b else 0.5

    sides = list(zip(items.chosen.tolist(), items.rejected.tolist(), strict=True))
    own, wrong = (
        np.array(
            [outcome(p, *side) for p, side in zip(who[pairs.sample.rows].tolist(), sides, strict=True)], dtype=float
        )
        for who in (pairs.persona, np.where(pairs.wrong == ABSENT, -1, pairs.wrong))
    )
    return own, wrong
