"""Can an answer's author be read off the answer? A probe guesses attributes of the persona from the text of its chosen answer.

Every guess is made out of fold: by a fit on the answers of other personas to other prompts. Otherwise the probe could know the persona's
other answers, and recognise a person instead of an attribute.
"""

import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.randomness import rng_for

Row = dict[str, Any]
RECOVERED = ("sex", "age", "race", "religion", "political_views", "ideology", "education", "marital_status")
AGE_BANDS = {
    "under 18": 18,
    "18–29": 30,
    "30–44": 45,
    "45–59": 60,
    "60–74": 75,
    "75 and over": 1000,
}  # name -> end, in years
# Two parts of the prompts are enough: an answer's prompt says nothing of its persona, personas are assigned without regard to it.
PERSONA_FOLDS = 3
PROMPT_FOLDS = 2
FEWEST_PERSONAS = 40
FEWEST_OF_A_VALUE = 5  # personas; what fewer have cannot be learnt from others and is never guessed
FITTED_ROWS = (
    30_000  # answers drawn for fitting; a fit sees two thirds of the personas and half of the prompts of these
)
ROWS_AT_A_TIME = 4096
VOCABULARY = 8_000
INFERABLE = 0.5  # least probability
SHARPNESS = np.geomspace(0.05, 20, 53)


@dataclass(frozen=True)
class Guesses:
    """For one attribute: `truth` and `guess` are numbers of `values`, shape (pairs,); -1: the persona has none, or nothing was guessed.

    `probability` is that of the guess. `share`: of each value among the personas with a value.
    """

    attribute: str
    values: list[str]
    share: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    probability: np.ndarray

    @property
    def known(self) -> np.ndarray:
        return (self.truth >= 0) & (self.guess >= 0)

    @property
    def right(self) -> np.ndarray:
        return self.known & (self.truth == self.guess)

    @property
    def baseline(self) -> float:
        """Accuracy of always saying the most frequent value."""
        truth = self.truth[self.known]
        return float(np.bincount(truth).max() / len(truth)) if len(truth) else float("nan")

    @property
    def inferable(self) -> np.ndarray:
        """True values that are guessed, with a probability well above what is known of anybody.

        That is at least one half, and at least twice the value's share. For a value that more than a third have, twice the share is hardly
        to be reached or above 1; there at least half of the remaining doubt must be gone.
        """
        share = self.share[np.maximum(self.truth, 0)]
        needed = np.maximum(INFERABLE, np.minimum(2 * share, (1 + share) / 2))
        return self.right & (self.probability >= needed)


def inferable_attributes(pairs: Any, personas: Sequence[Row], seed: int) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """For every pair the attributes that its chosen answer gives away, and what the probe can do at all.

    pairs: an Arrow table with pair_id, persona_id, prompt_id, and `chosen` as text or as the published message. personas: rows with
    persona_id and the attributes. Nothing depends on the order of the rows.

    details: {personas, attributes: {name: {accuracy, baseline, n, inferable}}, note}; accuracy and inferable are shares of the n answers
    whose persona has the attribute. With fewer than FEWEST_PERSONAS personas nothing is fitted, all lists are empty and `note` says so.
    """
    all_guesses = guess_attributes(pairs, personas, seed)
    ids = pairs["pair_id"].to_pylist()
    found: dict[str, list[str]] = {pair_id: [] for pair_id in ids}
    details: dict[str, Any] = {
        "personas": len(set(pairs["persona_id"].unique().to_pylist())),
        "attributes": {},
        "note": "",
    }
    if details["personas"] < FEWEST_PERSONAS:
        details["note"] = (
            f"{details['personas']} personas; a probe needs the answers of at least {FEWEST_PERSONAS}, so no attribute is marked."
        )
    for guesses in all_guesses:
        for place in np.flatnonzero(guesses.inferable).tolist():
            found[ids[place]].append(guesses.attribute)
        n = int(guesses.known.sum())
        details["attributes"][guesses.attribute] = {
            "accuracy": float(guesses.right.sum() / n) if n else None,
            "baseline": guesses.baseline if n else None,
            "n": n,
            "inferable": float(guesses.inferable.sum() / n) if n else None,
        }
    return found, details


