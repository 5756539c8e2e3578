"""PERSONA Bench as tasks of Inspect AI, so that its tools run it and `inspect view` shows every call.

    inspect eval eval/inspect_tasks.py@persona_bench --model openai/NAME --model-role grader=openai/OTHER -T dataset=FOLDER -T limit=50

A local OpenAI-compatible server is `--model openai-api/local/NAME`, with its address in LOCAL_BASE_URL and its key in LOCAL_API_KEY.

Nothing is said twice: items, prompts, retries, parsers and verdicts are those of `persona eval bench` (eval.bench, builder.judge), and only
the call itself goes through Inspect. So both runners ask the same, with the same seeds, and get the same pass rate. A sample is one
persona and one question; its score is {true, none, wrong}: the answer under the persona's own profile, without one, and under the wrong
persona's, each judged for the persona. A row that could not be scored is NaN, which Inspect leaves out of every metric; the reason
stands in the score's metadata.

No other module imports this one: Inspect AI is an extra (`pip install 'persona-testbed[inspect]'`).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.critique import Critique, criticise
from builder.judge.judge import Judge
from builder.judge.judge_file import load_judge
from builder.llm.messages import ChatRequest, Reply
from builder.llm.model_recipe import ModelRecipe
from builder.llm.openai_client import read_completion
from builder.llm.record import record_keys
from builder.randomness import seed_for
from eval.bench import comparison
from eval.bench.answers import write_answers
from eval.bench.modes import MAIN_MODE, MODES, form_for
from eval.bench.outcomes import Outcome, outcomes_of
from eval.bench.pass_at_k import check_samples, ks_for
from eval.calls import MODEL_ROLE
from eval.items import Item, Persona, draw_items, load_personas
from eval.language_models import LanguageModel
from eval.rows import EvaluatedRow
from eval.transcripts import reread, transcript_rows
from training.conditioning import CONDITIONS, Conditioning

try:
    import anyio.from_thread
    import anyio.to_thread
    from inspect_ai import Epochs, Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import (
        ChatMessage,
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageUser,
        GenerateConfig,
        Model,
        ModelOutput,
        get_model,
    )
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver
except ImportError as error:
    raise InputError(
        f"Inspect AI is not installed ({error}), and these are its tasks. Install it with: pip install 'persona-testbed[inspect]'. "
        "`persona eval bench` measures the same without it."
    ) from None

GRADER_ROLE = "grader"
ROWS = "persona_bench_rows"  # of a sample's store
MESSAGES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


@task
def persona_bench(
    dataset: str,
    mode: str = "output_only",
    judge: str = "critique",
    limit: int | None = 100,
    temperature: float = 0.7,
    seed: int = 0,
) -> Task:
    """One answer a sample and condition, judged; pass rates with standard errors over personas, and `gap` = true - wrong.

    dataset: a published folder. mode: baseline, output_only, chain_of_thought or demographic_summary. judge: a critique judge, put to the
    model of role `grader` (without one to the evaluated model itself). limit: at most so many items, drawn by seed.
    """
    drawn = _samples(dataset, mode, limit, seed)
    return Task(
        dataset=drawn,
        solver=write_for_personas(mode, temperature, seed),
        scorer=judged_for_personas(judge, seed),
        # What decides a reply stands in each request, not here.
        metadata={"mode": mode, "judge": judge, "seed": seed},
    )


@task
def persona_pass_at_k(
    dataset: str,
    mode: str = MAIN_MODE,
    judge: str = "critique",
    samples: int = 16,
    limit: int | None = 100,
    temperature: float = 0.7,
    seed: int = 0,
) -> Task:
    """pass@k for k = 1, 2, 4, 8, 16, as far as `samples` goes: every answer is judged by itself, and an epoch is a draw."""
    check_samples(samples, temperature)
    return Task(
        dataset=_samples(dataset, mode, limit, seed),
        solver=write_for_personas(mode, temperature, seed),
        scorer=judged_for_personas(judge, seed, gaps=False),
        epochs=Epochs(samples, [f"pass_at_{k}" for k in ks_for(samples)]),
        metadata={"mode": mode, "judge": judge, "seed": seed},
    )


@task
def persona_comparison(dataset: str, limit: int | None = 100, seed: int = 0) -> Task:
    """The evaluated model chooses, in both orders, which of two revisions was written for the persona that it is shown.

    A sample is a contrast pair with its mirror, and its score the mean of both, so that without a persona it is one half. limit: of rows.
    """
    sets = _sets(dataset, limit, seed)
    samples = [
        Sample(
            id=name,
            input=rows[0].question,
            metadata={"prompt_id": rows[0].published["prompt_id"], "personas": "/".join(rows[0].cluster)},
        )
        for name, rows in sets.items()
    ]
    return Task(
        dataset=MemoryDataset(samples, name=Path(dataset).name),
        solver=choose_between_revisions(dataset, limit, seed),
        scorer=chosen_for_personas(seed),
        metadata={"seed": seed},
    )


@solver
def write_for_personas(mode: str, temperature: float, seed: int) -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        calls = InspectCalls({MODEL_ROLE: model}, sample_index=state.epoch - 1)
        item, personas = _item_of(state.metadata)
        evaluated = _language_model(model)
        # Our runner is not asynchronous. It waits in a thread of its own, and its calls come back to this loop.
        rows = await anyio.to_thread.run_sync(
            lambda: write_answers(calls, evaluated, [item], personas, [mode], form_for(evaluated), 1, temperature, seed)
        )
        state.store.set(ROWS, rows)
        shown = next((row for row in rows if row["condition"] == "true"), rows[0])
        state.output = ModelOutput.from_content(str(model), shown["text"])
        state.messages = [*state.messages, ChatMessageAssistant(content=shown["text"])]
        return state

    return solve


@scorer(metrics={"*": [mean(), stderr(cluster="persona_id")]})
def judged_for_personas(judge: str, seed: int, gaps: bool = True) -> Scorer:
    """Each of the sample's answers, judged for its persona. gaps: also true - wrong and true - none, of the sample."""

    async def score(state: TaskState, target: Target) -> Score:
        grader = get_model(role=GRADER_ROLE)
        asked = load_judge(judge, _recipe(grader), seed, role=GRADER_ROLE)
        if asked.kind != "critique":
            raise InputError(f"Judge {asked.name} is of kind {asked.kind}, and PERSONA Bench needs a critique judge.")
        calls = InspectCalls({GRADER_ROLE: grader}, sample_index=0)
        rows: list[dict[str, Any]] = state.store.get(ROWS)
        profile = state.metadata["profile"]
        outcomes, transcript = await anyio.to_thread.run_sync(lambda: _judged(asked, calls, rows, profile))
        by_condition = {outcome.condition: outcome for outcome in outcomes}
        # As our runner has it: 1 or 0, NaN for what could not be scored.
        value = {condition: by_condition[condition].passed for condition in CONDITIONS if condition in by_condition}
        if gaps and len(value) == len(CONDITIONS):
            value |= {"gap": value["true"] - value["wrong"], "gain": value["true"] - value["none"]}
        reasons = {condition: outcome.reason for condition, outcome in by_condition.items() if outcome.reason}
        answered = {row["condition"]: row for row in rows}
        return Score(
            value=value,
            answer=answered.get("true", rows[0])["text"],
            explanation="\n\n".join(f"{row['item_id']}: {row['raw'] or row['failure']}" for row in transcript),
            reason="; ".join(f"{condition}: {reason}" for condition, reason in sorted(reasons.items())) or None,
            metadata={
                "judge": asked.label,
                "unscored": reasons,
                "answers": {condition: row["text"] for condition, row in answered.items()},
                "thoughts": {condition: row["thought"] for condition, row in answered.items() if row["thought"]},
            },
        )

    return score


