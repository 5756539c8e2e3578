"""Answers from any OpenAI-compatible endpoint (OpenAI, vLLM, TGI, SGLang, llama.cpp, LiteLLM, ...).

The `openai` package does the talking and the retries: 408, 409, 429, 5xx, timeouts, broken connections and responses that are not JSON
are tried again with jitter, and Retry-After is obeyed. What cannot pass (401, 403, an unknown model or address) stops the run at once.

The bodies go through the package's `post` as they are. Its `chat.completions.create` checks every request against its types and builds
objects from every response: 1.1 ms of processor time a call where this takes 0.5 ms.
"""

import asyncio
import contextlib
import dataclasses
import difflib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx2
import openai

from builder.errors import InputError
from builder.llm.budget import RetriedUsage
from builder.llm.messages import Answer, ChatRequest, Failure, Reply, ScoreRequest, Usage, as_plain
from builder.llm.model_recipe import ModelRecipe
from builder.llm.tokens import approximate_tokens
from builder.llm.transport import Transport, UnusableResponseError, fruitless, note_fruitless
from builder.randomness import seed_for

OnReply = Callable[[list[tuple[int, Reply]]], None]

RETRIES = 6  # with the package's backoff (0.5 s doubling to 8 s) about half a minute; Retry-After can make it longer
FAILURES_IN_A_ROW = 25  # after so many items without an answer the endpoint is taken to be down
MOST_TOKENS = 10_000_000  # no context window is so long: a `usage` above it is not believed
# What servers write for `finish_reason` has no end of forms (stop, eos_token, end_turn, null). These two groups are no answers.
CUT_SHORT = ("length", "max_tokens", "model_length")
BROKEN_OFF = ("abort", "aborted", "cancelled", "error")
# Codes of a 400 that says something of this request alone, and would again.
REFUSED_CODES = ("content_filter", "content_policy_violation")
TOO_LONG_CODE = "context_length_exceeded"
TOO_LONG_WORDS = "maximum context length"  # vLLM has no code for it
MOST_WORDS = 300  # characters of a server's own message that are shown
# A reply that opens by declining the task. "I'm sorry, I can't agree" is an opinion, and an answer.
REFUSAL = re.compile(
    r"^\W*((i am )?(very |so )?sorry\W+(but )?)?(i )?(can't|cannot|can not|am unable to|am not able to|won't)"
    r" (assist|help|comply|fulfill?|provide|respond|do that|discuss|engage)",
    re.IGNORECASE,
)


