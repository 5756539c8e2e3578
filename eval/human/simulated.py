"""Simulated raters take a whole study, so that every part of it has run before the first person comes.

They go through the same database as people, one of their own, on a clock of their own: nothing waits. What they answer is planted, by a
judge or by the data's labels, with noise; some click carelessly, some give up. They are no evidence about people, and all that is made of
them says *simulated*.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import write_json
from builder.llm.budget import Budget
from builder.randomness import rng_for
from eval.human.cards import Card, card_text
from eval.human.material import CHECK, Item, Material, draw_material
from eval.human.opening import database_path, dataset_folder, open_study
from eval.human.simulation import simulation_path
from eval.human.store import Store, StudyFullError
from eval.human.study import LONGEST_ANSWER, Study, load_study
from eval.results import digest

START = 1_767_600_000.0  # 5 January 2026, 8:00 UTC: when the first simulated rater comes
BETWEEN_RATERS = 600.0  # seconds from one coming to the next
TYPICAL_SECONDS = 45.0  # on a question; more where the study excludes who is that fast
MOST_RATERS = 5  # times the places of the study; then it ends with places left free
LABELS = "the data's labels"

# Two reasonings that careless raters paste again and again.
PASTED_TEXTS = (
    "Simulated careless rater: this answer is better because it is more helpful and more accurate than the other answer.",
    "Simulated careless rater: both are good, and I prefer this one since it is well written and answers the question.",
)


@dataclass(frozen=True)
class SimulatedRater:
    """number: in the order of coming, from 0."""

    number: int
    token: str
    careless: bool
    gives_up: bool


def simulate(
    study_path: Path,
    database: Path | None = None,
    judge: str | None = None,
    noise: float = 0.1,
    careless: float = 0.1,
    dropouts: float = 0.1,
    *,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """Raters come until every place is taken by one who counts, MOST_RATERS times as many as places at most. Returns what to print.

    judge: JUDGE[=MODEL], asked once about every item, with the persona's card; None: the data's labels. noise: share of the answers turned
    round, of raters who pay attention. careless: share of raters who click at random, at once, with pasted text. dropouts: share who give
    up half way. A run that was killed goes on where it stood. Raises InputError for a share outside 0 to 1, a judge that does not exist,
    and a database that holds simulated raters of other settings.
    """
    for name, share in (("noise", noise), ("careless", careless), ("dropouts", dropouts)):
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise InputError(f"--{name} is {share}; it is a share, from 0 to 1.")
    path = database or database_path(study_path, simulated=True)
    found = _find_judge(judge, seed)
    label = found.judge.label if found else LABELS
    if dry_run:
        study, material = _without_writing(study_path, path)
        said = _ask(found, material, path, base_model, budget, dry_run=True)[1]
        return said or f"Dry run: {study.raters} simulated raters would answer by {label}. Nothing was written."
    settings = {"judge": label, "noise": noise, "careless": careless, "dropouts": dropouts, "seed": seed}
    study, store = open_study(study_path, path, simulated=True)
    try:
        raters = [_rater(number, settings) for number in range(MOST_RATERS * study.raters)]
        _refuse_others(store, raters)
        preferred, said = _ask(found, store.material, path, base_model, budget)
        write_json(simulation_path(path), settings)
        _take_part(study, store, raters, preferred, settings)
        came = [rater for rater in raters if store.rater(rater.token)]
        write_json(simulation_path(path), settings | {"raters": [_planted(store, rater) for rater in came]})
        counting = sum(standing.counts for standing in store.standings())
    finally:
        store.close()
    left = study.raters - counting
    return " ".join(
        [
            f"{len(came)} simulated raters came, who answered by {label}: {sum(r.careless for r in came)} careless, "
            f"{sum(r.gives_up for r in came)} who gave up. {counting} of {study.raters} places are filled with raters who count.",
            *([f"{left} stay free: more than {len(came)} raters do not come. Lower the shares."] if left else []),
            *([said] if said else []),
            f"Next: persona annotate analyse {study_path} --simulated.",
        ]
    )


def _find_judge(judge: str | None, seed: int) -> Any:
    """An EvaluationJudge; None for the data's labels."""
    if judge is None:
        return None
    from eval.judging import find_judges

    return find_judges([judge], ("pairwise", "likelihood"), seed)[0]


def _ask(
    judge: Any, material: Material, path: Path, base_model: str | None, budget: Budget | None, dry_run: bool = False
) -> tuple[dict[str, str | None], str]:
    """(item id -> `chosen`, `rejected`, or None where the judge does not say; what it cost).

    The judge's replies are recorded beside the database: what was asked once is not asked again.
    """
    items = [
        (persona.card, item)
        for persona in material.personas
        for item in persona.items
        if item.kind != CHECK and item.item_id in persona.shown
    ]
    if judge is None:
        return {item.item_id: "chosen" for _, item in items}, ""
    from builder.judge.judge import Comparison, compare
    from eval.calls import check_all_answered, open_calls, spent

    calls = open_calls(path.with_suffix(".judge"), [judge], base_model=base_model, budget=budget, dry_run=dry_run)
    comparisons = [Comparison(card_text(card), item.question, item.answers) for card, item in items]
    verdicts = compare(judge.judge, calls, comparisons, "simulated raters")
    if not dry_run:
        check_all_answered(calls)
    said = {"A": "chosen", "B": "rejected"}
    preferred = {item.item_id: said.get(v.verdict) for (_, item), v in zip(items, verdicts, strict=True)}
    return preferred, spent(calls)


