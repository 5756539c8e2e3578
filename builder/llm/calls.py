"""The one way in which the rest of the builder asks a language model: recorded, replayed, counted and capped."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from builder.errors import InputError
from builder.llm.budget import Budget, Spending, cost_usd
from builder.llm.messages import ChatRequest, Failure, Reply, ScoreRequest, Usage
from builder.llm.record import Record, record_key
from builder.llm.scripted import ScriptedClient
from builder.recipe import ModelRecipe, ModelsRecipe

# Requests handled together: bounds memory, and (for in-process models) fixes the batches.
CHUNK = 4096
Request = TypeVar("Request", ChatRequest, ScoreRequest)


class ModelCalls:
    """The models of one build by role, in front of its recorded responses.

    dry_run: nothing is called or recorded; what is missing gets a scripted stand-in and is counted in `spending` at its most
    expensive (max_tokens).
    retry_failed: failed attempts in the record count as not made.
    """

    def __init__(
        self,
        models: ModelsRecipe,
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
        # [replies, prompt tokens, completion tokens] by role of all that the build used, replayed or not: the same for every run of
        # a recipe. Whole numbers, so that the order of arrival changes nothing.
        self._used: dict[str, list[int]] = {}
        self._clients: dict[Any, Any] = {}
        self._given_clients = clients or {}
        self._checked: set[int] = set()
        self._seen_keys: set[str] = set()
        self._stand_in = ScriptedClient()
        self._stood_in: dict[str, Reply] = {}

    @property
    def spending(self) -> Spending:
        return self.budget.spending

    def used(self) -> dict[str, Any]:
        """What the build's replies took, whenever they were made: {responses, prompt_tokens, completion_tokens, cost_usd}."""
        responses, prompt, completion = (sum(sums[i] for sums in self._used.values()) for i in range(3))
        cost = sum(cost_usd(Usage(*self._used[role][1:]), self.recipe(role)) for role in sorted(self._used))
        return {"responses": responses, "prompt_tokens": prompt, "completion_tokens": completion, "cost_usd": cost}

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
        return getattr(self.models, role)

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
        keys = [record_key(request, client.identity) for request in requests]
        # Equal requests are one call.
        first_of: dict[str, int] = {}
        for index, key in enumerate(keys):
            first_of.setdefault(key, index)
        unique = list(first_of.values())
        found = self.record.find([keys[i] for i in unique], failures=not self.retry_failed)
        found |= {key: self._stood_in[key] for key in first_of if key in self._stood_in}
        wanted = [position for position, i in enumerate(unique) if keys[i] not in found]
        self._count_hits(role, keys, found)
        progress.update(sum(key in found for key in keys))
        copies = Counter(keys)
        unique_requests, unique_keys = [requests[i] for i in unique], [keys[i] for i in unique]

        def on_reply(batch: list[tuple[int, Reply]]) -> None:
            provenance = self._provenance(role)
            if self.dry_run:
                self._stood_in.update((unique_keys[p], reply) for p, reply in batch)
            else:
                self.record.add((unique_keys[p], unique_requests[p], reply, provenance) for p, reply in batch)
            for position, reply in batch:
                found[unique_keys[position]] = reply
                self.spending.add_call(reply.usage, self.recipe(role))
                if not (isinstance(reply, Failure) and reply.may_pass):
                    self._count_used(unique_keys[position], reply.usage, role)
                progress.update(copies[unique_keys[position]])
            progress.set_postfix_str(f"{self.spending.calls} calls, {self.spending.cost_usd:.2f} USD", refresh=False)

        if wanted and self.dry_run:
            self._stand_in_for(unique_requests, unique_keys, set(wanted), on_reply)
        elif wanted:
            if id(client) not in self._checked:
                client.check()
                self._checked.add(id(client))
            self._call(role, client, unique_requests, unique_keys, wanted, on_reply)
        return [found[key] for key in keys]

    def _call(
        self, role: str, client: Any, requests: Sequence[Any], keys: Sequence[str], wanted: list[int], on_reply: Any
    ) -> None:
        """All at once; an endpoint under a cost cap in portions, so that the cap is looked at in between."""
        capped = self.budget.max_cost_usd is not None and self.recipe(role).provider != "transformers"
        portion = max(64, len(wanted) // 50) if capped else len(wanted)
        for start in range(0, len(wanted), portion):
            part = wanted[start : start + portion]
            affordable = self.budget.affordable(len(part))
            if affordable:
                if isinstance(requests[0], ChatRequest):
                    client.generate(requests, keys, set(part[:affordable]), on_reply)
                else:
                    client.score(requests, set(part[:affordable]), on_reply)
            if affordable < len(part):
                raise self.budget.stop()

    def _stand_in_for(self, requests: Sequence[Any], keys: Sequence[str], wanted: set[int], on_reply: Any) -> None:
        def at_most(batch: list[tuple[int, Reply]]) -> None:
            on_reply([(i, _with_most_tokens(reply, requests[i])) for i, reply in batch])

        if isinstance(requests[0], ChatRequest):
            self._stand_in.generate(requests, keys, wanted, at_most)
        else:
            self._stand_in.score(requests, wanted, at_most)

    def _count_hits(self, role: str, keys: Sequence[str], found: dict[str, Reply]) -> None:
        for key in keys:
            # A reply that this run itself made before is neither a call nor a replay.
            if key in found and key not in self._seen_keys:
                self.spending.hits += 1
                self._count_used(key, found[key].usage, role)

    def _count_used(self, key: str, usage: Usage, role: str) -> None:
        if key not in self._seen_keys:
            self._seen_keys.add(key)
            sums = self._used.setdefault(role, [0, 0, 0])
            for position, number in enumerate((1, usage.prompt_tokens, usage.completion_tokens)):
                sums[position] += number

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


def _with_most_tokens(reply: Reply, request: ChatRequest | ScoreRequest) -> Reply:
    if isinstance(request, ScoreRequest):
        return reply
    return dataclasses.replace(reply, usage=Usage(reply.usage.prompt_tokens, request.sampling.max_tokens))
