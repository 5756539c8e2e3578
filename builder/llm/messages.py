"""What goes to a language model and what comes back. Plain data, shared by every client."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn. `end_sentence_after`: see builder.recipe.SamplingRecipe."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    end_sentence_after: int | None = None


@dataclass(frozen=True)
class ChatRequest:
    """One answer to be drawn. Every field is part of the record key, so two requests share a reply only if all of it is equal."""

    messages: tuple[Message, ...]
    sampling: Sampling
    template: str  # `name@version` of the prompt template
    seed: int  # the recipe's seed
    sample_index: int = 0  # several answers to the same messages
    attempt: int = 0  # a retry of a reply that could not be used


@dataclass(frozen=True)
class ScoreRequest:
    """The log-probability of each token of `continuation`, as the assistant's next message after `messages`."""

    messages: tuple[Message, ...]
    continuation: str
    template: str


@dataclass(frozen=True)
class Usage:
    """What a call took. `seconds` from sending to the reply, 0 if nobody measured; it is no part of a reply's identity."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Answer:
    text: str
    usage: Usage = Usage()


@dataclass(frozen=True)
class TokenScores:
    """Natural-log probabilities of the continuation's tokens, in order, the end-of-turn token left out."""

    log_probabilities: tuple[float, ...]
    usage: Usage = Usage()


@dataclass(frozen=True)
class Failure:
    """A reply that is not an answer. `text` is what came back, if anything did.

    `reason`: truncated, refused, empty (the model's doing: recorded, and worth another attempt), too_long (recorded; the next attempt would
    fail the same way), or endpoint_error.
    """

    reason: str
    detail: str = ""
    text: str = ""
    usage: Usage = field(default_factory=Usage)

    @property
    def worth_another_attempt(self) -> bool:
        """Another draw of the same question may give an answer."""
        return not self.may_pass and self.reason != "too_long"

    @property
    def may_pass(self) -> bool:
        """The endpoint failed, not the model. The same attempt is made when the build is run again; going on to the next attempt
        would leave a hole in the record, which a replay would then fill with another answer."""
        return self.reason == "endpoint_error"


Reply = Answer | TokenScores | Failure


def prompt_characters(request: ChatRequest | ScoreRequest) -> int:
    """Characters that a model reads to answer, a scored continuation included."""
    characters = sum(len(message["content"]) for message in request.messages)
    return characters + (len(request.continuation) if isinstance(request, ScoreRequest) else 0)


def as_plain(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [dict(message) for message in messages]
