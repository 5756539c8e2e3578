"""The one way in which the rest of the builder asks a language model: recorded, replayed, counted and capped."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tqdm import tqdm

from builder.errors import InputError
from builder.llm.budget import Budget, Spending
from builder.llm.estimate import StandIns
from builder.llm.messages import Answer, ChatRequest, Failure, Reply, ScoreRequest, Usage
from builder.llm.model_recipe import ModelRecipe
from builder.llm.record import Record, record_keys
from builder.llm.scripted import ScriptedClient

# Requests handled together: bounds memory, and (for in-process models) fixes the batches.
CHUNK = 4096
Request = TypeVar("Request", ChatRequest, ScoreRequest)


class ModelCalls:
    """The models of one build or evaluation by role, in front of its recorded responses.

    models: builder.recipe.ModelsRecipe, or role -> ModelRecipe.
    dry_run: nothing is called or recorded; what is missing gets a stand-in and is counted in `spending` (see builder.llm.estimate).
    retry_failed: failed attempts in the record count as not made.

    A build of many parts says where each begins (`begin_part`), so that no more is remembered than one part's replies.
    """

    def __init__(
        self,
        models: Any,
        record: Record,
        budget: Budget | None = None,
        dry_run: bool = False,
        retry_failed: bool = False,
        clients: dict[str, Any] | None = None,
    ):
        self.models = models
        self.record = record
        self.budget = budget or Budget()
        self.dry_run = dry_run
        self.retry_failed = retry_failed
        self.stand_ins = StandIns(record)
        # [replies, prompt tokens, completion tokens] by role of all that the part used, replayed or not: the same for every run of a
        # recipe. Whole numbers, so that the order of arrival changes nothing.
        self._part: dict[str, list[int]] = {}
        # Keys of the part's replies as numbers, which take a third of the room of texts; their first 60 bits tell them apart.
        self._counted: set[int] = set()
        # Questions of the part that the endpoint left open: they are asked again when the build is run again.
        self.left_open = 0
        self._clients: dict[Any, Any] = {}
        self._given_clients = clients or {}
        self._checked: set[int] = set()

    @property
    def spending(self) -> Spending:
        return self.budget.spending

    def begin_part(self) -> None:
        """From here on replies count for a new part. A reply that two parts use counts in both."""
        self._part = {}
        self._counted = set()
        self.left_open = 0

    def part_usage(self) -> dict[str, list[int]]:
        """{role: [replies, prompt tokens, completion tokens]} of the distinct replies used since the part began, replayed or not."""
        return {role: list(self._part[role]) for role in sorted(self._part)}

    def client(self, role: str) -> Any:
        """The client of a role. Roles with the same model share one, so its weights are loaded once."""
        if role in self._given_clients:
            return self._given_clients[role]
        key = self._client_key(role)
        if key not in self._clients:
            self._clients[key] = make_client(role, self.recipe(role))
        return self._clients[key]

    def _client_key(self, role: str) -> Any:
        # An endpoint's client names its role in errors, so it is not shared.
        recipe = self.recipe(role)
        return (role if recipe.provider == "openai" else None, recipe)

    def known_identity(self, role: str) -> dict[str, Any] | None:
        """Model id and revision, if the role was used in this run."""
        client = self._given_clients.get(role) or self._clients.get(self._client_key(role))
        return client.identity if client else None

    def recipe(self, role: str) -> ModelRecipe:
        model: ModelRecipe = self.models[role] if isinstance(self.models, Mapping) else getattr(self.models, role)
        return model

    def count_tokens(self, role: str, texts: Sequence[str]) -> list[int]:
        return self.client(role).count_tokens(texts)

    def generate(self, role: str, requests: Sequence[ChatRequest], label: str) -> list[Any]:
        """Answers or Failures in the order of `requests`. `label` names the work in the progress line.

        Raises BudgetStop when a cap is reached and InputError when the endpoint cannot be used; all replies so far are recorded.
        """
        return self._run(role, requests, label)

    def score(self, role: str, requests: Sequence[ScoreRequest], label: str) -> list[Any]:
        """TokenScores in the order of `requests`."""
        return self._run(role, requests, label)

    def _run(self, role: str, requests: Sequence[Request], label: str) -> list[Any]:
        client = self.client(role)
        replies: list[Reply] = []
        # In a log file a line every half minute is enough.
        interval = 1.0 if sys.stderr.isatty() else 30.0
        with tqdm(
            total=len(requests), desc=label, unit="answer", leave=False, mininterval=interval, maxinterval=interval
        ) as progress:
            for start in range(0, len(requests), CHUNK):
                replies += self._run_chunk(role, client, requests[start : start + CHUNK], progress)
        return replies

    def _run_chunk(self, role: str, client: Any, requests: Sequence[Request], progress: Any) -> list[Reply]:
        keys = record_keys(requests, client.identity)
        # Equal requests are one call.
        first_of: dict[str, int] = {}
        for index, key in enumerate(keys):
            first_of.setdefault(key, index)
        found = self.record.find(list(first_of), failures=not self.retry_failed)
        for key, reply in found.items():
            # A reply that this part itself made before is neither a call nor a replay.
            self.spending.hits += self._count_used(key, reply.usage, role)
        copies = Counter(keys)
        progress.update(sum(copies[key] for key in found))
        missing = [key for key in first_of if key not in found]
        if missing and self.dry_run:
            for key in missing:
                found[key], is_new = self.stand_ins.reply(role, requests[first_of[key]], key)
                if is_new:
                    self.spending.add_call(found[key].usage, self.recipe(role))
                self._count_used(key, found[key].usage, role)
                progress.update(copies[key])
        elif missing:
            self._call_missing(
                role, client, [requests[i] for i in first_of.values()], list(first_of), found, copies, progress
            )
        for key in missing:
            reply = found[key]
            self.left_open += isinstance(reply, Failure) and reply.may_pass
        return [found[key] for key in keys]

    def _call_missing(
        self,
        role: str,
        client: Any,
        requests: Sequence[Any],
        keys: Sequence[str],
        found: dict[str, Reply],
        copies: Counter[str],
        progress: Any,
    ) -> None:
        """Ask for those of `keys` that are not in `found`, record every reply as it arrives and put it there."""

        def on_reply(batch: list[tuple[int, Reply]]) -> None:
            batch = [(position, _as_recorded(reply)) for position, reply in batch]
            self.record.add((keys[p], requests[p], reply, provenance) for p, reply in batch)
            for position, reply in batch:
                key = keys[position]
                found[key] = reply
                self.spending.add_call(reply.usage, self.recipe(role))
                if not (isinstance(reply, Failure) and reply.may_pass):
                    self._count_used(key, reply.usage, role)
                progress.update(copies[key])
            progress.set_postfix_str(f"{self.spending.calls} calls, {self.spending.cost_usd:.2f} USD", refresh=False)

        provenance = self._provenance(role)
        if id(client) not in self._checked:
            client.check()
            self._checked.add(id(client))
        wanted = [position for position, key in enumerate(keys) if key not in found]
        self._call(role, client, requests, keys, wanted, on_reply)

    def _call(
        self, role: str, client: Any, requests: Sequence[Any], keys: Sequence[str], wanted: list[int], on_reply: Any
    ) -> None:
        """All at once; an endpoint under a cost cap in portions, so that the cap is looked at in between."""
        capped = self.budget.max_cost_usd is not None and self.recipe(role).provider != "transformers"
        least = max(64, self.recipe(role).max_concurrency)
        portion = least if capped else len(wanted)
        start = 0
        while start < len(wanted):
            part = wanted[start : start + portion]
            affordable = self.budget.affordable(len(part))
            spent = self.spending.cost_usd
            if affordable:
                if isinstance(requests[0], ChatRequest):
                    client.generate(requests, keys, set(part[:affordable]), on_reply)
                else:
                    client.score(requests, set(part[:affordable]), on_reply)
            if affordable < len(part):
                raise self.budget.stop()
            start += len(part)
            if capped:
                portion = self._next_portion(least, (self.spending.cost_usd - spent) / len(part))

    def _next_portion(self, least: int, cost_of_a_call: float) -> int:
        """Half of what the rest of the money pays for, which keeps an endpoint busy; the last `least` calls at once."""
        if cost_of_a_call <= 0:
            return CHUNK
        payable = max(0.0, (self.budget.max_cost_usd or 0.0) - self.spending.cost_usd) / cost_of_a_call
        return max(int(payable / 2), min(least, math.ceil(payable)), 1)

    def _count_used(self, key: str, usage: Usage, role: str) -> bool:
        """Whether the reply is the part's first under its key, and so was counted."""
        number = int(key[:15], 16)
        if number in self._counted:
            return False
        self._counted.add(number)
        sums = self._part.setdefault(role, [0, 0, 0])
        for position, count in enumerate((1, usage.prompt_tokens, usage.completion_tokens)):
            sums[position] += count
        return True

    def _provenance(self, role: str) -> dict[str, Any]:
        recipe = self.recipe(role)
        # Recipes with credentials in an address were refused on reading.
        return {"role": role, "provider": recipe.provider, "base_url": recipe.base_url}


def make_client(role: str, recipe: ModelRecipe) -> Any:
    if recipe.provider == "transformers":
        from builder.llm.transformers_client import TransformersClient

        return TransformersClient(recipe)
    if recipe.provider == "openai":
        from builder.llm.openai_client import OpenAIClient

        return OpenAIClient(role, recipe)
    if recipe.provider == "scripted":
        return ScriptedClient(recipe.model)
    raise InputError(
        f"models.{role}.provider is {recipe.provider!r}: there is no model to ask. Set it to transformers, openai or scripted."
    )


def _as_recorded(reply: Reply) -> Reply:
    """Half a pair of surrogates, which JSON can bring (\\ud83d), is no text that a file can hold: it becomes a question mark before
    anybody reads the reply, so that a replay gives the same."""
    if isinstance(reply, Answer | Failure) and not _is_text(reply.text):
        return replace(reply, text=reply.text.encode("utf-8", "replace").decode("utf-8"))
    return reply


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
