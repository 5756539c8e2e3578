"""What a judge is asked for its calibration card, and its verdicts as rows, from which every figure of the card is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.judge.critique import Critique, CritiqueVerdict, criticise
from builder.judge.judge import Comparison, Judge, Verdict, compare
from builder.lexical import profile_overlap, words
from builder.llm.calls import ModelCalls
from builder.randomness import seed_for
from eval.calibration.anchors import ANCHORS, anchor_text
from eval.calibration.items import LabelledItem, demographic_lines, wrong_profiles

CONDITIONS = ("true", "none", "wrong", "demographics")
ANCHOR = "anchor:"
# Nats per token. Recorded log-probabilities have six decimals, and their last one depends on what else was in the batch: a smaller margin
# (of an answer and its own beginning, say) is no preference.
ROUNDING = 1e-5
Row = dict[str, Any]

# One row is one comparison (likelihood, pairwise) or one answer examined (critique).
# item_id: by content; an item and its mirror share contrast_id. part: a condition or anchor:NAME. repeat: 0, or another draw of the
# same. answer: critique only, `fitting`, `opposite` or the anchor. expected: 0 or 1, the place of the fitting answer. longer, overlap: the
# place of the answer with more words, and of the one with the larger share of words from the own profile; -1 for neither. own: the place
# of the only answer that the judge's model wrote, -1 where it wrote none or both. probability: of the first answer, or of a pass. p_ab,
# p_ba: pairwise, the probability of the first answer in each order. counter: whether the right answer runs against what the demographic
# lines suggest. reason: why it is unscored.
COLUMNS = {
    "item_id": "string",
    "contrast_id": "string",
    "profile_id": "string",
    "part": "string",
    "repeat": "int32",
    "answer": "string",
    "expected": "int32",
    "longer": "int32",
    "overlap": "int32",
    "own": "int32",
    "counter": "bool",
    "verdict": "string",
    "probability": "double",
    "p_ab": "double",
    "p_ba": "double",
    "reason": "string",
}


@dataclass(frozen=True)
class Asked:
    """One thing to be judged. `texts`: two answers, or the one to be examined. `facts`: the columns that are known beforehand."""

    key: str
    profile: str | None
    question: str
    texts: tuple[str, ...]
    facts: Row


def questions_for(
    judge: Judge,
    model: str,
    items: Sequence[LabelledItem],
    known: Sequence[LabelledItem],
    anchored: int,
    draws: int,
    seed: int,
) -> list[Asked]:
    """Everything that `judge` is asked about `items`.

    model: the judge's, to find its own answers by. known: all items of the file, of which wrong profiles and answers to other questions
    are taken. anchored: at most so many items meet the anchors. draws: how often each item is asked under its own profile.
    """
    asked = []
    wrong = wrong_profiles(known, seed)
    wrong_of = {item.key: profile for item, profile in zip(known, wrong, strict=True)}
    for item in items:
        facts = _facts(item, model)
        profiles = {
            "true": item.profile,
            "none": None,
            "wrong": wrong_of[item.key],
            "demographics": demographic_lines(item.profile),
        }
        for part, profile in profiles.items():
            if part in ("wrong", "demographics") and profile is None:
                continue
            for repeat in range(draws if part == "true" else 1):
                asked += _asked(judge, item, profile, facts | {"part": part, "repeat": repeat})
    for item in sorted(items, key=lambda item: (seed_for(seed, "calibration/anchors", item.key), item.key))[:anchored]:
        for name in ANCHORS:
            text = None if name == "opposite" else anchor_text(name, item, known, seed)
            # A likelihood judge has nothing to read in an empty answer, and an unscored row would count against it.
            if text is not None and (text or judge.kind != "likelihood"):
                asked.append(_anchor(judge, item, name, text, _facts(item, model)))
    return asked


def ask(judge: Judge, calls: ModelCalls, asked: Sequence[Asked]) -> dict[str, Verdict | CritiqueVerdict]:
    """Key -> verdict."""
    verdicts: dict[str, Verdict | CritiqueVerdict] = {}
    for repeat in sorted({one.facts["repeat"] for one in asked}):
        now = [one for one in asked if one.facts["repeat"] == repeat]
        label = f"{judge.name}, draw {repeat + 1}"
        said: Sequence[Verdict | CritiqueVerdict]
        if judge.kind == "critique":
            said = criticise(judge, calls, [Critique(o.profile, o.question, o.texts[0]) for o in now], label, repeat)
        else:
            pairs = [Comparison(o.profile, o.question, (o.texts[0], o.texts[1])) for o in now]
            said = compare(judge, calls, pairs, label, repeat)
        verdicts.update(zip((one.key for one in now), said, strict=True))
    return verdicts


def row_key(row: Mapping[str, Any]) -> str:
    """The key of a row's judgement, in the transcript too."""
    return "/".join([row["item_id"], row["part"], str(row["repeat"]), *([row["answer"]] if row["answer"] else [])])


def verdict_row(facts: Mapping[str, Any], verdict: Verdict | CritiqueVerdict) -> Row:
    """facts: the columns that are known beforehand; what is read from a verdict is replaced."""
    row = dict(facts) | {"verdict": verdict.verdict, "probability": None, "p_ab": None, "p_ba": None, "reason": None}
    if verdict.verdict == "unscored":
        row["reason"] = verdict.reason
    elif isinstance(verdict, CritiqueVerdict):
        row["probability"] = verdict.score
    else:
        by_order = {call.order: call.probability for call in verdict.judgements}
        row |= {"p_ab": by_order.get("AB"), "p_ba": by_order.get("BA")}
        row["probability"] = by_order.get("both", verdict.score)
        if "both" in by_order and abs(verdict.score or 0.0) < ROUNDING:
            row |= {"verdict": "tie", "probability": 0.5}
    return row


def _facts(item: LabelledItem, model: str) -> Row:
    lengths = [float(len(words(answer))) for answer in item.answers]
    overlaps = [profile_overlap(answer, item.profile) for answer in item.answers]
    wrote = [place for place, author in enumerate(item.authors or ()) if author == model]
    return {
        "item_id": item.key,
        "contrast_id": item.contrast_key,
        "profile_id": item.profile_key,
        "expected": item.expected,
        "longer": _larger(lengths),
        "overlap": _larger(overlaps),
        "own": wrote[0] if len(wrote) == 1 else -1,
        "counter": item.against_demographics,
    }


def _asked(judge: Judge, item: LabelledItem, profile: str | None, facts: Row) -> list[Asked]:
    if judge.kind != "critique":
        return [_one(item, profile, item.answers, facts | {"answer": ""})]
    # A second draw of a critique judge is compared on the fitting answer alone, which halves its cost.
    answers = {"fitting": item.fitting} | ({"opposite": item.opposite} if facts["repeat"] == 0 else {})
    return [_one(item, profile, (text,), facts | {"answer": name}) for name, text in answers.items()]


def _anchor(judge: Judge, item: LabelledItem, name: str, text: str, facts: Row) -> Asked:
    facts |= {"part": ANCHOR + name, "repeat": 0, "longer": -1, "overlap": -1, "own": -1}
    if judge.kind == "critique":
        return _one(item, item.profile, (text,), facts | {"answer": name})
    return _one(item, item.profile, (item.fitting, text), facts | {"answer": "", "expected": 0})


def _one(item: LabelledItem, profile: str | None, texts: tuple[str, ...], facts: Row) -> Asked:
    return Asked(row_key(facts), profile, item.question, texts, facts)


def _larger(pair: Sequence[float]) -> int:
    return -1 if pair[0] == pair[1] else int(pair[1] > pair[0])
