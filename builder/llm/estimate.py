"""What the calls that a build still lacks will take, told from the replies that are recorded.

A dry run puts a stand-in in the place of every missing reply: a text in the form of its template, as long as recorded replies are, so that
the requests that quote it (a revision quotes the critique) have the right length too. Of a template with fewer than `ENOUGH` recorded
replies nothing is known: its replies count with the longest that is allowed, an upper bound.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from builder.llm.budget import cost_usd
from builder.llm.messages import Answer, ChatRequest, Reply, ScoreRequest, Usage, prompt_characters
from builder.llm.record import TABLES, Record
from builder.llm.scripted import CHECKED, PHRASES, ScriptedClient, packaged_template, scripted_reply
from builder.llm.templates import PromptTemplate, section_name
from builder.llm.tokens import approximate_tokens

# Recorded replies from which a mean is taken. A pilot of a small build has few: there are no more base answers than questions.
ENOUGH = 5
READ_REPLIES = 500  # of a template at most, spread over the record, are read for the lengths of their sections
CHARACTERS_PER_TOKEN = 7  # of the filler that a stand-in of the longest length consists of


@dataclass(frozen=True)
class Learnt:
    """Of the recorded replies of one role and template.

    calls_per_question: a question whose reply could not be used was asked again. prompt_tokens: per character of the prompt, since
    characters are what is known of a prompt that no model has read. seconds: None if no call was timed. sections: by marker ("" for a
    reply without markers) the lengths in characters, or the choices, of recorded replies.
    """

    replies: int
    calls_per_question: float
    prompt_tokens: float | None
    completion_tokens: float
    seconds: float | None
    sections: dict[str, tuple[int | str, ...]]


@dataclass
class Missing:
    """Calls of one role and template that the record lacks, and the tokens of their stand-ins."""

    calls: int = 0
    prompt_characters: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class StandIns:
    """The replies of a dry run to what the record lacks. A stand-in is a fixed function of its request and the record."""

    record: Record
    missing: dict[tuple[str, str], Missing] = field(default_factory=dict)
    _learnt: dict[tuple[str, str], Learnt] | None = None
    # Numbers, not texts: a dry run at full size holds millions.
    _counted: set[int] = field(default_factory=set)
    _scripted: ScriptedClient = field(default_factory=ScriptedClient)

    def learnt(self, role: str, template: str) -> Learnt | None:
        if self._learnt is None:
            # A dry run records nothing, so once is enough.
            self._learnt = learn(self.record)
        return self._learnt.get((role, template))

    def reply(self, role: str, request: ChatRequest | ScoreRequest, key: str) -> tuple[Reply, bool]:
        """The stand-in, and whether it is the first for this key: equal requests are one call."""
        learnt = self.learnt(role, request.template)
        reply = self._score(request, learnt) if isinstance(request, ScoreRequest) else _chat(request, key, learnt)
        number = int(key[:15], 16)
        if number in self._counted:
            return reply, False
        self._counted.add(number)
        missing = self.missing.setdefault((role, request.template), Missing())
        missing.calls += 1
        missing.prompt_characters += prompt_characters(request)
        missing.prompt_tokens += reply.usage.prompt_tokens
        missing.completion_tokens += reply.usage.completion_tokens
        return reply, True

    def _score(self, request: ScoreRequest, learnt: Learnt | None) -> Reply:
        replies: list[tuple[int, Reply]] = []
        self._scripted.score([request], {0}, replies.extend)
        reply = replies[0][1]
        return (
            reply
            if learnt is None
            else replace(reply, usage=Usage(_prompt_tokens(request, learnt, reply.usage.prompt_tokens)))
        )


def estimate(calls: Any) -> dict[str, Any]:
    """What is still to be called after a dry run of `calls` (builder.llm.calls.ModelCalls).

    {calls, prompt_tokens, completion_tokens, cost_usd, seconds, basis, pilot_helps}. seconds: at the recipe's max_concurrency, one role
    after the other; None if no call of some role was timed. basis: by template, the number of recorded replies that the estimate rests
    on, or `max_tokens` where it is an upper bound. pilot_helps: of some template there is no recorded reply at all, so no pilot was run.
    """
    asked = {(role, template) for role, template in calls.record.read("SELECT role, template FROM origins")}
    total = {"calls": 0.0, "prompt_tokens": 0.0, "completion_tokens": 0.0, "cost_usd": 0.0}
    seconds: float | None = 0.0
    basis: dict[str, int | str] = {}
    for (role, template), missing in sorted(calls.stand_ins.missing.items()):
        recipe, learnt = calls.recipe(role), calls.stand_ins.learnt(role, template)
        usage, number = _expected(missing, learnt)
        total["calls"] += number
        total["prompt_tokens"] += usage.prompt_tokens
        total["completion_tokens"] += usage.completion_tokens
        total["cost_usd"] += cost_usd(usage, recipe)
        if learnt is None or learnt.seconds is None or seconds is None:
            seconds = None
        else:
            seconds += number * learnt.seconds / max(1.0, min(recipe.max_concurrency, number))
        known = basis.get(template, learnt.replies if learnt else "max_tokens")
        basis[template] = min(known, learnt.replies) if learnt and isinstance(known, int) else "max_tokens"
    counts = {name: round(total[name]) for name in ("calls", "prompt_tokens", "completion_tokens")}
    pilot_helps = any(key not in asked for key in calls.stand_ins.missing)
    return {**counts, "cost_usd": total["cost_usd"], "seconds": seconds, "basis": basis, "pilot_helps": pilot_helps}


def _expected(missing: Missing, learnt: Learnt | None) -> tuple[Usage, float]:
    """What all missing calls of a role and template take, and how many there will be."""
    if learnt is None:
        return Usage(missing.prompt_tokens, missing.completion_tokens), missing.calls
    number = missing.calls * learnt.calls_per_question
    # From the sums, since the stand-ins' own numbers are rounded one by one.
    prompt = missing.prompt_tokens if learnt.prompt_tokens is None else missing.prompt_characters * learnt.prompt_tokens
    return Usage(round(prompt * learnt.calls_per_question), round(number * learnt.completion_tokens)), number


def learn(record: Record) -> dict[tuple[str, str], Learnt]:
    """By role and template, for those with `ENOUGH` recorded replies."""
    sums: dict[tuple[str, str], list[list[float]]] = {}
    answers: dict[tuple[str, str], int] = {}
    for table in TABLES:
        for role, template, *numbers in record.read(
            "SELECT role, template, COUNT(*), SUM(attempt = 0), SUM(prompt_tokens), "
            "SUM(CASE WHEN prompt_tokens > 0 THEN prompt_characters ELSE 0 END), SUM(completion_tokens), SUM(seconds), SUM(seconds > 0) "
            f"FROM {table} JOIN origins ON origins.id = origin GROUP BY role, template"
        ):
            # A failed attempt costs what an answer costs.
            sums.setdefault((role, template), []).append(numbers)
            if table == "answers":
                answers[role, template] = numbers[0]
    totals = {key: [sum(column) for column in zip(*rows, strict=True)] for key, rows in sums.items()}
    totals = {key: total for key, total in totals.items() if total[0] >= ENOUGH}
    sections = _read_sections(record, {key: answers.get(key, 0) for key in totals})
    return {
        key: Learnt(
            replies=int(replies),
            calls_per_question=replies / first if first else 1.0,
            prompt_tokens=prompt / characters if characters else None,
            completion_tokens=completion / replies,
            seconds=seconds / timed if timed else None,
            sections={marker: tuple(values) for marker, values in sections.get(key, {}).items()},
        )
        for key, (replies, first, prompt, characters, completion, seconds, timed) in totals.items()
    }


def _read_sections(
    record: Record, answers: dict[tuple[str, str], int]
) -> dict[tuple[str, str], dict[str, list[int | str]]]:
    """By role and template, by marker: the lengths, or choices, of some recorded answers. `answers`: how many there are."""
    every = {
        origin: max(1, answers[role, template] // READ_REPLIES)
        for origin, role, template in record.read("SELECT id, role, template FROM origins WHERE kind = 'chat'")
        if (role, template) in answers
    }
    found: dict[tuple[str, str], dict[str, list[int | str]]] = {}
    if not every:
        return found
    # One pass over the table, whatever the number of templates.
    cases = " ".join(f"WHEN {origin} THEN {step}" for origin, step in every.items())
    for role, label, reply in record.read(
        f"SELECT role, template, reply FROM answers JOIN origins ON origins.id = origin WHERE answers.rowid % CASE origin {cases} END = 0"
    ):
        lengths = found.setdefault((role, label), {})
        template = packaged_template(label.split("@")[0])
        if template is None or not template.markers:
            lengths.setdefault("", []).append(len(reply.strip()))
            continue
        sections = template.read_present(reply)
        for marker in template.markers:
            if (name := section_name(marker)) in sections:
                said = sections[name]
                lengths.setdefault(marker, []).append(said if marker in template.choices else len(said))
    return found


def _chat(request: ChatRequest, key: str, learnt: Learnt | None) -> Answer:
    template = packaged_template(request.template.split("@")[0])
    prompt_tokens = sum(approximate_tokens(message["content"]) for message in request.messages)
    if learnt is None:
        longest = request.sampling.max_tokens
        return Answer(scripted_reply(request, _longest_sections(template, longest)), Usage(prompt_tokens, longest))
    # The same place in every section: sections of one recorded reply stay together.
    place = int(key[:12], 16)
    sections = {marker: values[place % len(values)] for marker, values in learnt.sections.items()}
    if template is not None and template.name == "check_persona":
        # The attributes at fault are to be some that every persona has, and go with the verdict.
        sections["ATTRIBUTES:"] = CHECKED["ATTRIBUTES:"][sections.get("VERDICT:") == "inconsistent"]
    usage = Usage(_prompt_tokens(request, learnt, prompt_tokens), round(learnt.completion_tokens))
    return Answer(scripted_reply(request, sections), usage)


def _prompt_tokens(request: ChatRequest | ScoreRequest, learnt: Learnt, otherwise: int) -> int:
    return otherwise if learnt.prompt_tokens is None else round(prompt_characters(request) * learnt.prompt_tokens)


def _longest_sections(template: PromptTemplate | None, tokens: int) -> dict[str, int | str]:
    characters = tokens * CHARACTERS_PER_TOKEN
    if template is None or not template.markers:
        return {"": characters}
    if template.name in PHRASES or template.choices:
        # Phrases have to be short, and of a reply with a choice nothing else is quoted.
        return {}
    return dict.fromkeys(template.markers, characters // len(template.markers))
