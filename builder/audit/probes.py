"""Probes that never see the persona, and one that sees it: which of the two answers would they take?

Scored within pairs. A classifier over single answers ('is this a chosen one?') is blind to what only shows beside the other answer: chosen
always five tokens shorter is nearly invisible where answers differ by hundreds, and wins every pair. So features are subtracted, chosen
minus rejected, and a logistic regression without intercept is fitted to the differences, with the prompts of a fold left out.

The probe of profile and answer is fitted twice, with the persona's own profile and with the wrong persona's. What it wins with the
wrong one it wins without knowing whom the answer is for.
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
KNOTS = 12  # of the curve of length
# Of profile and answer. The fit is the dearest, so it reads fewer pairs.
PROFILE_PAIRS = 5_000
PROFILE_LINES = 60
PROFILE_ANSWER_WORDS = 100
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


def length_features(tokens: np.ndarray) -> np.ndarray:
    """A curve of straight pieces over the logarithm of the length: a fit may like medium lengths, not only short or long ones.

    tokens: shape (items,). Shape (items, up to 1 + KNOTS).
    """
    length = np.log1p(tokens)
    # Cut where answers are: without labels, so that one set of knots serves all folds.
    knots = np.unique(np.quantile(length, np.linspace(0, 1, KNOTS + 1)[:-1])) if len(length) else np.zeros(0)
    return np.column_stack([length, *(np.maximum(0.0, length - knot) for knot in knots)])


def item_tokens(pairs: Pairs, items: Items) -> np.ndarray:
    tokens = np.zeros(len(items.texts))
    tokens[items.chosen] = pairs.chosen_tokens[pairs.sample.rows]
    tokens[items.rejected] = pairs.rejected_tokens[pairs.sample.rows]
    return tokens


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
    pairs: Pairs,
    questions: Sequence[str],
    profiles: Sequence[str],
    length_band: Sequence[float] | None,
    band: Sequence[float] | None,
    seed: int,
) -> list[Outcome]:
    """The probes on the sampled pairs. questions, profiles: in the order of `pairs.prompts` and `pairs.personas`. length_band: of the probe
    of lengths; band: of the other probes that do not see the persona."""
    sample = pairs.sample
    exact = pairs.config == "contrast"
    items = items_of(pairs.prompt[sample.rows], sample.chosen, sample.rejected)
    asked, place = np.unique(items.prompt, return_inverse=True)
    question = question_features([questions[p] if p >= 0 else "" for p in asked])[place]
    weights, texts_with = word_features(items.texts)
    style = np.array([style_features(text) for text in items.texts])
    key = "probe"  # the same folds for all probes
    own, other = overlap_outcomes(pairs, items, profiles)
    true_profile, wrong_profile = profile_outcomes(pairs, items, profiles, weights, texts_with, seed, key)
    return [
        Outcome(
            "lengths win",
            cross_validated_wins(length_features(item_tokens(pairs, items)), items, seed, key),
            "any curve of the number of tokens; fitted",
            length_band,
            exact,
        ),
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
            band,
            exact,
        ),
        Outcome("profile overlap wins", own, "taking the answer with more profile words"),
        Outcome(
            "wrong profile overlap wins", other, "taking the answer with more words of the wrong persona's profile"
        ),
        Outcome("profile and answer win", true_profile, "lines of the profile with words of the answer; fitted"),
        Outcome(
            "wrong profile and answer win", wrong_profile, "the same, fitted with the wrong persona's profile instead"
        ),
    ]


def profile_outcomes(
    pairs: Pairs,
    items: Items,
    profiles: Sequence[str],
    weights: Any,
    texts_with: np.ndarray,
    seed: int,
    key: str,
) -> tuple[np.ndarray, np.ndarray]:
    """What a probe wins that reads profile and answer together: the persona's own profile, the wrong persona's. NaN: not asked.

    weights, texts_with: of `word_features` on the items.
    """
    lines = profile_lines_of(profiles)
    asked = _first_prompts(items.prompt[items.chosen], PROFILE_PAIRS, seed)
    outcomes = []
    for who in (pairs.persona, np.where(pairs.wrong == ABSENT, -1, pairs.wrong)):
        persona = who[pairs.sample.rows]
        rows = np.flatnonzero(asked & (persona >= 0))
        taken = np.full(len(persona), np.nan)
        if len(rows):
            # A score belongs to persona and answer, so both sides of a pair are items of their own.
            sides = np.concatenate([items.chosen[rows], items.rejected[rows]])
            features = with_profile(lines, items.texts, weights, texts_with, np.tile(persona[rows], 2), sides)
            place = np.arange(len(rows))
            both = Items([], items.prompt[sides], place, place + len(rows))
            won = cross_validated_wins(features, both, seed, key)
            taken[rows] = np.nan if won is None else won
        outcomes.append(taken)
    return outcomes[0], outcomes[1]


@dataclass(frozen=True)
class ProfileLines:
    """`held`: which of the most frequent lines each profile has, shape (personas, lines). `words`: of each profile by what its lines are
    about, {persona: {key: words of the value}}; `keys`: all of these in order."""

    held: Any
    words: list[dict[str, frozenset[str]]]
    keys: list[str]


def profile_lines_of(profiles: Sequence[str]) -> ProfileLines:
    """Lines are `Key: value`; any other line stands under the key of no name."""
    lines = [[line.strip() for line in profile.split("\n") if line.strip()] for profile in profiles]
    often = Counter(line for own in lines for line in set(own))
    # A line of one persona says who it is, and one of all says nothing.
    useful = [line for line, n in often.items() if 2 <= n < len(profiles)]
    place = {line: n for n, line in enumerate(sorted(useful, key=lambda line: (-often[line], line))[:PROFILE_LINES])}
    held = sparse.lil_array((len(profiles), len(place)), dtype=np.float32)
    told: list[dict[str, frozenset[str]]] = []
    for persona, own in enumerate(lines):
        by_key: dict[str, frozenset[str]] = {}
        for line in own:
            if line in place:
                held[persona, place[line]] = 1.0
            key, _, value = line.partition(":") if ":" in line else ("", "", line)
            longer = frozenset(word for word in words(value) if len(word) >= SHORTEST_CONTENT_WORD)
            by_key[key] = by_key.get(key, frozenset()) | longer
        told.append(by_key)
    return ProfileLines(held.tocsr(), told, sorted({key for by_key in told for key in by_key}))


def with_profile(
    lines: ProfileLines,
    texts: Sequence[str],
    weights: Any,
    texts_with: np.ndarray,
    persona: np.ndarray,
    item: np.ndarray,
) -> Any:
    """How many words the answer shares with each line of the profile, and frequent words of the answer times frequent lines.

    persona, item: shape (rows,). Sparse, shape (rows, columns).
    """
    place = {key: column for column, key in enumerate(lines.keys)}
    told: dict[int, frozenset[str]] = {}
    shared = sparse.lil_array((len(item), max(1, len(place))), dtype=np.float32)
    for row, (who, which) in enumerate(zip(persona.tolist(), item.tolist(), strict=True)):
        if which not in told:
            told[which] = frozenset(words(texts[which]))
        for key, value in lines.words[who].items():
            number = len(value & told[which])
            if number:
                shared[row, place[key]] = np.log1p(number)
    frequent = np.sort(np.argsort(-texts_with, kind="stable")[:PROFILE_ANSWER_WORDS])
    common = sparse.csr_array(weights.tocsc()[:, frequent])[item]
    held = lines.held[persona].tocsc()
    crossed = [sparse.diags_array(held[:, [n]].toarray().ravel()) @ common for n in range(held.shape[1])]
    return sparse.hstack([shared.tocsr(), *crossed], format="csr")


def _first_prompts(prompts: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    """Which pairs belong to as many prompts, in a seeded order, as together have at most `wanted` pairs. prompts: shape (pairs,)."""
    known, place = np.unique(prompts, return_inverse=True)
    drawn = rng_for(seed, "audit.sample", "profiles").permutation(len(known))
    together = np.cumsum(np.bincount(place, minlength=len(known))[drawn])
    chosen = np.zeros(len(known), dtype=bool)
    chosen[drawn[: max(FOLDS, int((together <= wanted).sum()))]] = True
    return chosen[place]


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