class OpenAIClient:
    """retries: attempts after the first that a call gets when the endpoint fails.

    One event loop and its connections serve every call of a client, so that a build's many small batches do not each begin with
    as many handshakes as there are calls at once.
    """

    def __init__(self, role: str, recipe: ModelRecipe, retries: int = RETRIES):
        self.role = role
        self.recipe = recipe
        self.retries = retries
        self.identity = {"model": recipe.model, "revision": recipe.revision}
        self._loop: asyncio.Runner | None = None
        self._connection: openai.AsyncOpenAI | None = None

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [approximate_tokens(text) for text in texts]

    def check(self) -> None:
        """Ask the endpoint for its models: it answers, takes the key and knows the model. Raises InputError otherwise."""
        self._run(self._check)

    def generate(
        self, requests: Sequence[ChatRequest], keys: Sequence[str], wanted: set[int], on_reply: OnReply
    ) -> None:
        """Replies go to `on_reply` as they arrive, several at once where several arrive together."""
        self._run(lambda connection: self._generate(connection, requests, keys, sorted(wanted), on_reply))

    def score(self, requests: Sequence[ScoreRequest], wanted: set[int], on_reply: OnReply) -> None:
        raise InputError(
            f"models.{self.role} is an endpoint, and chat endpoints do not give the log-probabilities of a given text, which the "
            "likelihood judge needs. Use an in-process judge (models.judge.provider=transformers) or judge: roleplay."
        )

    def _run(self, work: Callable[[openai.AsyncOpenAI], Coroutine[Any, Any, None]]) -> None:
        if self._loop is None or self._connection is None:
            key = self._api_key()
            self._loop = asyncio.Runner()
            self._connection = self._loop.run(self._connect(key))
            weakref.finalize(self, _close, self._loop, self._connection)
        self._loop.run(work(self._connection))

    async def _connect(self, key: str) -> openai.AsyncOpenAI:
        transport = Transport(self.recipe.max_concurrency, self.recipe.timeout_seconds, key)
        return openai.AsyncOpenAI(
            base_url=self.recipe.base_url,
            api_key=key,
            max_retries=self.retries,
            timeout=self.recipe.timeout_seconds,
            http_client=httpx2.AsyncClient(transport=transport, follow_redirects=True),
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
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"The environment variable {name} (models.{self.role}.api_key_env) holds blanks, line breaks or other characters that "
                "no key has. Export the key alone."
            )
        return key

    async def _check(self, connection: openai.AsyncOpenAI) -> None:
        try:
            listed = await connection.with_options(max_retries=min(2, self.retries)).models.list()
            known = [str(model.id) for model in listed.data or []]
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            raise self._final(error) from None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError, RecursionError):
            return  # not every server lists its models; the first call will show
        if known and self.recipe.model not in known:
            close = difflib.get_close_matches(self.recipe.model, known, n=3, cutoff=0.0)
            raise InputError(
                f"The endpoint of models.{self.role} does not serve {self.recipe.model!r}. It serves {len(known)} models, the closest "
                f"being {', '.join(close)}. Set models.{self.role}.model."
            )

    async def _generate(
        self,
        connection: openai.AsyncOpenAI,
        requests: Sequence[ChatRequest],
        keys: Sequence[str],
        wanted: list[int],
        on_reply: OnReply,
    ) -> None:
        queue = iter(wanted)
        arrived: list[tuple[int, Reply]] = []
        failures_in_a_row = 0

        def hand_over() -> None:
            batch = arrived[:]
            arrived.clear()
            on_reply(batch)

        async def work() -> None:
            nonlocal failures_in_a_row
            for index in queue:
                reply, words = await self._answer(connection, requests[index], keys[index])
                arrived.append((index, reply))
                if len(arrived) == 1:
                    # Replies that came in with this one join it: they are written in one go.
                    await asyncio.sleep(0)
                    hand_over()
                if not (isinstance(reply, Failure) and reply.reason == "endpoint_error"):
                    failures_in_a_row = 0
                    continue
                failures_in_a_row += 1
                if failures_in_a_row >= FAILURES_IN_A_ROW:
                    said = f'. The server says: "{words}"' if words else ""
                    raise InputError(
                        f"The endpoint of models.{self.role} failed {failures_in_a_row} times in a row, last with: {reply.detail}{said}. "
                        "Everything answered before is recorded. See to the endpoint and run the same command again."
                    )

        workers = [asyncio.create_task(work()) for _ in range(min(self.recipe.max_concurrency, len(wanted)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            # A worker that was stopped on its way to hand over what arrived with its reply.
            if arrived:
                hand_over()

    async def _answer(self, connection: openai.AsyncOpenAI, request: ChatRequest, key: str) -> tuple[Reply, str]:
        """The reply, and what the server said of an error. Its words go to whoever watches the run, not into ledger or record: a message
        may quote anything."""
        in_vain: list[str] = []
        fruitless.set(in_vain)
        reply, words = await self._ask(connection, request, key)
        if in_vain:
            usage = reply.usage
            tokens = len(in_vain) * _prompt_tokens(request)
            numbers = (usage.prompt_tokens, usage.completion_tokens, usage.seconds, len(in_vain), tokens)
            reply = dataclasses.replace(reply, usage=RetriedUsage(*numbers))
        return reply, words

    async def _ask(self, connection: openai.AsyncOpenAI, request: ChatRequest, key: str) -> tuple[Reply, str]:
        sampling = request.sampling
        body = {
            "model": self.recipe.model,
            "messages": as_plain(request.messages),
            self.recipe.max_tokens_field: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed_for(request.seed, "sampled_answer", key) % 2**31,
        }
        started = time.monotonic()
        try:
            response = await connection.post("/chat/completions", cast_to=httpx2.Response, body=body)
            # A status such as 204 is a success without a completion.
            completion = response.extensions.get("parsed")
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._final(error) from None
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            return _failure(error), self._server_words(error)
        return read_completion(completion, request, time.monotonic() - started), ""

    def _server_words(self, error: Exception) -> str:
        """The message of an error's JSON on one line, shortened; "" where there is none. A page of HTML is not quoted."""
        words = _item(getattr(error, "body", None), "message")
        if not isinstance(words, str):
            return ""
        key = self._api_key()
        # The transport has blotted out the key as it is; JSON can spell it in other ways.
        plain = " ".join(words.split()).encode(errors="replace").decode().replace(key, "[key]")
        return plain if len(plain) <= MOST_WORDS else f"{plain[:MOST_WORDS]} ..."

    def _final(self, error: Exception) -> InputError:
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


def read_completion(completion: Any, request: ChatRequest, seconds: float) -> Reply:
    """An answer, or why it is none, from a response's JSON, whatever that holds.

    `usage` is the server's. Where that says nothing or nonsense, the tokens are estimated: a cost cap that counts zero never stops.
    seconds: how long the call took, with its retries.
    """
    choice = _item(_item(completion, "choices"), 0)
    message = _item(choice, "message")
    content = _item(message, "content")
    if not isinstance(message, dict) or not isinstance(content, str | None):
        note_fruitless("no completion")
        return Failure("endpoint_error", "the response has no message with a text")
    text = (content or "").strip()
    counted = _item(completion, "usage")
    usage = Usage(
        _count(_item(counted, "prompt_tokens"), lambda: _prompt_tokens(request)),
        _count(_item(counted, "completion_tokens"), lambda: approximate_tokens(text)),
        seconds=round(seconds, 3),
    )
    reason, refusal = _item(choice, "finish_reason"), _item(message, "refusal")
    if reason in BROKEN_OFF:
        return Failure("endpoint_error", f"finish_reason={reason}", usage=usage)
    if reason == "content_filter" or refusal or is_refusal(text):
        # Half of a surrogate pair is no text that a file can hold.
        return Failure("refused", str(refusal or reason).encode(errors="replace").decode(), text, usage)
    if reason in CUT_SHORT:
        return Failure("truncated", f"finish_reason={reason}", text, usage)
    if not text:
        return Failure("empty", "the message has no text", "", usage)
    return Answer(text, usage)


def is_refusal(text: str) -> bool:
    plain = re.sub(r"\bi'm\b", "i am", text.replace("’", "'"), flags=re.IGNORECASE)
    return bool(REFUSAL.search(plain))


def _item(value: Any, key: Any) -> Any:
    """The value of a dict or list at `key`, None where there is none: a server may put anything anywhere."""
    if isinstance(value, list if isinstance(key, int) else dict):
        with contextlib.suppress(KeyError, IndexError):
            return value[key]
    return None


def _count(tokens: Any, estimate: Callable[[], int]) -> int:
    believable = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens <= MOST_TOKENS
    return tokens if believable else estimate()


def _prompt_tokens(request: ChatRequest) -> int:
    return sum(approximate_tokens(message["content"]) for message in request.messages)


def _failure(error: Exception) -> Failure:
    """Most errors are the endpoint's. A 400 for what the request says would come again, so it counts as the model's doing."""
    if isinstance(error, openai.BadRequestError):
        if error.code in REFUSED_CODES:
            return Failure("refused", f"400 {error.code}")
        if error.code == TOO_LONG_CODE or TOO_LONG_WORDS in str(_item(error.body, "message")):
            return Failure("too_long", f"400 {TOO_LONG_CODE}")
    return Failure("endpoint_error", _short(error))


def _short(error: Exception) -> str:
    """One line without bodies: an error page may quote headers."""
    if isinstance(error, UnusableResponseError):
        return str(error)
    facts = [getattr(error, name, None) for name in ("status_code", "code", "param")]
    # The transport's word on what broke.
    cause = str(error.__cause__) if isinstance(error.__cause__, httpx2.RequestError) else None
    return " ".join([type(error).__name__, *(str(fact) for fact in [*facts, cause] if fact)])


def _close(loop: asyncio.Runner, connection: openai.AsyncOpenAI) -> None:
    def close() -> None:
        loop.run(connection.close())
        loop.close()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        close()
    else:
        # Garbage collection struck while the loop of another client runs, and a thread runs one loop at a time.
        closing = threading.Thread(target=close)
        closing.start()
        closing.join()
