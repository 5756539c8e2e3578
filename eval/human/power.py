"""How sure the kappas of a study will be before there is an answer: half-widths of their 95 % intervals, and power.

Every item has an answer that its persona prefers. Whoever answers gives it with probability r and any answer, at the base rate, otherwise:
two of them then agree with kappa r * s, whatever the base rate. Kappas differ between personas and between questions by a stated spread.

The closed form knows two raters and independent items only; the simulation agrees with it there and goes on from there.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from builder.errors import InputError
from builder.randomness import rng_for
from eval.agreement.kappa import CONSENSUS, FEWEST_RATERS, pooled_kappas
from eval.human.study import Study
from training.estimates import NORMAL_QUANTILE, Estimate

TWO_RATERS, RATERS, JUDGE, MAJORITY = (
    "one rater with another",
    "raters with each other",
    "judge with raters",
    "judge with most raters",
)
FIGURES = (TWO_RATERS, RATERS, JUDGE, MAJORITY)
STUDIES = 8000  # simulated; a half-width is then known to 1 % of it, and a power to 2 points (two standard errors)
PRINTED_STUDIES = 30  # of them with the analysis' own intervals, which take longer
DIFFERENCE = 0.1  # between two judges, for which the power is given
MOST_PERSONAS = 2000
BLOCK = 2_000_000  # answers simulated at once


@dataclass(frozen=True)
class Assumed:
    """kappa: of any two raters, and of the judge with a rater. control: of the judge under a wrong persona. base_rate: of one of the two
    answers. Spreads: standard deviations of kappa between personas and between questions.
    """

    kappa: float = 0.6
    control: float = 0.0
    base_rate: float = 0.5
    persona_spread: float = 0.1
    question_spread: float = 0.1


@dataclass(frozen=True)
class Design:
    """`items` questions a persona, each answered by all `raters` of it. questions: how many different ones all personas have together."""

    personas: int
    raters: int
    items: int
    questions: int


@dataclass(frozen=True)
class Planned:
    """pooled, one_persona: figure of FIGURES -> half-width of the 95 % interval (1.96 standard deviations over simulated studies), of all
    personas and of one persona's own items; None where it is undefined in most studies. printed: of all personas, the mean half-width of
    the intervals that the analysis prints, which resample personas and questions and err on the wide side.

    undefined: share of single personas without that kappa, because somebody gave one answer throughout. with_majority: share of items on
    which three quarters of the raters agree. against_control, one_persona_against_control: power to tell the judge's kappa with the raters
    from the same judge's under a wrong persona, at 5 %. against_weaker: from a judge whose kappa is DIFFERENCE lower.
    """

    pooled: dict[str, float | None]
    one_persona: dict[str, float | None]
    printed: dict[str, float | None]
    undefined: dict[str, float]
    with_majority: float | None
    against_control: float | None
    one_persona_against_control: float | None
    against_weaker: float | None


def standard_error(kappa: float, items: int, base_rate: float = 0.5) -> float:
    """Of Cohen's kappa of two raters with the same base rate on independent items (Cohen 1960): sqrt(p_o (1 - p_o) / n) / (1 - p_e)."""
    by_chance = base_rate**2 + (1 - base_rate) ** 2
    observed = by_chance + kappa * (1 - by_chance)
    return math.sqrt(observed * (1 - observed) / items) / (1 - by_chance)


def closed_form_half_width(kappa: float, items: int, base_rate: float = 0.5) -> float:
    return NORMAL_QUANTILE * standard_error(kappa, items, base_rate)


