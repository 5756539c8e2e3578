"""Answers from any OpenAI-compatible endpoint (OpenAI, vLLM, TGI, SGLang, llama.cpp, LiteLLM, ...).

The `openai` package does the talking and the retries: 408, 409, 429, 5xx, timeouts and broken connections are tried again with jitter,
and Retry-After is obeyed. What cannot pass (401, 403, an unknown model or address) stops the run at once.
"""

import asyncio
import difflib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from builder.errors import InputError
from builder.llm.messages import Answer, ChatRequest, Failure, Reply, ScoreRequest, Usage, as_plain
from builder.llm.tokens import approximate_tokens
from builder.randomness import seed_for
from builder.recipe import ModelRecipe

OnReply = Callable[[list[tuple[int, Reply]]], None]

RETRIES = 6  # with the package's backoff (0.5 s doubling to 8 s) about half a minute; Retry-After can make it longer
FAILURES_IN_A_ROW = 25  # after so many items without an answer the endpoint is taken to be down
# A reply that opens by declining the task. "I'm sorry, I can't agree" is an opinion, and an answer.
REFUSAL = re.compile(
    r"^\W*((i am )?(very |so )?sorry\W+(but )?)?(i )?(can't|cannot|can not|am unable to|am not able to|won't)"
    r" (assist|help|comply|fulfill?|provide|respond|do that|discuss|engage)",
    re.IGNORECASE,
)