def guess_attributes(pairs: Any, personas: Sequence[Row], seed: int) -> list[Guesses]:
    """One entry per attribute that can be told apart; arguments as in `inferable_attributes`. Empty with too few personas or prompts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    (people, person), (asked, prompt) = (_coded(pairs[name]) for name in ("persona_id", "prompt_id"))
    if len(people) < FEWEST_PERSONAS or len(asked) < PROMPT_FOLDS:
        return []
    persona_fold = _folds(people, PERSONA_FOLDS, seed, "personas")[person]
    prompt_fold = _folds(asked, PROMPT_FOLDS, seed, "prompts")[prompt]
    cell = persona_fold * PROMPT_FOLDS + prompt_fold
    targets = [t for t in (_target(a, personas, people, person) for a in RECOVERED) if len(t.values) > 1]

    drawn, texts = _drawn(pairs, seed)
    # Words of the drawn answers and how rare they are; no label is used, so that one list serves all folds.
    vectorizer = TfidfVectorizer(
        token_pattern=r"[\w'’]+",
        sublinear_tf=True,
        max_features=VOCABULARY,
        min_df=3 if len(texts) > 1000 else 1,
        dtype=np.float32,
    )
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # not one word is left
        return []
    # One thread: with several, sums are added up in changing order.
    with threadpool_limits(limits=1):
        fits = {}
        for number in range(PERSONA_FOLDS * PROMPT_FOLDS):
            others = (persona_fold[drawn] != number // PROMPT_FOLDS) & (prompt_fold[drawn] != number % PROMPT_FOLDS)
            rows = np.flatnonzero(others)
            part = features[rows]
            for target in targets:
                fits[number, target.attribute] = _fit(part, target.truth[drawn[rows]], target.learnable)
        sharpness = {t.attribute: _sharpness(fits, features, cell[drawn], t.attribute, t.truth[drawn]) for t in targets}
        start = 0
        for batch in _texts(pairs):
            weights = vectorizer.transform(batch)
            here = cell[start : start + len(batch)]
            for number in np.unique(here).tolist():
                rows = np.flatnonzero(here == number)
                part = weights[rows]
                for target in targets:
                    _guess(fits[number, target.attribute], sharpness[target.attribute], part, target, start + rows)
            start += len(batch)
    return [Guesses(t.attribute, t.values, t.share, t.truth, t.guess, t.probability) for t in targets]


@dataclass(frozen=True)
class _Target:
    attribute: str
    values: list[str]
    share: np.ndarray
    learnable: np.ndarray  # bool per value
    truth: np.ndarray
    guess: np.ndarray
    probability: np.ndarray


def _target(attribute: str, personas: Sequence[Row], people: Sequence[str], person: np.ndarray) -> _Target:
    """people: persona ids in the pairs; person: which of them each pair belongs to."""
    known = set(people)
    value_of = {p["persona_id"]: _value(p, attribute) for p in personas if p["persona_id"] in known}
    counts = Counter(value for value in value_of.values() if value is not None)
    values = sorted(counts)
    number: dict[str | None, int] = {value: n for n, value in enumerate(values)}
    code = np.array([number.get(value_of.get(name), -1) for name in people], dtype=np.int16)
    frequency = np.array([counts[value] for value in values], dtype=float)
    return _Target(
        attribute,
        values,
        frequency / max(1.0, frequency.sum()),
        frequency >= FEWEST_OF_A_VALUE,
        code[person],
        np.full(len(person), -1, dtype=np.int16),
        np.zeros(len(person), dtype=np.float32),
    )


def _value(persona: Row, attribute: str) -> str | None:
    value = persona.get(attribute)
    if value is None or attribute != "age":
        return value
    return list(AGE_BANDS)[min(bisect_right(list(AGE_BANDS.values()), value), len(AGE_BANDS) - 1)]


def _fit(features: Any, truth: np.ndarray, learnable: np.ndarray) -> Any:
    """A multinomial logistic regression; None where the answers at hand show fewer than two values."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows = np.flatnonzero((truth >= 0) & learnable[np.maximum(truth, 0)])
    if len(np.unique(truth[rows])) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(max_iter=30).fit(features[rows], truth[rows])


