"""Who annotates: judges with their models, lexical baselines, simulated people, people from files, and what nobody needs to be asked.

A judge and the profile overlap appear three or two times: shown the pair's persona, nobody (a judge), and a wrong persona. The pair's own
label and, on dpf, the rule to take the refined answer always stand beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Comparison, Verdict
from builder.judge.judge_file import JUDGE_FOLDER
from builder.lexical import profile_overlap, words
from eval.agreement.choices import SUFFIXES, Choice
from eval.agreement.pairs import AnnotatedPair
from eval.judging import EvaluationJudge, find_judges
from training.conditioning import CONDITIONS

GROUPS = ("model", "human", "simulated", "lexical", "rule")
CONDITION_SUFFIXES = {"true": "", "none": " (no persona)", "wrong": " (wrong persona)"}
OVERLAP, SHORTER = "profile-overlap", "shorter-answer"
LEXICAL = (OVERLAP, SHORTER)
# Of the data itself. On dpf the label is a rule that needs no persona: the refined answer is always the chosen one.
LABEL, PUBLISHED = "the data's label", "the data's judge"
SIMULATED = "simulated"
MOST_SIMULATED = 20
RATING_COLUMNS = {"annotator": "string", "pair_id": "string", "answer": "string", "reason": "string"}


@dataclass(frozen=True)
class Annotator:
    """condition: `true`, `none` or `wrong` persona, empty where there are no twins. of: the name of the one whose twin it is, or its own.
    judge: label of the judge, else None. reliability: of a simulated person."""

    name: str
    group: str
    condition: str = ""
    of: str = ""
    judge: str | None = None
    reliability: float | None = None
    scripted: bool = False


@dataclass(frozen=True)
class Asked:
    """What the words of --annotator name."""

    judges: list[EvaluationJudge]
    lexical: list[str]
    simulated: int
    files: list[Path]


def parse_annotators(given: Sequence[str], seed: int) -> Asked:
    """Raises InputError for a word that names nobody, or names somebody twice."""
    if len(set(given)) < len(given):
        twice = next(word for word in given if list(given).count(word) > 1)
        raise InputError(f"Annotator {twice} is given twice. Give each once.")
    judges, lexical, files, simulated = [], [], [], 0
    for word in given:
        name, _, count = word.partition(":")
        if name == SIMULATED:
            if simulated:
                raise InputError("Simulated people are given twice. Give one `simulated:N`.")
            if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MOST_SIMULATED:
                raise InputError(
                    f"{word!r} says no number of simulated people; write simulated:4, with 1 to {MOST_SIMULATED}."
                )
            simulated = int(count)
        elif word in LEXICAL:
            lexical.append(word)
        elif word.endswith(SUFFIXES):
            files.append(Path(word))
        else:
            judges.append(word)
    try:
        found = find_judges(judges, ("pairwise", "likelihood"), seed) if judges else []
    except InputError as error:
        packaged = ", ".join(sorted(path.stem for path in JUDGE_FOLDER.glob("*.yaml")))
        others = f"{', '.join(LEXICAL)}, simulated:N, or a file of choices ({', '.join(SUFFIXES)})"
        raise InputError(f"{error} An annotator is a judge ({packaged}; =MODEL after it), {others}.") from None
    return Asked(found, lexical, simulated, files)


def judge_annotators(judges: Sequence[EvaluationJudge]) -> list[Annotator]:
    """Three for each judge, in the order of CONDITIONS. With two judges of one file the model stands in the name."""
    names = [judge.judge.name for judge in judges]
    found = []
    for judge in judges:
        own = judge.judge
        base = own.name if names.count(own.name) == 1 else f"{own.name} of {own.model.rsplit('/', 1)[-1]}"
        found += [
            Annotator(
                f"{base}{CONDITION_SUFFIXES[condition]}", "model", condition, base, own.label, scripted=judge.scripted
            )
            for condition in CONDITIONS
        ]
    return found


def lexical_annotators(names: Sequence[str]) -> list[Annotator]:
    """Without a persona no word is shared with one: that twin of the overlap would say tie to everything, and is left out."""
    found = []
    for name in names:
        conditions = ("true", "wrong") if name == OVERLAP else ("",)
        found += [Annotator(f"{name}{CONDITION_SUFFIXES.get(c, '')}", "lexical", c, name) for c in conditions]
    return found


def lexical_answer(annotator: Annotator, pair: AnnotatedPair, profiles: Mapping[str, str]) -> str:
    if annotator.of == SHORTER:
        scores = [-float(len(words(answer))) for answer in pair.answers]
    else:
        profile = shown_profile(pair, annotator.condition, profiles) or ""
        scores = [profile_overlap(answer, profile) for answer in pair.answers]
    return "tie" if scores[0] == scores[1] else "A" if scores[0] > scores[1] else "B"


def shown_profile(pair: AnnotatedPair, condition: str, profiles: Mapping[str, str]) -> str | None:
    """Raises InputError where the dataset has no profile for the persona."""
    if condition == "none":
        return None
    persona = pair.row.persona_id if condition == "true" else pair.row.published["wrong_persona_id"]
    if persona not in profiles:
        raise InputError(
            f"The personas config has no profile for {persona}, which {pair.pair_id} names. Publish again."
        )
    return profiles[persona]


def comparison(pair: AnnotatedPair, condition: str, profiles: Mapping[str, str]) -> Comparison:
    return Comparison(shown_profile(pair, condition, profiles), pair.row.question, pair.answers)


def verdict_rating(name: str, pair_id: str, verdict: Verdict) -> dict[str, Any]:
    """A row of RATING_COLUMNS; without an answer the reason why."""
    if verdict.verdict == "unscored":
        return {"annotator": name, "pair_id": pair_id, "answer": None, "reason": verdict.reason or "unscored"}
    return rating(name, pair_id, verdict.verdict)


def file_rating(choice: Choice, pair: AnnotatedPair) -> dict[str, Any]:
    other = {"A": "B", "B": "A"}[pair.label]
    answer = {"chosen": pair.label, "rejected": other}.get(choice.choice, choice.choice)
    return rating(choice.annotator, pair.pair_id, answer)


def rating(name: str, pair_id: str, answer: str) -> dict[str, Any]:
    return {"annotator": name, "pair_id": pair_id, "answer": answer, "reason": None}