@solver
def choose_between_revisions(dataset: str, limit: int | None, seed: int) -> Solver:
    sets, personas = _sets(dataset, limit, seed), load_personas(Path(dataset))

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        calls = InspectCalls({MODEL_ROLE: model}, sample_index=0)
        evaluated = _language_model(model)
        chooser = comparison.chooser(evaluated, form_for(evaluated), seed)
        rows = sets[str(state.sample_id)]
        pairs, transcript = await anyio.to_thread.run_sync(
            lambda: comparison.choose(calls, evaluated, chooser, rows, personas)
        )
        state.store.set(ROWS, {"pairs": pairs, "transcript": transcript})
        state.output = ModelOutput.from_content(str(model), "\n\n".join(row["raw"] for row in transcript))
        return state

    return solve


@scorer(metrics={"*": [mean(), stderr(cluster="personas")]})
def chosen_for_personas(seed: int) -> Scorer:
    """The mean over a pair and its mirror, by condition; NaN where either could not be scored."""

    async def score(state: TaskState, target: Target) -> Score:
        evaluated = _language_model(get_model())
        chooser = comparison.chooser(evaluated, form_for(evaluated), seed)
        kept: dict[str, Any] = state.store.get(ROWS)
        verdicts = reread(chooser, kept["transcript"])
        reasons = comparison.reasons_of(kept["pairs"], kept["transcript"], {chooser.label: chooser})
        won: dict[str, list[float]] = {}
        for pair, reason in zip(kept["pairs"], reasons, strict=True):
            worth = math.nan if reason else comparison.WON[verdicts[pair["item_id"]].verdict]
            won.setdefault(pair["condition"], []).append(worth)
        value = {condition: sum(own) / len(own) for condition, own in won.items()}
        value |= {"gap": value["true"] - value["wrong"], "gain": value["true"] - value["none"]}
        unscored = {
            pair["item_id"]: reason for pair, reason in zip(kept["pairs"], reasons, strict=True) if reason is not None
        }
        return Score(
            value=value,
            answer=", ".join(verdicts[pair["item_id"]].verdict for pair in kept["pairs"]),
            explanation=state.output.completion,
            reason="; ".join(sorted(set(unscored.values()))) or None,
            metadata={"unscored": unscored},
        )

    return score


