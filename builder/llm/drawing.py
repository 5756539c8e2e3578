"""Asking for text until it can be read: a reply of no use is drawn again, as another attempt of the same question."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from builder.llm.messages import Answer, ChatRequest, Failure

UNREADABLE = "unreadable"
Read = TypeVar("Read")


@dataclass(frozen=True)
class Drawn(Generic[Read]):
    """The last reply to a request, and what was read from it; None where nothing was."""

    reply: Answer | Failure
    read: Read | None

    @property
    def failure(self) -> str:
        """Why nothing was read: the Failure's reason or `unreadable`; empty where something was."""
        if isinstance(self.reply, Failure):
            return self.reply.reason
        return UNREADABLE if self.read is None else ""


def draw_until_readable(
    calls: Any,
    role: str,
    requests: Sequence[ChatRequest],
    read: Callable[[int, str], Read | None],
    retries: int,
    label: str,
    final: Collection[str] = (),
) -> list[Drawn[Read]]:
    """One Drawn for each request, in order, after at most 1 + `retries` attempts. calls: builder.llm.calls.ModelCalls.

    read: (place of the request, text) -> what it says, None for a text of no use. final: reasons of a Failure that is taken as it is.
    What an endpoint left open is not drawn again: the same attempt is made when the command is run again.
    """
    drawn: list[Drawn[Read]] = [Drawn(Failure("not asked"), None)] * len(requests)
    waiting = list(range(len(requests)))
    for attempt in range(retries + 1):
        if not waiting:
            break
        asked = [requests[place] if attempt == 0 else replace(requests[place], attempt=attempt) for place in waiting]
        for place, reply in zip(waiting, calls.generate(role, asked, label), strict=True):
            drawn[place] = Drawn(reply, None if isinstance(reply, Failure) else read(place, reply.text))
        waiting = [place for place in waiting if _may_become_readable(drawn[place], final)]
    return drawn


def _may_become_readable(drawn: Drawn[Any], final: Collection[str]) -> bool:
    if isinstance(drawn.reply, Failure):
        return drawn.reply.worth_another_attempt and drawn.reply.reason not in final
    return drawn.read is None