def _sharpness(fits: dict[Any, Any], features: Any, cell: np.ndarray, attribute: str, truth: np.ndarray) -> float:
    """The factor on a fit's scores with which its probabilities suit the answers that it was not fitted on best.

    A penalised fit is too unsure of clear words with few answers, and too sure of chance ones with many. One number for all folds, so that
    hardly anything is learnt from the answers that are then judged.
    """
    loss = np.zeros(len(SHARPNESS))
    for number in np.unique(cell).tolist():
        fit = fits[number, attribute]
        if fit is None:
            continue
        rows = np.flatnonzero((cell == number) & np.isin(truth, fit.classes_))
        if not len(rows):
            continue
        scores = _scores(fit, features[rows])
        true = scores[np.arange(len(rows)), np.searchsorted(fit.classes_, truth[rows])]
        for place, factor in enumerate(SHARPNESS):
            loss[place] += (np.logaddexp.reduce(factor * scores, axis=1) - factor * true).sum()
    return float(SHARPNESS[int(loss.argmin())])


def _scores(fit: Any, features: Any) -> np.ndarray:
    """Log-odds up to a constant, shape (rows, classes), the highest 0."""
    scores = fit.decision_function(features)
    if scores.ndim == 1:
        scores = np.column_stack([np.zeros_like(scores), scores])
    return scores - scores.max(axis=1, keepdims=True)


def _guess(fit: Any, sharpness: float, features: Any, target: _Target, rows: np.ndarray) -> None:
    """Fill in guess and probability of these rows."""
    if fit is None:
        return
    scores = sharpness * _scores(fit, features)
    target.guess[rows] = fit.classes_[scores.argmax(axis=1)]
    target.probability[rows] = 1 / np.exp(scores).sum(axis=1)


def _coded(column: Any) -> tuple[list[str], np.ndarray]:
    """The distinct ids in ascending order, and which of them each row holds."""
    coded = column.combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), dtype=np.int32)
    place[order] = np.arange(len(names))
    return [names[i] for i in order], place[coded.indices.to_numpy()]


def _folds(names: Sequence[str], folds: int, seed: int, kind: str) -> np.ndarray:
    """A fold for each of the sorted names."""
    return rng_for(seed, "audit.recovery", kind).permutation(len(names)) % folds


def _drawn(pairs: Any, seed: int) -> tuple[np.ndarray, list[str]]:
    """Places and texts of at most FITTED_ROWS rows, drawn by pair id and in that order."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    order = compute.sort_indices(pairs["pair_id"]).to_numpy()
    drawn = order[np.sort(rng_for(seed, "audit.recovery", "rows").permutation(len(order))[:FITTED_ROWS])]
    wanted = np.zeros(len(order), dtype=bool)
    wanted[drawn] = True
    texts = [text for part in _texts(pairs.select(["chosen"]).filter(arrow.array(wanted))) for text in part]
    return drawn, [texts[i] for i in np.searchsorted(np.sort(drawn), drawn)]


def _texts(pairs: Any) -> Iterator[list[str]]:
    """The chosen answers, some thousand at a time."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    for batch in pairs.select(["chosen"]).to_batches(max_chunksize=ROWS_AT_A_TIME):
        column = batch.column(0)
        if not arrow.types.is_string(column.type):
            column = compute.struct_field(compute.list_flatten(column), "content")
        yield column.fill_null("").to_pylist()
