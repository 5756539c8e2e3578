"""A client without a model: every reply is a fixed function of the request. For tests, rehearsals at full size, and dry runs.

Its texts are readable nonsense in the form that the template asks for. Token scores favour words that the messages contain, so a
likelihood judge on this client prefers answers that echo the profile; the words of a menu are scored by a hash of the request. Enough for
plumbing, and nothing to conclude from.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from builder.lexical import words
from builder.llm.messages import Answer, ChatRequest, Reply, ScoreRequest, TokenScores, Usage
from builder.llm.templates import TEMPLATE_FOLDER, PromptTemplate, load_template
from builder.llm.tokens import approximate_tokens

FILLER = (
    *(
        "fairness",
        "freedom",
        "family",
        "faith",
        "work",
        "health",
        "money",
        "time",
        "trust",
        "safety",
        "community",
        "choice",
    ),
    *(
        "duty",
        "care",
        "honesty",
        "tradition",
        "change",
        "balance",
        "respect",
        "patience",
        "learning",
        "nature",
        "children",
    ),
    *("neighbours", "privacy", "courage", "kindness", "evidence", "experience", "rules"),
)
SHORTEST_FILLER = min(map(len, FILLER)) + 1  # characters, with the blank
# The fillers that a persona's attributes may hold.
HARMLESS = tuple(word for word in FILLER if word not in ("faith", "health", "money"))
# Phrases of a persona must keep to the rules for written attributes: two harmless words, or a longer list of them.
PHRASES = ("enrich_persona", "repair_enrichment")
LONGEST_PHRASE = 200  # characters
# The attributes found at fault go with the verdict.
CHECKED = {"ATTRIBUTES:": ("none", "Lifestyle"), "VERDICT:": ("consistent", "inconsistent")}

AT_ONCE = 64  # replies handed over together: a transaction each would cost more than the replies

OnReply = Callable[[list[tuple[int, Reply]]], None]


class ScriptedClient:
    def __init__(self, model: str = "scripted", reply: Callable[[ChatRequest], str] | None = None):
        self.identity = {"model": model, "revision": None}
        self._reply = reply or scripted_reply

    def check(self) -> None:
        """Nothing can be wrong with it."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [approximate_tokens(text) for text in texts]

    def generate(
        self, requests: Sequence[ChatRequest], keys: Sequence[str], wanted: set[int], on_reply: OnReply
    ) -> None:
        def answer(index: int) -> Reply:
            text = self._reply(requests[index])
            prompt_tokens = sum(approximate_tokens(m["content"]) for m in requests[index].messages)
            return Answer(text, Usage(prompt_tokens, approximate_tokens(text)))

        _hand_over(wanted, answer, on_reply)

    def score(self, requests: Sequence[ScoreRequest], wanted: set[int], on_reply: OnReply) -> None:
        def scores(index: int) -> Reply:
            if _is_choice(requests[index]):
                return _scored_choice(requests[index])
            known = frozenset[str]().union(*(_words(m["content"]) for m in requests[index].messages))
            tokens = words(requests[index].continuation) or ["."]
            found = tuple(-2.0 if token in known else -3.0 for token in tokens)
            return TokenScores(found, Usage(prompt_tokens=len(known) + len(tokens)))

        _hand_over(wanted, scores, on_reply)


def _is_choice(request: ScoreRequest) -> bool:
    """Whether the continuation is a word of the template's own menu. The prompt holds all of them, so as an echo they would be equal."""
    template = packaged_template(request.template.split("@")[0])
    menus = template.choices.items() if template else ()
    return any(request.continuation == f"{marker} {word}" for marker, choices in menus for word in choices)


def _scored_choice(request: ScoreRequest) -> TokenScores:
    digest = hashlib.sha256(repr(request).encode("utf-8", "surrogatepass")).digest()
    usage = Usage(prompt_tokens=sum(approximate_tokens(m["content"]) for m in request.messages) + 2)
    return TokenScores((-0.1, -0.1 - digest[0] / 64), usage)


def _hand_over(wanted: set[int], reply: Callable[[int], Reply], on_reply: OnReply) -> None:
    indices = sorted(wanted)
    for start in range(0, len(indices), AT_ONCE):
        on_reply([(index, reply(index)) for index in indices[start : start + AT_ONCE]])


def scripted_reply(request: ChatRequest, sections: Mapping[str, int | str] | None = None) -> str:
    """A text in the template's form; which words it holds depends on all of the request.

    sections: by marker, or "" for a text without markers, its length in characters, or a choice in its words. What is not named is a
    sentence, and a choice follows from the request.
    """
    sections = sections or {}
    digest = hashlib.sha256(repr(request).encode("utf-8", "surrogatepass")).digest()
    system_words = _long_words(request.messages[0]["content"]) or FILLER
    # A few words of the first message: a revision for one persona then differs from that for another.
    picked = [FILLER[b % len(FILLER)] for b in digest[:6]] + [system_words[b % len(system_words)] for b in digest[6:9]]
    sentence = f"I would think about {picked[0]}, {picked[6]} and {picked[1]}, then {picked[7]} before {picked[2]} or {picked[8]}."
    template = packaged_template(request.template.split("@")[0])
    if template is None or not template.markers:
        return _of_length(sentence, digest, sections.get(""))
    texts = [f"{m} {_section(template, n, digest, sentence, sections.get(m))}" for n, m in enumerate(template.markers)]
    return "\n".join([*texts, *([template.end] if template.end else [])])


def _section(template: PromptTemplate, number: int, digest: bytes, sentence: str, wanted: int | str | None) -> str:
    if isinstance(wanted, str):
        return wanted
    marker = template.markers[number]
    if template.name in PHRASES:
        # In the third person and without the words that no attribute may hold.
        phrase = f"Thinks a lot about {HARMLESS[digest[number] % len(HARMLESS)]} and {HARMLESS[digest[number + 9] % len(HARMLESS)]}"
        for byte in digest[number:]:
            longer = f"{phrase} and {HARMLESS[byte % len(HARMLESS)]}"
            if len(longer) > min(wanted or 0, LONGEST_PHRASE):
                break
            phrase = longer
        return phrase
    if template.name == "check_persona" and marker in CHECKED:
        # One persona in eight is found inconsistent, in something that can be mended.
        return CHECKED[marker][digest[9] % 8 == 0]
    choices = template.choices.get(marker)
    return choices[digest[9] % len(choices)] if choices else _of_length(sentence, digest, wanted)


def _of_length(sentence: str, digest: bytes, length: int | str | None) -> str:
    """The sentence, or as many filler words as make `length` characters, in an order that is the request's own."""
    if not isinstance(length, int):
        return sentence
    numbers = hashlib.shake_128(digest).digest(1 + max(0, length - len(sentence)) // SHORTEST_FILLER)
    text = sentence + " " + " ".join([FILLER[number % len(FILLER)] for number in numbers])
    return text[: max(length, 1) - 1].rstrip() + "."


@lru_cache(maxsize=64)
def packaged_template(name: str) -> PromptTemplate | None:
    return load_template(name) if (TEMPLATE_FOLDER / f"{name}.yaml").is_file() else None


# The first message is often the same for many requests in a row: a profile, or instructions.
@lru_cache(maxsize=256)
def _long_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if len(word) > 3)


@lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    return frozenset(words(text))