def planned(
    personas: int,
    raters: int,
    items: int,
    assumed: Assumed = Assumed(),
    *,
    personas_a_question: float = 2.0,
    seed: int = 0,
    studies: int = STUDIES,
    printed_studies: int = PRINTED_STUDIES,
) -> Planned:
    """Of a study with `items` questions a persona, each answered by all `raters` of it.

    personas_a_question: about how many personas each question is asked. Raises InputError for numbers that describe no study.
    """
    check_assumptions(personas, raters, items, assumed)
    design = _design(personas, raters, items, personas_a_question)
    key = (
        f"{personas}/{raters}/{items}/{assumed.kappa}/{assumed.control}/{assumed.base_rate}/{assumed.persona_spread}/"
        f"{assumed.question_spread}"
    )
    rng = rng_for(seed, "human/power", key)
    drawn = _figures_of_studies(studies, design, assumed, rng)
    # An interval of one persona is about that persona's kappa, so how far personas differ is no part of it.
    one_persona = Design(1, raters, items, questions=items)
    alone = _figures_of_studies(studies, one_persona, replace(assumed, persona_spread=0.0), rng)
    return Planned(
        pooled={name: _half_width(drawn[name]) for name in FIGURES},
        one_persona={name: _half_width(alone[name]) for name in FIGURES},
        printed=_printed(printed_studies, design, assumed, seed, key),
        undefined={name: float(np.isnan(alone[name]).mean()) for name in FIGURES},
        with_majority=float(drawn["with majority"].mean()) if raters >= FEWEST_RATERS else None,
        against_control=_power(drawn[JUDGE] - drawn["control"]),
        one_persona_against_control=_power(alone[JUDGE] - alone["control"]),
        against_weaker=_power(drawn[JUDGE] - drawn["weaker judge"]),
    )


def planned_study(study: Study, personas_a_question: float) -> Planned:
    """What to expect of a study's design under the defaults of Assumed: the plan prints it before the first
    answer, and the report repeats it.

    One rater a persona, for whom there is no kappa between raters, is planned as two.
    """
    raters = max(2, study.raters_per_persona)
    return planned(study.personas, raters, study.questions_per_rater, personas_a_question=personas_a_question)


def personas_needed(
    wished: float,
    raters: int,
    items: int,
    figure: str = MAJORITY,
    assumed: Assumed = Assumed(),
    *,
    widened: float = 1.0,
    personas_a_question: float = 2.0,
    seed: int = 0,
    studies: int = 400,
) -> int | None:
    """The fewest personas for a pooled half-width of at most `wished`; None where more than MOST_PERSONAS would be needed, or where the
    raters are too few for a majority.

    widened: by how much the printed intervals are wider than 1.96 standard deviations (`Planned.printed` over `Planned.pooled`).
    """
    if wished <= 0:
        raise InputError(f"The wished half-width is {wished}; give more than 0, as 0.1.")
    if figure not in FIGURES:
        raise InputError(f"{figure!r} is no figure of a study. Give one of: {', '.join(FIGURES)}.")

    def half_width(personas: int) -> float | None:
        key = (
            f"{figure}/{personas}/{raters}/{items}/{assumed.kappa}/{assumed.base_rate}/{assumed.persona_spread}/"
            f"{assumed.question_spread}"
        )
        rng = rng_for(seed, "human/power/needed", key)
        design = _design(personas, raters, items, personas_a_question)
        return _half_width(_figures_of_studies(studies, design, assumed, rng)[figure])

    # Half-widths fall with the root of the number of personas, so a pilot of a middling size says how many are needed.
    pilot = 40
    width = half_width(pilot)
    if width is None:
        return None
    wanted = max(2, math.ceil(pilot * (widened * width / wished) ** 2))
    if wanted > MOST_PERSONAS:
        return None
    if not pilot / 4 <= wanted <= pilot * 4 and (nearer := half_width(min(wanted, 4 * pilot))) is not None:
        wanted = max(2, math.ceil(min(wanted, 4 * pilot) * (widened * nearer / wished) ** 2))
    return wanted if wanted <= MOST_PERSONAS else None


