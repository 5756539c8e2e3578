"""`persona annotate status`: how far a study is, and which raters will not count."""

import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

from eval.human.exclusion import Standing
from eval.human.opening import open_study
from eval.human.records import Answer
from eval.human.store import Store
from eval.human.study import Study, fingerprint_of


def status_text(
    study_path: Path, database: Path | None = None, simulated: bool = False, now: float | None = None
) -> str:
    """Raises InputError where there is no database yet. Nothing is written."""
    study, store = open_study(study_path, database, simulated=simulated, create=False)
    try:
        return "\n".join(_lines(study, store, time.time() if now is None else now))
    finally:
        store.close()


def _lines(study: Study, store: Store, now: float) -> list[str]:
    found, answers = store.standings(), store.answers()
    counting = sum(standing.counts for standing in found)
    states = Counter(standing.rater.state for standing in found)
    kind = " (simulated raters)" if store.kind == "simulated" else ""
    return [
        f"{study.title}{kind}: study {fingerprint_of(study)}, {store.path.name}",
        f"{counting} of {study.raters} places are filled by raters who count.",
        f"{len(found)} tokens issued: {states['finished']} finished, {states['open']} began and did not finish, {states['new']} unused.",
        _answers_in_words(answers),
        "",
        *_by_persona(study, store, found, now),
        *_not_counting(found),
    ]


def _answers_in_words(answers: list[Answer]) -> str:
    if not answers:
        return "No answer yet."
    by_rater = defaultdict(list)
    for answer in answers:
        by_rater[answer.rater_id].append(answer.seconds)
    changed = sum(answer.changes > 0 for answer in answers)
    return (
        f"{len(answers)} answers of {len(by_rater)} raters, {changed} of them changed later; median "
        f"{median(answer.seconds for answer in answers):.0f} s from question to answer, {median(map(sum, by_rater.values())) / 60:.1f} min "
        "a rater so far."
    )


def _by_persona(study: Study, store: Store, found: list[Standing], now: float) -> list[str]:
    idle = study.idle_minutes * 60
    counts: dict[str, Counter[str]] = {persona.persona_id: Counter() for persona in store.material.personas}
    for standing in found:
        rater = standing.rater
        if rater.persona_id is None:
            continue
        if rater.state == "open":
            what = "at work" if rater.last_seen is not None and now - rater.last_seen <= idle else "idle"
        elif standing.counts:
            what = "counting"
        else:
            what = "excluded" if standing.excluded else "too late"
        counts[rater.persona_id][what] += 1
    columns = ("counting", "at work", "idle", "excluded", "too late")
    width = max(len("persona"), *map(len, counts))
    return [
        f"{'persona':<{width}}" + "".join(f"{column:>10}" for column in columns),
        *(
            f"{persona:<{width}}" + "".join(f"{count[column]:>10}" for column in columns)
            for persona, count in counts.items()
        ),
        f"Of each persona {study.raters_per_persona} raters count. Idle: no sign for {study.idle_minutes:g} minutes; the place is free.",
    ]


def _not_counting(found: list[Standing]) -> list[str]:
    finished = [standing for standing in found if standing.rater.state == "finished" and not standing.counts]
    lines = [f"{standing.rater.rater_id}  {standing.reason}" for standing in finished]
    return ["", "Finished, and not counted:", *lines] if lines else []