class OpenAIClient:
    def __init__(self, role: str, recipe: ModelRecipe):
        self.role = role
        self.recipe = recipe
        self.identity = {"model": recipe.model, "revision": recipe.revision}

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [approximate_tokens(text) for text in texts]

    def check(self) -> None:
        """Ask the endpoint for its models: it answers, takes the key and knows the model. Raises InputError otherwise."""
        asyncio.run(self._check())

    def generate(
        self, requests: Sequence[ChatRequest], keys: Sequence[str], wanted: set[int], on_reply: OnReply
    ) -> None:
        asyncio.run(self._generate(requests, keys, sorted(wanted), on_reply))

    def score(self, requests: Sequence[ScoreRequest], wanted: set[int], on_reply: OnReply) -> None:
        raise InputError(
            f"models.{self.role} is an endpoint, and chat endpoints do not give the log-probabilities of a given text, which the "
            "likelihood judge needs. Use an in-process judge (models.judge.provider=transformers) or judge: roleplay."
        )

    def _connect(self, retries: int) -> Any:
        import openai

        return openai.AsyncOpenAI(
            base_url=self.recipe.base_url,
            api_key=self._api_key(),
            max_retries=retries,
            timeout=self.recipe.timeout_seconds,
            http_client=openai.DefaultAioHttpClient(),
        )

    def _api_key(self) -> str:
        name = self.recipe.api_key_env
        if name is None:
            return "no-key"  # local servers take any
        key = os.environ.get(name, "")
        if not key:
            raise InputError(
                f"models.{self.role}.api_key_env names the environment variable {name}, which is not set. Export it, or remove "
                "api_key_env for an endpoint that takes no key."
            )
        return key

    async def _check(self) -> None:
        import openai

        async with self._connect(retries=2) as connection:
            try:
                listed = await connection.models.list()
                known = [model.id for model in listed.data or []]
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
                raise self._final(error) from None
            except (openai.OpenAIError, AttributeError, TypeError, ValueError):
                return  # not every server lists its models; the first call will show
        if known and self.recipe.model not in known:
            close = difflib.get_close_matches(self.recipe.model, known, n=3, cutoff=0.0)
            raise InputError(
                f"The endpoint of models.{self.role} does not serve {self.recipe.model!r}. It serves {len(known)} models, the closest "
                f"being {', '.join(close)}. Set models.{self.role}.model."
            )

    async def _generate(
        self, requests: Sequence[ChatRequest], keys: Sequence[str], wanted: list[int], on_reply: OnReply
    ) -> None:
        queue = iter(wanted)
        failures_in_a_row = 0

        async def work(connection: Any) -> None:
            nonlocal failures_in_a_row
            for index in queue:
                reply = await self._answer(connection, requests[index], keys[index])
                on_reply([(index, reply)])
                down = isinstance(reply, Failure) and reply.reason == "endpoint_error"
                failures_in_a_row = failures_in_a_row + 1 if down else 0
                if failures_in_a_row >= FAILURES_IN_A_ROW:
                    raise InputError(
                        f"The endpoint of models.{self.role} failed {failures_in_a_row} times in a row, last with: {reply.detail}. "  # type: ignore[union-attr]
                        "Everything answered before is recorded. See to the endpoint and run the same command again."
                    )

        async with self._connect(RETRIES) as connection:
            workers = [
                asyncio.create_task(work(connection)) for _ in range(min(self.recipe.max_concurrency, len(wanted)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _answer(self, connection: Any, request: ChatRequest, key: str) -> Reply:
        import openai

        sampling = request.sampling
        try:
            completion = await connection.chat.completions.create(
                model=self.recipe.model,
                messages=as_plain(request.messages),
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed_for(request.seed, "sampled_answer", key) % 2**31,
            )
            return read_completion(completion)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._final(error) from None
        except (openai.OpenAIError, ValueError) as error:
            return Failure("endpoint_error", _short(error))

    def _final(self, error: Exception) -> InputError:
        import openai

        where = f"The endpoint of models.{self.role} ({self.recipe.base_url})"
        if isinstance(error, openai.AuthenticationError):
            name = self.recipe.api_key_env
            return InputError(
                f"{where} refused the key (401). "
                + (
                    f"Check the value of the environment variable {name}."
                    if name
                    else f"Set models.{self.role}.api_key_env."
                )
            )
        if isinstance(error, openai.PermissionDeniedError):
            return InputError(f"{where} denies access (403). Check that the key may use {self.recipe.model!r}.")
        if isinstance(error, openai.NotFoundError):
            return InputError(
                f"{where} answers 404 for {self.recipe.model!r}: an unknown model or a wrong address. Check models.{self.role}.model, "
                "and that base_url ends where /chat/completions begins (often in /v1)."
            )
        if isinstance(error, openai.APIConnectionError):
            return InputError(
                f"{where} cannot be reached ({_short(error)}). Start the server or mend base_url; nothing was spent, and what was "
                "recorded before is kept."
            )
        return InputError(f"{where} answers with an error: {_short(error)}. See to the endpoint and run again.")


def read_completion(completion: Any) -> Reply:
    """An answer, or why it is none: truncated, refused, empty."""
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        return Failure("endpoint_error", "the response has no message")
    choice = choices[0]
    counted = getattr(completion, "usage", None)
    text = (choice.message.content or "").strip()
    usage = Usage(_count(counted, "prompt_tokens"), _count(counted, "completion_tokens"))
    if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None) or is_refusal(text):
        return Failure("refused", str(getattr(choice.message, "refusal", None) or choice.finish_reason), text, usage)
    if choice.finish_reason == "length":
        return Failure("truncated", "finish_reason=length", text, usage)
    if not text:
        return Failure("empty", "the message has no text", "", usage)
    return Answer(text, usage)


def is_refusal(text: str) -> bool:
    plain = re.sub(r"\bi'm\b", "i am", text.replace("’", "'"), flags=re.IGNORECASE)
    return bool(REFUSAL.search(plain))


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, 0)
    return value if isinstance(value, int) and value >= 0 else 0


def _short(error: Exception) -> str:
    """One line without bodies: an error page may quote headers."""
    facts = [getattr(error, name, None) for name in ("status_code", "code", "param")]
    return " ".join([type(error).__name__, *(str(fact) for fact in facts if fact)])