def check_assumptions(personas: int, raters: int, items: int, assumed: Assumed) -> None:
    """Raises InputError with every number that is out of range."""
    wrong = [
        f"{name} is {value}; give at least {least}"
        for name, value, least in (
            ("personas", personas, 1),
            ("raters", raters, 2),
            ("items", items, 1),
            ("persona_spread", assumed.persona_spread, 0),
            ("question_spread", assumed.question_spread, 0),
        )
        if value < least
    ]
    wrong += [
        f"{name} is {value}; give a number {between}"
        for name, value, fits, between in (
            ("kappa", assumed.kappa, 0 < assumed.kappa <= 1, "above 0, at most 1"),
            ("control", assumed.control, 0 <= assumed.control <= 1, "from 0 to 1"),
            ("base_rate", assumed.base_rate, 0 < assumed.base_rate < 1, "between 0 and 1"),
        )
        if not fits
    ]
    if wrong:
        raise InputError(f"The plan of a study does not work: {'; '.join(wrong)}.")


def simulated_answers(
    studies: int, design: Design, assumed: Assumed, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(raters' answers, shape (studies, personas, items, raters); those of the judge, of the same judge under a wrong persona, and of a
    judge whose kappa is DIFFERENCE lower, shape (studies, personas, items, 3); number of each item's question). Answers are 0 or 1.
    """
    shape = (studies, design.personas, design.items)
    # A persona is asked different questions: so many in a row, from a random place in a circle of all.
    start = rng.integers(0, design.questions, size=(studies, design.personas, 1))
    asked = (start + np.arange(design.items)) % design.questions
    between = assumed.persona_spread * rng.standard_normal((studies, design.personas, 1))
    own = assumed.question_spread * rng.standard_normal((studies, design.questions))
    of_item = np.clip(assumed.kappa + between + own[np.arange(studies)[:, None, None], asked], 0.0, 1.0)
    rater = np.sqrt(of_item)
    with np.errstate(invalid="ignore", divide="ignore"):
        wrong, weaker = (
            np.where(rater > 0, np.clip(value / rater, 0.0, 1.0), 0.0)
            for value in (np.minimum(assumed.control, of_item), np.clip(of_item - DIFFERENCE, 0.0, None))
        )
    truth = rng.random(shape) < assumed.base_rate

    def answers(reliability: np.ndarray) -> np.ndarray:
        follows = rng.random(reliability.shape) < reliability
        return np.where(follows, truth[..., None], rng.random(reliability.shape) < assumed.base_rate)

    given = answers(np.broadcast_to(rater[..., None], (*shape, design.raters)))
    return given, answers(np.stack([rater, wrong, weaker], axis=-1)), asked


def _design(personas: int, raters: int, items: int, personas_a_question: float) -> Design:
    return Design(personas, raters, items, max(items, round(personas * items / personas_a_question)))


def _figures_of_studies(
    studies: int, design: Design, assumed: Assumed, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Each figure of every simulated study, shape (studies,)."""
    found: dict[str, list[np.ndarray]] = {}
    for size in _blocks(studies, design.personas * design.items * (design.raters + 3)):
        people, judges, _ = simulated_answers(size, design, assumed, rng)
        majority = _majority(people)
        block = {
            TWO_RATERS: _kappa(people[..., 0], people[..., 1]),
            RATERS: _kappa_of_raters(people),
            JUDGE: _kappa(people, judges[..., :1]),
            "control": _kappa(people, judges[..., 1:2]),
            "weaker judge": _kappa(people, judges[..., 2:]),
            MAJORITY: _kappa(majority, judges[..., 0]),
            "with majority": (~np.isnan(majority)).mean(axis=(1, 2)),
        }
        for name, values in block.items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _blocks(studies: int, answers: int) -> Iterator[int]:
    size = max(1, min(studies, BLOCK // answers))
    for start in range(0, studies, size):
        yield min(size, studies - start)


def _majority(people: np.ndarray) -> np.ndarray:
    """Shape (studies, personas, items): 0, 1 or NaN."""
    raters = people.shape[-1]
    if raters < FEWEST_RATERS:
        return np.full(people.shape[:-1], math.nan)
    ones, needed = people.sum(axis=-1), math.ceil(CONSENSUS * raters)
    return np.where(ones >= needed, 1.0, np.where(raters - ones >= needed, 0.0, math.nan))


def _kappa(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of answers 0 and 1, over every axis but the first; NaN stands for no answer, and for no kappa."""
    one, other = np.broadcast_arrays(first.astype(float), second.astype(float))
    counted = ~(np.isnan(one) | np.isnan(other))
    axes = tuple(range(1, one.ndim))
    n = counted.sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreed = (counted & (one == other)).sum(axis=axes) / n
        ones, others = (np.where(counted, answers, 0.0).sum(axis=axes) / n for answers in (one, other))
    return _chance_corrected(agreed, ones, others)


def _kappa_of_raters(people: np.ndarray) -> np.ndarray:
    """Of every two raters of an item, both ways round."""
    raters = people.shape[-1]
    ones = people.sum(axis=-1).astype(float)
    agreed = (ones * (ones - 1) + (raters - ones) * (raters - ones - 1)) / (raters * (raters - 1))
    rate = people.mean(axis=(1, 2, 3))
    return _chance_corrected(agreed.mean(axis=(1, 2)), rate, rate)


def _chance_corrected(agreed: np.ndarray, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    by_chance = ones * others + (1 - ones) * (1 - others)
    constant = (np.minimum(ones, 1 - ones) < 1e-9) | (np.minimum(others, 1 - others) < 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, math.nan, (agreed - by_chance) / (1 - by_chance))


def _half_width(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(NORMAL_QUANTILE * defined.std()) if len(defined) > len(values) / 2 else None


def _power(differences: np.ndarray) -> float | None:
    """How often a two-sided test at 5 % finds a difference above 0, its standard error being the one over all simulated studies."""
    half_width = _half_width(differences)
    if half_width is None:
        return None
    return float((differences[~np.isnan(differences)] > half_width).mean())


def _printed(studies: int, design: Design, assumed: Assumed, seed: int, key: str) -> dict[str, float | None]:
    """The mean half-width of the intervals that the analysis gives on simulated studies; None where it mostly gives none."""
    widths: dict[str, list[float]] = {name: [] for name in FIGURES}
    for number in range(studies):
        rng = rng_for(seed, "human/power/printed", f"{key}/{number}")
        people, judges, asked = simulated_answers(1, design, assumed, rng)
        for name, estimate in _estimates(people[0], judges[0, ..., 0], asked[0], rng).items():
            if estimate.low is not None and estimate.high is not None:
                widths[name].append((estimate.high - estimate.low) / 2)
    return {name: float(np.mean(found)) if len(found) > studies / 2 else None for name, found in widths.items()}


def _estimates(
    people: np.ndarray, judge: np.ndarray, asked: np.ndarray, rng: np.random.Generator
) -> Mapping[str, Estimate]:
    """As the analysis computes them. people: (personas, items, raters); judge, asked: (personas, items)."""
    personas, items, raters = people.shape
    places = [(persona, item) for persona in range(personas) for item in range(items)]
    clusters = [(f"p{persona:05}",) for persona, _ in places]
    prompts = [f"q{asked[place]:05}" for place in places]

    def words(values: np.ndarray) -> list[str | None]:
        return [None if math.isnan(value) else "AB"[int(value)] for value in values.astype(float)]

    columns = [words(people[..., rater].reshape(-1)) for rater in range(raters)]
    judged, majority = words(judge.reshape(-1)), words(_majority(people[None])[0].reshape(-1))
    compared = {
        TWO_RATERS: ([(columns[0], columns[1])], False),
        RATERS: ([(one, other) for place, one in enumerate(columns) for other in columns[place + 1 :]], True),
        JUDGE: ([(judged, column) for column in columns], False),
        MAJORITY: ([(judged, majority)], False),
    }
    found = pooled_kappas(list(compared.values()), clusters, prompts, rng)
    return {name: kappa for name, (kappa, _) in zip(compared, found, strict=True)}


def power_rows(found: Planned) -> Sequence[tuple[str, float | None, float | None, float | None, float]]:
    """(figure, half-width over all personas, the one that the analysis prints, of one persona, share of personas without it)."""
    return [
        (name, found.pooled[name], found.printed[name], found.one_persona[name], found.undefined[name])
        for name in FIGURES
    ]
