"""Which raters count, and why the others do not: by the rules of the study file and by nothing that was learnt from the answers."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from eval.human.records import Answer, Rater
from eval.human.study import Exclusions

PASTED = 20  # characters: a quoted word or a corrected line is less, a paragraph from elsewhere is more


@dataclass(frozen=True)
class Standing:
    """reason: why the rater's answers do not count, a sentence; None where they do. excluded: by a rule, and not for want of answers."""

    rater: Rater
    reason: str | None
    excluded: bool = False

    @property
    def counts(self) -> bool:
        return self.reason is None


def reasons(answers: Sequence[Answer], checks: Collection[str], rules: Exclusions) -> list[str]:
    """The rules that one rater's answers break, a sentence each; empty where they break none.

    checks: ids of the attention checks, whose answer `chosen` is the one that they ask for. All other rules look at the questions only: a
    check says itself what to choose. Without a question only the first rule can be broken.
    """
    found = []
    failed = sum(answer.preferred != "chosen" for answer in answers if answer.item_id in checks)
    if rules.attention_checks_failed is not None and failed >= rules.attention_checks_failed:
        found.append(
            f"{failed} attention check{'s' * (failed != 1)} failed; the limit is {rules.attention_checks_failed}."
        )
    questions = [answer for answer in answers if answer.item_id not in checks]
    if not questions:
        return found

    # Where minimum_characters is 0, who writes nothing repeats nothing.
    texts = [words for answer in questions if (words := _words(answer.reason))]
    seconds = median(answer.seconds for answer in questions)
    if rules.median_seconds_below is not None and seconds < rules.median_seconds_below:
        found.append(f"Median time on a question {seconds:.1f} s; the limit is {rules.median_seconds_below:g} s.")
    shares = {
        "of the reasonings were pasted": (
            sum(answer.pasted >= PASTED for answer in questions) / len(questions),
            rules.pasted_share_above,
        ),
        "of the choices fell on one side": (
            max(Counter(answer.choice for answer in questions).values()) / len(questions),
            rules.same_place_share_above,
        ),
        "of the reasonings repeat an earlier one": (
            (len(texts) - len(set(texts))) / len(questions),
            rules.repeated_reasoning_above,
        ),
    }
    for what, (share, limit) in shares.items():
        if limit is not None and share > limit:
            found.append(f"{share:.0%} {what}; the limit is {limit:.0%}.")
    return found


def standings(
    raters: Sequence[Rater],
    answers: Mapping[str, Sequence[Answer]],
    checks: Collection[str],
    rules: Exclusions,
    raters_per_persona: int,
) -> list[Standing]:
    """Of every rater, in the order given; answers by rater id.

    Of a persona the first `raters_per_persona` count that finished and broke no rule, by the time at which they finished. Who comes later
    is left out whatever was answered, so that nobody can choose among finished raters.
    """
    excluded = {
        rater.rater_id: found
        for rater in raters
        if rater.state == "finished" and (found := reasons(answers.get(rater.rater_id, ()), checks, rules))
    }
    sound = [rater for rater in raters if rater.state == "finished" and rater.rater_id not in excluded]
    beyond, seen = set(), Counter[str | None]()
    for rater in sorted(sound, key=lambda rater: (rater.finished, rater.rater_id)):
        seen[rater.persona_id] += 1
        if seen[rater.persona_id] > raters_per_persona:
            beyond.add(rater.rater_id)

    def standing(rater: Rater) -> Standing:
        if rater.state == "new":
            return Standing(rater, "Did not begin.")
        if rater.state == "open":
            return Standing(rater, f"Did not finish; {len(answers.get(rater.rater_id, ()))} answers are there.")
        if rater.rater_id in excluded:
            return Standing(rater, f"Excluded: {' '.join(excluded[rater.rater_id])}", excluded=True)
        if rater.rater_id in beyond:
            return Standing(rater, f"Finished when the persona's {raters_per_persona} places were taken.")
        return Standing(rater, None)

    return [standing(rater) for rater in raters]


def _words(text: str) -> str:
    return " ".join(text.casefold().split())