def _without_writing(study_path: Path, path: Path) -> tuple[Study, Material]:
    if path.exists():
        study, store = open_study(study_path, path, simulated=True, create=False)
        store.close()
        return study, store.material
    study = load_study(study_path)
    return study, draw_material(study, dataset_folder(study, study_path))


def _rater(number: int, settings: Mapping[str, Any]) -> SimulatedRater:
    """Who comes as number `number`. A fixed token, so that a run that goes on, or is repeated, has the same raters."""
    rng = rng_for(settings["seed"], "human/simulated_rater", str(number))
    token = hashlib.sha256(f"simulated|{digest(dict(settings))}|{number}".encode()).hexdigest()[:22]
    careless, gives_up = rng.random(2)
    return SimulatedRater(number, token, bool(careless < settings["careless"]), bool(gives_up < settings["dropouts"]))


def _refuse_others(store: Store, raters: list[SimulatedRater]) -> None:
    known = {found.rater_id for rater in raters if (found := store.rater(rater.token))}
    if others := [rater.rater_id for rater in store.raters() if rater.rater_id not in known]:
        raise InputError(
            f"{store.path} holds {len(others)} simulated raters of another simulation. Give the settings of that one to go on with it, or "
            "name another file with --database."
        )


def _take_part(
    study: Study,
    store: Store,
    raters: list[SimulatedRater],
    preferred: Mapping[str, str | None],
    settings: Mapping[str, Any],
) -> None:
    """Everything that raters do is a function of the settings, so what is there already is only said again."""
    typical = max(TYPICAL_SECONDS, 3 * (study.exclusions.median_seconds_below or 0.0))
    # A place is free again once who gave up has been away for long enough; who comes in replacement waits for that.
    wait = study.idle_minutes * 60 + 4 * typical * (study.questions_per_rater + study.attention_checks)
    for rater in raters:
        late = max(0, rater.number + 1 - study.raters)
        if late and sum(standing.counts for standing in store.standings()) >= study.raters:
            return
        now = START + rater.number * BETWEEN_RATERS + late * wait
        store.admit(rater.token, now)
        if not _answer_all(study, store, rater, preferred, settings, typical, now):
            return


def _answer_all(
    study: Study,
    store: Store,
    rater: SimulatedRater,
    preferred: Mapping[str, str | None],
    settings: Mapping[str, Any],
    typical: float,
    now: float,
) -> bool:
    """False where there was no place."""
    known = store.rater(rater.token)
    assert known is not None
    if known.state == "finished":
        return True
    try:
        known = store.begin(known.rater_id, now=now)
    except StudyFullError:
        return False
    persona = next(p for p in store.material.personas if p.persona_id == known.persona_id)
    items = {item.item_id: item for item in persona.items}
    order = store.items_of(known)
    give_up = rng_for(settings["seed"], "human/simulated_gives_up", str(rater.number)).integers(1, max(2, len(order)))
    for number, (item_id, first) in enumerate(order):
        if rater.gives_up and number == min(give_up, len(order) - 1):
            return True
        wanted, seconds, reason, pasted = _decide(
            study, rater, items[item_id], persona.card, preferred.get(item_id), settings, typical
        )
        store.show(known.rater_id, item_id, now=now)
        now += seconds
        store.save(known.rater_id, item_id, "A" if wanted == first else "B", reason, pasted, now=now)
    store.finish(known.rater_id, now=now)
    return True


def _decide(
    study: Study,
    rater: SimulatedRater,
    item: Item,
    card: Card,
    preferred: str | None,
    settings: Mapping[str, Any],
    typical: float,
) -> tuple[str, float, str, int]:
    """(`chosen` or `rejected`, seconds, reasoning, characters pasted)."""
    rng = rng_for(settings["seed"], "human/simulated_answer", f"{rater.number}|{item.item_id}")
    turned, coin, where = rng.random(3)
    either = "chosen" if coin < 0.5 else "rejected"
    if rater.careless:
        text = _long_enough(PASTED_TEXTS[int(where * len(PASTED_TEXTS))], study)
        return either, 1 + 3 * turned, text, len(text)
    seconds = typical * min(max(math.exp(0.4 * rng.standard_normal()), 0.5), 4.0)
    if item.kind == CHECK:
        return "chosen", seconds, _long_enough("Simulated rater: I have seen the request to choose this one.", study), 0
    wanted = preferred or either
    if turned < settings["noise"]:
        wanted = "rejected" if wanted == "chosen" else "chosen"
    what, value = card[int(where * len(card))]
    text = f"Simulated rater: on {item.question!r} I went by {what!r} of the card ({value}) and by the words {_words(item, wanted)!r}."
    return wanted, seconds, _long_enough(text, study), 0


def _words(item: Item, wanted: str) -> str:
    """The first few of the answer that was chosen."""
    return " ".join(item.answers[0 if wanted == "chosen" else 1].split()[:8])


def _long_enough(text: str, study: Study) -> str:
    times = math.ceil(study.minimum_characters / len(text))
    return " ".join([text] * max(1, times))[:LONGEST_ANSWER].strip()


def _planted(store: Store, rater: SimulatedRater) -> dict[str, Any]:
    known = store.rater(rater.token)
    return {"rater_id": known.rater_id if known else None, "careless": rater.careless, "gives_up": rater.gives_up}
