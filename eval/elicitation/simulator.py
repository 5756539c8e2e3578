"""A persona that is interviewed: it answers what it is asked about itself, and says nothing that it was not asked.

Which attribute a question is about is decided by words (questions.yaml). Of a persona that answers exactly, a reply is the line of its
profile. A persona played by a language model is shown that line alone; what it replies is read again, because a model may still guess.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.lexical import words
from builder.llm.messages import Answer, ChatRequest, Sampling
from builder.llm.templates import load_template
from builder.schema import ATTRIBUTES
from builder.strict_yaml import read_yaml
from eval.value_matching import in_words, is_said, states_value, telling_words
from training.profiles import line_of

QUESTIONS_FILE = Path(__file__).parent / "questions.yaml"
TEMPLATE = "elicit_answer"
# The last part helps models in this process, which seldom end by themselves.
SAMPLING = Sampling(max_tokens=80, temperature=0.7, top_p=0.95, end_sentence_after=6)
ATTEMPTS = 2  # replies of a model before the exact one stands in
NOT_KNOWN = "I would rather not say."
NOT_UNDERSTOOD = "To that I have no answer. Ask me about one thing about myself."
# What a profile prints where it says nothing of an attribute. `None` and `Not applicable` are answers.
UNSTATED = ("Not known", "nan")

Stated = Mapping[str, str]  # attribute -> value, of one profile


@dataclass(frozen=True)
class Reply:
    """One answer of a persona.

    attributes: what the question asks about. learned: attribute -> what the answer says of it. status: `answered`, `not_known` (its
    profile does not say) or `not_understood`. leaks: replies of a model that were thrown away because they stated what was not asked.
    failures: why other replies of it could not be used. replaced: none was usable, so the exact answer stands here. states_value: the
    words of the value stand in the reply; None where nothing was answered.
    """

    question: str
    attributes: tuple[str, ...]
    text: str
    status: str
    learned: dict[str, str] = field(default_factory=dict)
    leaks: int = 0
    failures: tuple[str, ...] = ()
    replaced: bool = False
    states_value: bool | None = None


def question_about(attribute: str) -> str:
    """The packaged question about one attribute."""
    question: str = _questions()[attribute]["questions"][0]
    return question


@lru_cache(maxsize=4096)
def asked_attributes(question: str) -> tuple[str, ...]:
    """What a question in free wording asks about, in the order of the schema; empty if none of the known words stands in it.

    A sequence of words that overlaps a longer one of another attribute does not count: `age` in `age of your children`.
    """
    said = words(question)
    found: list[tuple[int, int, str]] = []  # from, to, attribute
    for name, sequences in _sequences().items():
        for sequence in sequences:
            length = len(sequence)
            found += [
                (at, at + length, name)
                for at in range(len(said) - length + 1)
                if tuple(said[at : at + length]) == sequence
            ]
    kept = {
        name
        for start, end, name in found
        if not any(
            other != name and begin < end and start < stop and stop - begin > end - start
            for begin, stop, other in found
        )
    }
    return tuple(name for name in ATTRIBUTES if name in kept)


def exact_reply(stated: Stated, question: str) -> Reply:
    """The lines of the profile that the question asks about, and nothing else."""
    asked = asked_attributes(question)
    if not asked:
        return Reply(question, asked, NOT_UNDERSTOOD, "not_understood")
    learned = {name: stated[name] for name in asked if name in stated and stated[name] not in UNSTATED}
    if not learned:
        return Reply(question, asked, NOT_KNOWN, "not_known")
    text = "\n".join(line_of(name, value) for name, value in learned.items())
    return Reply(question, asked, text, "answered", learned, states_value=True)


def replies(
    asked: Sequence[tuple[Stated, str]], calls: Any = None, role: str = "model", seed: int = 0, label: str = "answering"
) -> list[Reply]:
    """The reply to each (profile, question), in order. Without `calls` (ModelCalls) exactly; with them in a model's words.

    A model is asked only where the profile has an answer. A reply that states another line of the profile is asked for again, and after
    ATTEMPTS the exact answer stands in its place. Raises InputError where the endpoint left questions open.
    """
    found = [exact_reply(stated, question) for stated, question in asked]
    if calls is None:
        return found
    template = load_template(TEMPLATE)
    waiting = [place for place, reply in enumerate(found) if reply.status == "answered"]
    exact = list(found)
    for attempt in range(ATTEMPTS):
        requests = [
            ChatRequest(
                template.render(asked=exact[place].text, question=exact[place].question),
                SAMPLING,
                template.label,
                seed,
                attempt=attempt,
            )
            for place in waiting
        ]
        still: list[int] = []
        for place, said in zip(waiting, calls.generate(role, requests, label), strict=True):
            if not isinstance(said, Answer):
                if said.may_pass:
                    raise InputError(
                        f"The model that plays the personas left a question open ({said.detail or said.reason}). Every reply is recorded: "
                        "see that its endpoint answers, and run the same command again."
                    )
                found[place] = replace(found[place], failures=(*found[place].failures, said.reason))
                still.append(place)
                continue
            text = " ".join(said.text.split())
            if stated_unasked(text, asked[place][0], exact[place]):
                found[place] = replace(found[place], leaks=found[place].leaks + 1)
                still.append(place)
                continue
            found[place] = replace(
                found[place],
                text=text,
                learned=dict.fromkeys(exact[place].learned, text),
                states_value=all(states_value(text, in_words(*learned)) for learned in exact[place].learned.items()),
            )
        waiting = still
    for place in waiting:
        found[place] = replace(found[place], replaced=True)
    return found


def stated_unasked(text: str, stated: Stated, exact: Reply) -> list[str]:
    """The attributes that an answer states without having been asked about them, in the profile's order.

    By words: all telling words of a short value (one or two), more than half of a longer one, or one of its numbers. Words of the question
    and of the lines that were asked for do not count. A paraphrase is not found.
    """
    allowed = telling_words(exact.question) | telling_words(exact.text)
    return [
        name
        for name, value in stated.items()
        if name not in exact.attributes and is_said(value) and states_value(text, in_words(name, value), allowed)
    ]


@lru_cache(maxsize=1)
def _questions() -> dict[str, Any]:
    return read_yaml(QUESTIONS_FILE)


@lru_cache(maxsize=1)
def _sequences() -> dict[str, list[tuple[str, ...]]]:
    return {name: [tuple(words(sequence)) for sequence in entry["words"]] for name, entry in _questions().items()}
