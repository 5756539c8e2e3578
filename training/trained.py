"""Any finished model folder as one function from candidates to scores, whatever method made it."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.schema import assistant_message
from training import scoring
from training.arguments import TrainingRun
from training.base_model import context_of
from training.conditioning import LabelledPair, from_record
from training.evaluation import Candidate, Scorer
from training.kinds import OWN_KINDS, TRL_KINDS
from training.prepare import evaluation_prompts
from training.prompts import PersonaPrompts
from training.record import finished_record
from training.reference import reference_log_probabilities
from training.scoring import Item, ScoringModel, answer_tokens, score_log_probabilities, score_rewards
from training.tokens import token_ids

# TRL 1.16 divides the log-ratios of these losses by the answer's number of tokens (dpo_trainer.py, `_compute_loss`).
PER_TOKEN_LOSSES = ("ipo", "sigmoid_norm")


def load_scorer(
    folder: Path,
    profiles: Mapping[str, str],
    labelled: Mapping[str, Sequence[LabelledPair]],
    base_model: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int = 16,
    few_shot_pairs: int | None = None,
    persona_corruption: float | None = None,
    cache: Path | None = None,
) -> Scorer:
    """The finished model in `folder`.

    profiles, labelled: of the personas that it will be asked about. few_shot_pairs, persona_corruption: instead of what it was trained
    with. cache: where reference log-probabilities are kept. Raises InputError for a folder that is no finished model.
    """
    record = finished_record(folder)
    conditioning = from_record(record)
    if few_shot_pairs is not None:
        conditioning = replace(conditioning, few_shot_pairs=few_shot_pairs)
    if persona_corruption is not None:
        conditioning = replace(conditioning, persona_corruption=persona_corruption)
    prompts = evaluation_prompts(PersonaPrompts(conditioning, profiles, labelled))
    if record["kind"] not in TRL_KINDS:
        if persona_corruption:
            raise InputError(
                f"persona_corruption leaves out parts of a profile, and a {record['kind']} model reads none. Leave it out."
            )
        return _load_own(record["kind"])(folder, record, prompts, base_model, device, dtype, batch_size, cache)
    load = scoring.load_reward_model if record["kind"] == "reward" else scoring.load_dpo_model
    model = load(folder, base_model, device, dtype)
    scores = reward_scores if record["kind"] == "reward" else dpo_scores
    return Scorer(
        lambda candidates: scores(model, prompts, candidates, batch_size, cache),
        usable_by(model.tokenizer, prompts, context_of(model.model)),
        record,
    )


def _load_own(kind: str) -> Callable[..., Scorer]:
    """The `load` of a method with a loop of its own. Imported when needed, because those files import what is here."""
    if kind not in OWN_KINDS:
        raise InputError(
            f"There is no kind of model called {kind!r}. Give a folder that `persona train` of this version wrote."
        )
    load: Callable[..., Scorer] = importlib.import_module(f"training.{kind}").load
    return load


def items_of(prompts: PersonaPrompts, candidates: Sequence[Candidate]) -> list[Item]:
    return [(prompts.messages(c.persona_id, c.prompt_id, c.question), c.answer) for c in candidates]


def reward_scores(
    model: ScoringModel,
    prompts: PersonaPrompts,
    candidates: Sequence[Candidate],
    batch_size: int,
    cache: Path | None = None,
) -> list[float]:
    """The reward of each candidate. `cache` is for DPO models."""
    return score_rewards(model, items_of(prompts, candidates), batch_size)


def implicit_reward_facts(run: TrainingRun) -> dict[str, Any]:
    """What of a DPO run decides its implicit rewards; stands in the record, where `dpo_scores` reads it."""
    losses = run.config.loss_type
    return {
        "beta": run.config.beta,
        "reference_persona": run.data.reference_persona,
        "loss_type": [losses] if isinstance(losses, str) else list(losses),
    }


def dpo_scores(
    model: ScoringModel,
    prompts: PersonaPrompts,
    candidates: Sequence[Candidate],
    batch_size: int,
    cache: Path | None = None,
) -> list[float]:
    """The implicit reward of each candidate: beta * (policy - reference), where the reference sees what it saw in training.

    Of models whose loss compares averages over an answer's tokens (IPO) it is that average.
    """
    items = items_of(prompts, candidates)
    policy = score_log_probabilities(model, items, batch_size, "Policy")
    seen = items
    if not model.record["reference_persona"]:
        seen = items_of(prompts, [replace(c, persona_id=None) for c in candidates])
    reference = reference_log_probabilities(model, seen, cache, batch_size)
    rewards = [model.beta * (p - r) for p, r in zip(policy, reference, strict=True)]
    if not set(model.record.get("loss_type", ())) & set(PER_TOKEN_LOSSES):
        return rewards
    return [reward / tokens for reward, tokens in zip(rewards, answer_tokens(model, items), strict=True)]


def usable_by(tokenizer: Any, prompts: PersonaPrompts, context: int | None) -> Callable[[Candidate], bool]:
    """Whether prompt and answer fit into `context` tokens (None: no limit), and the persona has enough labelled pairs."""

    def usable(candidate: Candidate) -> bool:
        if not prompts.has_examples(candidate.persona_id, candidate.prompt_id):
            return False
        if context is None:
            return True
        messages = prompts.messages(candidate.persona_id, candidate.prompt_id, candidate.question)
        return len(token_ids(tokenizer, messages + assistant_message(candidate.answer))) <= context

    return usable
