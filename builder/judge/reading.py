"""One call of a judge that is asked in words: what it replied, and what is read from that.

Two parsers. `markers`: the judge writes prose, and the verdict is the last marker's, one word of the menu. `verdict_tokens`: the words of
the menu are scored as continuations after the marker, so that a small model need not keep to a form; what is kept is the log-probability
of each. Reading is apart from asking, so that kept replies can be read again without a call.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from builder.judge.judge import Judge, Reading
from builder.llm.drawing import UNREADABLE, draw_until_readable
from builder.llm.messages import ChatRequest
from builder.llm.templates import PromptTemplate, load_template, section_name
from builder.llm.word_scores import Menu, score_words, word_weights

NO_PROFILE = "Nothing is known about the person."
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
    rules: Sequence[Reading | None],
    sample: int,
) -> list[Reading]:
    """The judge's reading for each filling of its template, in order.

    section: of the template's reply that holds the verdict. worth: what each word of the menu counts, in [0, 1]. rules: for each filling a
    reading where no judge is needed (`by_rule`), else None. sample: another draw of the same reply.
    """
    asked = [filling for filling, rule in zip(values, rules, strict=True) if rule is None]
    if judge.parser == "verdict_tokens":
        said = iter(_score_words(judge, calls, asked, section, worth, label))
    else:
        said = iter(_ask_for_prose(judge, calls, asked, section, worth, label, sample))
    return [next(said) if rule is None else rule for rule in rules]


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
    return _read_prose(load_template(judge.template), raw, section, worth) or Reading(None, UNREADABLE, raw)


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
    requests = [
        ChatRequest(template.render(**filling), judge.sampling, template.label, judge.seed, sample_index=sample)
        for filling in values
    ]

    def read(_: int, text: str) -> Reading | None:
        return _read_prose(template, text, section, worth)

    said = draw_until_readable(calls, judge.role, requests, read, judge.max_retries, label)
    return [drawn.read or Reading(None, drawn.failure, drawn.reply.text) for drawn in said]


def _read_prose(template: PromptTemplate, text: str, section: str, worth: Mapping[str, float]) -> Reading | None:
    sections = template.read(text)
    if not sections:
        return None
    reason = " ".join(said for name, said in sections.items() if name != section)
    return Reading(worth[sections[section]], reason, text)


def _score_words(
    judge: Judge,
    calls: Any,
    values: Sequence[Mapping[str, str]],
    section: str,
    worth: Mapping[str, float],
    label: str,
) -> list[Reading]:
    template = load_template(judge.template)
    marker, words = next((m, words) for m, words in template.choices.items() if section_name(m) == section)
    menus = [Menu(template.render(**filling), template.label, marker, words) for filling in values]
    return [
        Reading(None, failure, "") if failure else _read_scores(raw, worth)
        for raw, failure in score_words(calls, judge.role, menus, label)
    ]


def _read_scores(raw: str, worth: Mapping[str, float]) -> Reading:
    """The worth of the menu's words, weighed by their probabilities among themselves."""
    weights, failure = word_weights(raw, worth)
    if failure:
        return Reading(None, failure, raw)
    value = math.fsum(weights[word] * worth[word] for word in weights) / math.fsum(weights.values())
    return Reading(value, "", raw)
