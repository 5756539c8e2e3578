"""A client without a model: every reply is a fixed function of the request. For tests, rehearsals at full size, and dry runs.

Its texts are readable nonsense in the form that the template asks for. Token scores favour words that the messages contain, so a
likelihood judge on this client prefers answers that echo the profile: enough for plumbing, and nothing to conclude from.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

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
# The fillers that a persona's attributes may hold.
HARMLESS = tuple(word for word in FILLER if word not in ("faith", "health", "money"))
CHECKED = {"ATTRIBUTES:": ("none", "Lifestyle"), "VERDICT:": ("consistent", "inconsistent")}

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
        for index in sorted(wanted):
            text = self._reply(requests[index])
            prompt_tokens = sum(approximate_tokens(m["content"]) for m in requests[index].messages)
            on_reply([(index, Answer(text, Usage(prompt_tokens, approximate_tokens(text))))])

    def score(self, requests: Sequence[ScoreRequest], wanted: set[int], on_reply: OnReply) -> None:
        for index in sorted(wanted):
            known = {word for m in requests[index].messages for word in words(m["content"])}
            tokens = words(requests[index].continuation) or ["."]
            scores = tuple(-2.0 if token in known else -3.0 for token in tokens)
            on_reply([(index, TokenScores(scores, Usage(prompt_tokens=len(known) + len(tokens))))])


def scripted_reply(request: ChatRequest) -> str:
    """A text in the template's form; which words it holds depends on all of the request."""
    digest = hashlib.sha256(repr(request).encode("utf-8")).digest()
    system_words = [w for w in words(request.messages[0]["content"]) if len(w) > 3] or FILLER
    # A few words of the first message: a revision for one persona then differs from that for another.
    picked = [FILLER[b % len(FILLER)] for b in digest[:6]] + [system_words[b % len(system_words)] for b in digest[6:9]]
    sentence = f"I would think about {picked[0]}, {picked[6]} and {picked[1]}, then {picked[7]} before {picked[2]} or {picked[8]}."
    name = request.template.split("@")[0]
    if not Path(TEMPLATE_FOLDER / f"{name}.yaml").is_file():
        return sentence
    template = load_template(name)
    if not template.markers:
        return sentence
    sections = [f"{m} {scripted_section(template, n, digest, sentence)}" for n, m in enumerate(template.markers)]
    return "\n".join([*sections, *([template.end] if template.end else [])])


def scripted_section(template: PromptTemplate, number: int, digest: bytes, sentence: str) -> str:
    marker = template.markers[number]
    if template.name in ("enrich_persona", "repair_enrichment"):
        # In the third person and without the words that no attribute may hold.
        return f"Thinks a lot about {HARMLESS[digest[number] % len(HARMLESS)]} and {HARMLESS[digest[number + 9] % len(HARMLESS)]}"
    if template.name == "check_persona" and marker in CHECKED:
        # One persona in eight is found inconsistent, in something that can be mended.
        return CHECKED[marker][digest[9] % 8 == 0]
    choices = template.choices.get(marker)
    return choices[digest[9] % len(choices)] if choices else sentence
