"""Can an answer's author be read off the answer? A probe guesses attributes of the persona from the text of its chosen answer.

Every guess is made out of fold: by a fit on the answers of other personas to other prompts. Otherwise the probe could know the persona's
other answers, and recognise a person instead of an attribute.

Each attribute has folds of its own that share out every value evenly. Folds drawn without regard to it would leave the value that is
frequent in the answers fitted on rare in those guessed, and a probe that knows nothing would do worse than chance. What such a probe gets
right, the most frequent value among the same answers, stands beside every guess.
"""

import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from builder.randomness import rng_for
from builder.tables import with_column

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
# Names the draws; another name would draw other folds, and versions that are published would no longer come out the same.
DRAWS = "audit.recovery"


@dataclass(frozen=True)
class Guesses:
    """For one attribute: `truth` and `guess` are numbers of `values`, shape (pairs,); -1: the persona has none, or nothing was guessed.

    `probability` is that of the guess. `share`: of each value among the personas with a value. `blind`: what is got right by always saying
    the most frequent value of the answers that the guess was fitted on: 1, 0, or a share where several are equally frequent.
    """

    attribute: str
    values: list[str]
    share: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    probability: np.ndarray
    blind: np.ndarray

    @property
    def known(self) -> np.ndarray:
        return (self.truth >= 0) & (self.guess >= 0)

    @property
    def right(self) -> np.ndarray:
        return self.known & (self.truth == self.guess)

    @property
    def baseline(self) -> float:
        """Accuracy of always saying the most frequent value, out of fold like the guesses."""
        return float(self.blind[self.known].mean()) if self.known.any() else float("nan")

    @property
    def gain(self) -> np.ndarray:
        """How much more often the guess is right than the most frequent value, from -1 to 1; NaN where nothing is known."""
        return np.where(self.known, self.right - self.blind, np.nan)

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

    details: {personas, attributes: {name: {accuracy, baseline, n, inferable}}, note}; all three are shares of the n answers whose persona
    has the attribute, the baseline that of the most frequent value. With fewer than FEWEST_PERSONAS personas nothing is
    fitted, all lists are empty and `note` says so.
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


def with_inferable(table: Any, found: dict[str, list[str]]) -> Any:
    """The table with what `inferable_attributes` found of its pairs. A shard leaves the column empty: it takes all pairs to tell."""
    return with_column(
        table, "inferable_attributes", [found.get(pair_id, []) for pair_id in table["pair_id"].to_pylist()]
    )


def guess_attributes(pairs: Any, personas: Sequence[Row], seed: int) -> list[Guesses]:
    """One entry per attribute that can be told apart; arguments as in `inferable_attributes`. Empty with too few personas or prompts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    (people, person), (asked, prompt) = (_coded(pairs[name]) for name in ("persona_id", "prompt_id"))
    if len(people) < FEWEST_PERSONAS or len(asked) < PROMPT_FOLDS:
        return []
    prompt_fold = (rng_for(seed, DRAWS, "prompts").permutation(len(asked)) % PROMPT_FOLDS)[prompt]
    targets = [_target(attribute, personas, people, person, prompt_fold, seed) for attribute in RECOVERED]
    targets = [target for target in targets if len(target.values) > 1]

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
        for number, target in product(range(PERSONA_FOLDS * PROMPT_FOLDS), targets):
            persona_fold, asked_fold = np.divmod(target.cell[drawn], PROMPT_FOLDS)
            left_out = divmod(number, PROMPT_FOLDS)
            rows = np.flatnonzero((persona_fold != left_out[0]) & (asked_fold != left_out[1]))
            truth = target.truth[drawn[rows]]
            fits[number, target.attribute] = _fit(features[rows], truth, target.learnable)
            target.blind[target.cell == number] = _majority(truth, len(target.values))[
                target.truth[target.cell == number]
            ]
        sharpness = {
            t.attribute: _sharpness(fits, features, t.cell[drawn], t.attribute, t.truth[drawn]) for t in targets
        }
        start = 0
        for batch in _texts(pairs):
            weights = vectorizer.transform(batch)
            for target in targets:
                here = target.cell[start : start + len(batch)]
                for number in np.unique(here).tolist():
                    rows = np.flatnonzero(here == number)
                    fit = fits[number, target.attribute]
                    _guess(fit, sharpness[target.attribute], weights[rows], target, start + rows)
            start += len(batch)
    return [Guesses(t.attribute, t.values, t.share, t.truth, t.guess, t.probability, t.blind) for t in targets]


@dataclass(frozen=True)
class _Target:
    attribute: str
    values: list[str]
    share: np.ndarray
    learnable: np.ndarray  # bool per value
    cell: np.ndarray  # of each pair: fold of its persona times PROMPT_FOLDS, and fold of its prompt
    truth: np.ndarray
    guess: np.ndarray
    probability: np.ndarray
    blind: np.ndarray


def _target(
    attribute: str,
    personas: Sequence[Row],
    people: Sequence[str],
    person: np.ndarray,
    prompt_fold: np.ndarray,
    seed: int,
) -> _Target:
    """people: persona ids in the pairs; person: which of them each pair belongs to; prompt_fold: of each pair."""
    known = set(people)
    value_of = {p["persona_id"]: _value(p, attribute) for p in personas if p["persona_id"] in known}
    counts = Counter(value for value in value_of.values() if value is not None)
    values = sorted(counts)
    number: dict[str | None, int] = {value: n for n, value in enumerate(values)}
    code = np.array([number.get(value_of.get(name), -1) for name in people], dtype=np.int16)
    persona_fold = _even_folds(code, seed, attribute)
    frequency = np.array([counts[value] for value in values], dtype=float)
    return _Target(
        attribute,
        values,
        frequency / max(1.0, frequency.sum()),
        frequency >= FEWEST_OF_A_VALUE,
        persona_fold[person] * PROMPT_FOLDS + prompt_fold,
        code[person],
        np.full(len(person), -1, dtype=np.int16),
        np.zeros(len(person), dtype=np.float32),
        np.zeros(len(person)),
    )


def _even_folds(code: np.ndarray, seed: int, attribute: str) -> np.ndarray:
    """A fold for each persona, those of one value shared out evenly.

    Every value begins with the first fold: of two values the more frequent one is then in no fold the rarer one, nor in the other folds
    together. Begun where the last value ended, the frequent one of the answers fitted on would be the rare one of those guessed.
    """
    drawn = rng_for(seed, DRAWS, attribute).permutation(len(code))
    fold = np.empty(len(code), dtype=np.int64)
    for value in np.unique(code):
        members = drawn[code[drawn] == value]
        fold[members] = np.arange(len(members)) % PERSONA_FOLDS
    return fold


def _majority(truth: np.ndarray, values: int) -> np.ndarray:
    """What the most frequent value gets right of each value, shape (values + 1,); the last stands for no value."""
    counts = np.bincount(truth[truth >= 0], minlength=values)
    most = (counts == counts.max()) & (counts > 0)
    return np.append(most / max(1, most.sum()), 0.0)


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


def _drawn(pairs: Any, seed: int) -> tuple[np.ndarray, list[str]]:
    """Places and texts of at most FITTED_ROWS rows, drawn by pair id and in that order."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    order = compute.sort_indices(pairs["pair_id"]).to_numpy()
    drawn = order[np.sort(rng_for(seed, DRAWS, "rows").permutation(len(order))[:FITTED_ROWS])]
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
