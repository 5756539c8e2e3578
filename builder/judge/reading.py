"""One call of a judge that is asked in words: what it replied, and what is read from that.

Two parsers. `markers`: the judge writes prose, and the verdict is the last marker's, one word of the menu. `verdict_tokens`: the words of
the menu are scored as continuations after the marker, so that a small model need not keep to a form; what is kept is the log-probability
of each. Reading is apart from asking, so that kept replies can be read again without a call.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from builder.judge.judge import Judge, Reading
from builder.llm.messages import ChatRequest, Failure, ScoreRequest
from builder.llm.templates import PromptTemplate, load_template, section_name

NO_PROFILE = "Nothing is known about the person."
UNREADABLE = "unreadable"
# What needs no judge: which of the answers, as shown, are empty or blank -> the reason, and the value of the first or only one.
EMPTY = {
    (True,): ("the answer is empty", 0.0),
    (True, False): ("the first answer is empty", 0.0),
    (False, True): ("the second answer is empty", 1.0),
    (True, True): ("both answers are empty", 0.5),
}
BY_RULE = dict(EMPTY.values())


def ask_judge(
    judge: Judge,
    calls: Any,
    values: Sequence[Mapping[str, str]],
    section: str,
    worth: Mapping[str, float],
    label: str,
    rules: Sequence[Reading | None] | None = None,
    sample: int = 0,
) -> list[Reading]:
    """The judge's reading for each filling of its template, in order.

    section: of the template's reply that holds the verdict. worth: what each word of the menu counts, in [0, 1]. rules: a reading where
    no judge is needed (`by_rule`). sample: another draw of the same reply.
    """
    settled = rules or [None] * len(values)
    asked = [filling for filling, rule in zip(values, settled, strict=True) if rule is None]
    if judge.parser == "verdict_tokens":
        said = iter(_score_words(judge, calls, asked, section, worth, label))
    else:
        said = iter(_ask_for_prose(judge, calls, asked, section, worth, label, sample))
    return [next(said) if rule is None else rule for rule in settled]


def by_rule(answers: Sequence[str]) -> Reading | None:
    """The reading of one answer, or of two as shown, where an answer is empty or blank; None where a judge must say."""
    empty = tuple(not answer.strip() for answer in answers)
    if not any(empty):
        return None
    reason, value = EMPTY[empty]
    return Reading(value, reason, "")


def read_reply(judge: Judge, raw: str, section: str, worth: Mapping[str, float]) -> Reading:
    """What a kept reply says. raw: a text, or for scored verdict tokens a JSON object of log-probabilities by word."""
    if judge.parser == "verdict_tokens":
        return _read_scores(raw, worth)
    sections = load_template(judge.template).read(raw)
    if not sections:
        return Reading(None, UNREADABLE, raw)
    reason = " ".join(text for name, text in sections.items() if name != section)
    return Reading(worth[sections[section]], reason, raw)


def _ask_for_prose(
    judge: Judge,
    calls: Any,
    values: Sequence[Mapping[str, str]],
    section: str,
    worth: Mapping[str, float],
    label: str,
    sample: int,
) -> list[Reading]:
    template = load_template(judge.template)
    said = [Reading(None, "not asked", "")] * len(values)
    open_questions = list(range(len(values)))
    for attempt in range(judge.max_retries + 1):
        requests = [
            ChatRequest(
                messages=template.render(**values[i]),
                sampling=judge.sampling,
                template=template.label,
                seed=judge.seed,
                sample_index=sample,
                attempt=attempt,
            )
            for i in open_questions
        ]
        unread = []
        for i, reply in zip(open_questions, calls.generate(judge.role, requests, label), strict=True):
            if isinstance(reply, Failure):
                said[i] = Reading(None, reply.reason, reply.text)
            else:
                said[i] = read_reply(judge, reply.text, section, worth)
            if said[i].value is None and (not isinstance(reply, Failure) or reply.worth_another_attempt):
                unread.append(i)
        open_questions = unread
        if not open_questions:
            break
    return said


def _score_words(
    judge: Judge,
    calls: Any,
    values: Sequence[Mapping[str, str]],
    section: str,
    worth: Mapping[str, float],
    label: str,
) -> list[Reading]:
    template = load_template(judge.template)
    marker, words = _menu(template, section)
    requests = [
        ScoreRequest(messages, f"{marker} {word}", template.label)
        for messages in (template.render(**filling) for filling in values)
        for word in words
    ]
    replies = calls.score(judge.role, requests, label)
    readings = []
    for start in range(0, len(replies), len(words)):
        own = replies[start : start + len(words)]
        failed = next((reply for reply in own if isinstance(reply, Failure)), None)
        if failed is not None:
            readings.append(Reading(None, failed.reason, ""))
            continue
        sums = {word: math.fsum(reply.log_probabilities) for word, reply in zip(words, own, strict=True)}
        readings.append(_read_scores(json.dumps(sums), worth))
    return readings


def _read_scores(raw: str, worth: Mapping[str, float]) -> Reading:
    """The worth of the menu's words, weighed by their probabilities among themselves."""
    try:
        sums = {word: float(value) for word, value in json.loads(raw).items()}
    except (ValueError, AttributeError, TypeError):
        return Reading(None, UNREADABLE, raw)
    if not sums or not sums.keys() <= worth.keys():
        return Reading(None, UNREADABLE, raw)
    if not all(map(math.isfinite, sums.values())):
        return Reading(None, "the model gives a verdict no probability at all", raw)
    highest = max(sums.values())
    weights = {word: math.exp(value - highest) for word, value in sums.items()}
    value = math.fsum(weights[word] * worth[word] for word in weights) / math.fsum(weights.values())
    return Reading(value, "", raw)


def _menu(template: PromptTemplate, section: str) -> tuple[str, tuple[str, ...]]:
    return next((m, words) for m, words in template.choices.items() if section_name(m) == section)