class InspectCalls:
    """What the bench and the judges take for builder.llm.calls.ModelCalls: the same requests, sent by Inspect's models.

    models: role -> model. sample_index: of every request, so that each epoch is a draw of its own.
    """

    dry_run = False

    def __init__(self, models: dict[str, Model], sample_index: int):
        self.models = models
        self.sample_index = sample_index

    def generate(self, role: str, requests: Sequence[ChatRequest], label: str) -> list[Reply]:
        """Called from a thread that Inspect's loop started. An error of the endpoint is Inspect's to retry and to report."""
        return anyio.from_thread.run(self._generate, role, requests)

    async def _generate(self, role: str, requests: Sequence[ChatRequest]) -> list[Reply]:
        return [await self._ask(self.models[role], request) for request in requests]

    async def _ask(self, model: Model, request: ChatRequest) -> Reply:
        drawn = replace(request, sample_index=request.sample_index + self.sample_index)
        key = record_keys([drawn], {"model": _served_name(model), "revision": None})[0]
        output = await model.generate(
            [_as_inspect(message) for message in drawn.messages],
            config=GenerateConfig(
                max_tokens=drawn.sampling.max_tokens,
                temperature=drawn.sampling.temperature,
                top_p=drawn.sampling.top_p,
                # As builder.llm.openai_client has it: an endpoint that obeys seeds then draws the same answer.
                seed=seed_for(drawn.seed, "sampled_answer", key) % 2**31,
            ),
        )
        return read_completion(_completion(output), drawn, output.time or 0.0)


def _judged(
    judge: Judge, calls: InspectCalls, rows: Sequence[dict[str, Any]], profile: str
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """The outcome of each row, and the transcript that it was read from: an answer that failed is not put to the judge."""
    ready = [row for row in rows if not row["failure"]]
    verdicts = criticise(judge, calls, [Critique(profile, row["question"], row["text"]) for row in ready])
    transcript = transcript_rows(judge, [row["item_id"] for row in ready], verdicts)
    return outcomes_of(rows, transcript, judge, judge.label), transcript


def _samples(dataset: str, mode: str, limit: int | None, seed: int) -> MemoryDataset:
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; choose {', '.join(MODES)}.")
    folder = Path(dataset)
    personas = load_personas(folder)
    samples = [
        Sample(
            id=item.key,
            input=item.question,
            metadata={
                "persona_id": item.persona_id,
                "wrong_persona_id": item.wrong_persona_id,
                "prompt_id": item.prompt_id,
                "question": item.question,
                "topic": item.topic,
                "persona_group": item.persona_group,
                "split": item.split,
                "profile": personas[item.persona_id].profile,
                "wrong_profile": personas[item.wrong_persona_id].profile,
            },
        )
        for item in draw_items(folder, limit, seed)
    ]
    return MemoryDataset(samples, name=folder.name)


def _sets(dataset: str, limit: int | None, seed: int) -> dict[str, list[EvaluatedRow]]:
    """Complete sets of the open comparison: name -> a pair and its mirror."""
    sets: dict[str, list[EvaluatedRow]] = {}
    for row in comparison.draw_sets(Path(dataset), limit, seed):
        sets.setdefault(min(row.pair_id, str(row.mirror_pair_id)), []).append(row)
    return sets


def _item_of(known: dict[str, Any]) -> tuple[Item, dict[str, Persona]]:
    fields = ("persona_id", "wrong_persona_id", "prompt_id", "question", "topic", "persona_group", "split")
    item = Item(**{field: known[field] for field in fields})
    profiles = {item.persona_id: known["profile"], item.wrong_persona_id: known["wrong_profile"]}
    return item, {name: Persona(name, text, item.persona_group, {}) for name, text in profiles.items()}


def _language_model(model: Model) -> LanguageModel:
    """Inspect's model as our bench knows models: one at an endpoint, shown the whole profile as system message."""
    return LanguageModel(_served_name(model), _recipe(model), None, Conditioning(), {})


def _recipe(model: Model) -> ModelRecipe:
    """Whatever provider Inspect reaches it by, it writes and gives no log-probabilities of a given text."""
    return ModelRecipe(provider="openai", model=_served_name(model))


def _served_name(model: Model) -> str:
    """What the endpoint calls the model: of `openai-api/local/NAME` it is NAME."""
    served = getattr(model.api, "service_model_name", None)
    return str(served()) if callable(served) else model.name


def _as_inspect(message: dict[str, str]) -> ChatMessage:
    return MESSAGES[message["role"]](content=message["content"])


def _completion(output: ModelOutput) -> dict[str, Any]:
    """The output in the form of an endpoint's response, so that one reader decides what is an answer, a refusal or cut off."""
    usage = output.usage
    counted = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens} if usage else {}
    if output.empty:
        return {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}], "usage": counted}
    choice = output.choices[0]
    return {
        "choices": [{"message": {"content": choice.message.text}, "finish_reason": choice.stop_reason}],
        "usage": counted,
    }
