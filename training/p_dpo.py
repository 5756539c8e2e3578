"""Personalised DPO: each persona of the training rows has soft tokens of its own, all others share the generic persona's.

After P-DPO of Li et al., "Personalized Language Modeling from Personalized Human Feedback" (2024). Persona u is e_u = e_0 + o_u: the
generic tokens plus an offset, which begins at zero. With a = alpha the loss of a pair is

    a * DPO(pair, e_u) + (1 - a) * DPO(pair, e_0)

so that e_0, which also stands for unseen personas and for no persona, is trained on everybody's pairs. The text of the prompt is blind.

The soft tokens are input embeddings at the beginning of the system message, before its text: there the text methods have the profile, and
what the chat template puts first keeps the place at which the base model learned to read it. The reference is the base without soft
tokens.

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.p_dpo --config demo_p_dpo --dataset FOLDER --output_dir OUT
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, logsigmoid
from tqdm import tqdm
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
from trl import get_peft_config

from builder.errors import InputError
from builder.files import read_json, write_json
from builder.randomness import rng_for, seed_for
from builder.schema import NEUTRAL_SYSTEM_TEXT, assistant_message
from training import scoring
from training.arguments import TrainingRun, parse_arguments
from training.base_model import context_of, load_tokenizer
from training.data import TRAIN_SPLIT
from training.evaluation import Candidate, Evaluation, Scorer, shown_persona
from training.finish import evaluation_of
from training.own_loop import OwnLoopConfig, check_own_loop, save_and_publish
from training.preflight import print_model, say
from training.prepare import Prepared, prepare
from training.prompts import PersonaPrompts
from training.reference import reference_log_probabilities
from training.run_as_script import run_as_script
from training.scoring import Item, ScoringModel
from training.tokens import common_prefix_length, token_ids
from training.trained import usable_by

TOKENS_FILE = "soft_tokens.safetensors"  # `generic` (tokens, width), `offsets` (personas, tokens, width)
PERSONAS_FILE = "personas.json"  # their ids, in the order of `offsets`
REFERENCE = "computed once, before training; it sees neither persona nor soft tokens"
GENERIC = -1  # in place of a persona's index in `offsets`
COUNTS = (
    "persona_tokens",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
)


@dataclass
class PersonalDPOConfig(OwnLoopConfig):
    """Defaults as in the released script for PRISM, but for token_learning_rate, which it does not have."""

    persona_tokens: int = field(default=10, metadata={"help": "Soft tokens of a persona."})
    alpha: float = field(
        default=0.5, metadata={"help": "Weight of the loss with the row's persona; the rest: generic."}
    )
    beta: float = field(default=0.5, metadata={"help": "Of DPO: reward = beta * (policy - reference)."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Of the adapter (use_peft)."})
    token_learning_rate: float = field(default=1e-3, metadata={"help": "Of the soft tokens; each sees few rows."})
    num_train_epochs: int = field(default=1, metadata={"help": "Passes over the rows."})
    max_steps: int = field(default=-1, metadata={"help": "If positive, so many steps instead of epochs."})
    per_device_train_batch_size: int = field(default=1, metadata={"help": "Pairs computed at a time."})
    gradient_accumulation_steps: int = field(default=16, metadata={"help": "So many of these are one step."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Below 1: a share of all steps. Then cosine to zero."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Longer gradients are shortened to it."})
    logging_steps: int = field(default=10, metadata={"help": "Steps between two entries of the history."})


@dataclass(frozen=True)
class Text:
    """`ids`: tokens of messages and answer, without soft tokens. `start`: index of the answer's first."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Pair:
    """A training row. reference: log-probability of chosen minus that of rejected under the reference, in nats."""

    persona: int
    chosen: Text
    rejected: Text
    reference: float


class PersonaPolicy(torch.nn.Module):
    """A causal model that reads a persona's soft tokens from position `place` on; the generic ones begin as `generic` (tokens, width)."""

    def __init__(self, base: Any, generic: torch.Tensor, offsets: torch.Tensor, place: int) -> None:
        super().__init__()
        self.base, self.place = base, place
        self.generic = torch.nn.Parameter(generic)
        self.offsets = torch.nn.Parameter(offsets)

    def forward(self, texts: Sequence[Text], personas: Sequence[int]) -> torch.Tensor:
        """(texts,): the log-probability of each answer with its end of turn, in nats. personas: an index or GENERIC for each text."""
        device, tokens = self.generic.device, len(self.generic)
        # Padded on the right, so that `place` is the same in all rows. Padding is masked, so that any token will do.
        length = torch.tensor([len(text.ids) for text in texts], device=device)[:, None]
        start = torch.tensor([text.start for text in texts], device=device)[:, None]
        ids = torch.zeros(len(texts), max(len(text.ids) for text in texts), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
        ids = ids.to(device)
        position = torch.arange(ids.shape[1], device=device)[None, :]
        embedded = self.base.get_input_embeddings()(ids)
        soft = self.soft_tokens(torch.tensor(personas, device=device)).to(embedded.dtype)
        spliced = torch.cat([embedded[:, : self.place], soft, embedded[:, self.place :]], dim=1)
        mask = torch.arange(spliced.shape[1], device=device)[None, :] < length + tokens
        first = min(text.start for text in texts)
        # Only what predicts answers goes through the vocabulary.
        kept = ids.shape[1] - first + 1
        logits = self.base(
            inputs_embeds=spliced, attention_mask=mask.long(), logits_to_keep=kept, use_cache=False
        ).logits
        losses = cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, first:].flatten(), reduction="none")
        answer = (position >= start) & (position < length)
        return -(losses.view(len(texts), -1) * answer[:, first:]).sum(dim=1)

    def soft_tokens(self, personas: torch.Tensor) -> torch.Tensor:
        """(personas, tokens, width)"""
        own = (personas != GENERIC)[:, None, None]
        return self.generic + own * self.offsets[personas.clamp(min=0)]


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a model; returns its folder. Raises InputError for anything wrong with recipe, data or base model."""
    run = parse_arguments(argv, PersonalDPOConfig)
    check_own_loop(run, "p_dpo")
    _check(run)
    prepared = prepare(run, for_reward=False)
    persona_ids = sorted(set(prepared.rows[TRAIN_SPLIT]["persona_id"]))
    device = "cuda" if torch.cuda.is_available() and not run.config.use_cpu else "cpu"
    base = scoring.load_base_model(str(prepared.base.folder), device)
    base.record["base_model"] = prepared.base.declared()
    pairs = training_pairs(prepared, base, persona_ids)
    policy = new_policy(prepared, base.model, len(persona_ids)).to(device)
    facts = print_model(policy, prepared.tokenizer) | {"reference": REFERENCE}
    say(f"[preflight] reference: {REFERENCE}")
    facts |= {"estimated": estimated(policy, pairs, run.config)}
    facts |= train(policy, pairs, run.config)
    tokens = {"generic": policy.generic.detach(), "offsets": policy.offsets.detach()}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tokens.items()}, prepared.working / TOKENS_FILE)
    write_json(prepared.working / PERSONAS_FILE, persona_ids)
    if run.model.use_peft:
        # Never the embeddings: to find out whether they have changed, PEFT would ask the Hub for the base.
        policy.base.save_pretrained(str(prepared.working), save_embedding_layers=False)
    facts |= {"personas": len(persona_ids), "persona_tokens": run.config.persona_tokens, "beta": run.config.beta}
    record = {**base.record, "run": facts}
    live = scorer_of(policy, prepared.tokenizer, prepared.prompts, persona_ids, record, run.data.eval_batch_texts)
    facts["coverage"] = coverage(evaluation_of(prepared, live.usable), persona_ids)
    return save_and_publish(prepared, "p_dpo", facts, live.score)


def load(
    folder: Path,
    record: dict[str, Any],
    prompts: PersonaPrompts,
    base_model: str | None,
    device: str | None,
    dtype: str,
    batch_size: int,
    cache: Path | None = None,
) -> Scorer:
    """The finished model in `folder`. Raises InputError if its base is not the one that it was trained from."""
    base = scoring.base_of(folder, record, base_model)
    tokenizer = load_tokenizer(folder, for_reward=False)
    scoring.check_tokenizer(tokenizer, record)
    model = AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=scoring.torch_dtype(dtype), use_safetensors=True, trust_remote_code=False
    )
    if (folder / "adapter_config.json").is_file():
        model = scoring.with_adapter(model, folder)
    tokens = load_file(folder / TOKENS_FILE)
    policy = PersonaPolicy(model, tokens["generic"], tokens["offsets"], place_of(tokenizer, prompts))
    policy = scoring.ready(policy, device)
    return scorer_of(policy, tokenizer, prompts, read_json(folder / PERSONAS_FILE), record, batch_size)


def place_of(tokenizer: Any, prompts: PersonaPrompts) -> int:
    """How many tokens of every prompt stand before the text of its first message."""
    messages = prompts.messages(None, "", "A question?")
    others = [{**message, "content": "#"} for message in messages]
    return common_prefix_length(token_ids(tokenizer, messages), token_ids(tokenizer, others))


def encoded(tokenizer: Any, item: Item) -> Text:
    messages, answer = item
    ids = token_ids(tokenizer, messages + assistant_message(answer))
    return Text(ids, common_prefix_length(token_ids(tokenizer, messages, open_answer=True), ids))


def training_pairs(prepared: Prepared, base: ScoringModel, persona_ids: Sequence[str]) -> list[Pair]:
    """The training rows as tokens, with what the reference says of them (in float32, also where training computes in bfloat16)."""
    config, context = prepared.run.config, context_of(base.model)
    if context is not None and config.max_length + config.persona_tokens > context:
        raise InputError(
            f"max_length {config.max_length} and {config.persona_tokens} soft tokens are more than the {context} tokens that the base "
            "model reads. Lower max_length or persona_tokens."
        )
    rows = list(prepared.rows[TRAIN_SPLIT])
    items = [(row["prompt"], row[side][0]["content"]) for row in rows for side in ("chosen", "rejected")]
    reference = reference_log_probabilities(base, items, prepared.run.cache, prepared.run.data.eval_batch_texts)
    texts = [encoded(prepared.tokenizer, item) for item in items]
    margins = [chosen - rejected for chosen, rejected in zip(reference[::2], reference[1::2], strict=True)]
    index = {persona: place for place, persona in enumerate(persona_ids)}
    personas = [index[row["persona_id"]] for row in rows]
    return [Pair(*parts) for parts in zip(personas, texts[::2], texts[1::2], margins, strict=True)]


def new_policy(prepared: Prepared, base: Any, personas: int) -> PersonaPolicy:
    """The base with generic tokens that begin as the neutral text's own, all offsets zero, and with use_peft a fresh adapter."""
    run, tokenizer = prepared.run, prepared.tokenizer
    base.requires_grad_(False)
    ids = tokenizer(NEUTRAL_SYSTEM_TEXT, add_special_tokens=False)["input_ids"]
    count = run.config.persona_tokens
    embeddings = base.get_input_embeddings().weight
    # Prompt tuning does better from a vocabulary's embeddings than from noise (Lester et al. 2021).
    generic = embeddings[torch.tensor((ids * count)[:count], device=embeddings.device)].detach().clone()
    adapter = get_peft_config(run.model)  # None without use_peft
    if adapter is not None:
        base = get_peft_model(base, adapter)
        generator = torch.Generator().manual_seed(seed_for(run.config.seed, "p_dpo", "adapter"))
        for name, weight in base.named_parameters():
            if "lora_A" in name:  # as PEFT begins them, but not from the global generator
                fresh = torch.empty(weight.shape)
                torch.nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
                weight.data.copy_(fresh)
    place = place_of(tokenizer, prepared.prompts)
    # No dropout: it would draw from the global generator.
    return PersonaPolicy(base, generic, generic.new_zeros(personas, *generic.shape), place).eval()


def dpo_loss(policy: PersonaPolicy, pairs: Sequence[Pair], personas: Sequence[int], beta: float) -> torch.Tensor:
    """Mean over the pairs, each with the soft tokens of one of `personas`."""
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    chosen, rejected = policy(texts, [*personas, *personas]).chunk(2)
    reference = torch.tensor([pair.reference for pair in pairs], device=chosen.device)
    return -logsigmoid(beta * (chosen - rejected - reference)).mean()


def backward(policy: PersonaPolicy, batch: Sequence[Pair], config: PersonalDPOConfig) -> float:
    """The loss of a step, its gradients added up over parts of the batch."""
    size, loss = config.per_device_train_batch_size, 0.0
    for part in (batch[i : i + size] for i in range(0, len(batch), size)):
        own, generic = [pair.persona for pair in part], [GENERIC] * len(part)
        for personas, weight in ((own, config.alpha), (generic, 1 - config.alpha)):
            if weight:
                with torch.autocast(policy.generic.device.type, torch.bfloat16, enabled=config.bf16):
                    share = dpo_loss(policy, part, personas, config.beta) * weight * len(part) / len(batch)
                share.backward()
                loss += share.item()
    return loss


def batch_size_and_steps(rows: int, config: PersonalDPOConfig) -> tuple[int, int]:
    batch_size = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return batch_size, config.max_steps if config.max_steps > 0 else math.ceil(
        rows / batch_size
    ) * config.num_train_epochs


def estimated(policy: PersonaPolicy, pairs: Sequence[Pair], config: PersonalDPOConfig) -> dict[str, float]:
    """Of the steps, from one part of a step with pairs of typical lengths, whose gradients are thrown away; printed too."""
    batch_size, steps = batch_size_and_steps(len(pairs), config)
    by_length = sorted(pairs, key=lambda pair: len(pair.chosen.ids) + len(pair.rejected.ids))
    size = min(config.per_device_train_batch_size, len(pairs))
    begin = (len(pairs) - size) // 2
    started = time.monotonic()
    backward(policy, by_length[begin : begin + size], config)
    seconds = (time.monotonic() - started) * math.ceil(min(batch_size, len(pairs)) / size)
    policy.zero_grad(set_to_none=True)
    minutes = steps * seconds / 60
    say(
        f"[preflight] estimated: {steps} steps, about {minutes:.1f} min ({seconds:.2f} s a step), without the evaluation"
    )
    return {"steps": steps, "seconds_a_step": round(seconds, 3), "minutes": round(minutes, 2)}


def train(policy: PersonaPolicy, pairs: Sequence[Pair], config: PersonalDPOConfig) -> dict[str, Any]:
    """Returns steps, seconds, the mean loss and its history. Raises InputError for a loss that is not finite."""
    batch_size, steps = batch_size_and_steps(len(pairs), config)
    tokens = [policy.generic, policy.offsets]
    adapter = [weight for weight in policy.base.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW([{"params": tokens, "lr": config.token_learning_rate}], weight_decay=0.0)
    if adapter:
        optimizer.add_param_group({"params": adapter, "lr": config.learning_rate})
    warmup = config.warmup_steps * steps if config.warmup_steps < 1 else config.warmup_steps
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(warmup), steps)
    losses: list[float] = []
    history: list[dict[str, float]] = []
    started = time.monotonic()
    with tqdm(total=steps, desc="Training", unit="step", disable=None) as progress:
        for batch in batches(pairs, batch_size, steps, config.seed):
            losses.append(backward(policy, batch, config))
            if not math.isfinite(losses[-1]):
                raise InputError(
                    f"The loss is {losses[-1]} at step {len(losses)}, so the weights are spoilt. Lower learning_rate and "
                    "token_learning_rate, or train in float32 (bf16: false)."
                )
            torch.nn.utils.clip_grad_norm_([*tokens, *adapter], config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.update()
            if len(losses) % config.logging_steps == 0:
                history.append({"step": len(losses), "loss": fmean(losses[-config.logging_steps :])})
                progress.set_postfix(loss=f"{history[-1]['loss']:.4f}")
    seconds = time.monotonic() - started
    say(f"[train] {steps} steps in {seconds:.0f} s ({seconds / steps:.2f} s a step)")
    facts = {"steps": steps, "seconds": round(seconds, 1), "trained_rows": len(pairs)}
    return {**facts, "train_loss": fmean(losses), "history": history}


def batches(pairs: Sequence[Pair], size: int, steps: int, seed: int) -> Iterator[list[Pair]]:
    """`steps` batches, every epoch in an order of its own; the last of an epoch may be smaller."""
    per_epoch = math.ceil(len(pairs) / size)
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        order = rng_for(seed, "p_dpo/order", str(epoch)).permutation(len(pairs))
        yield [pairs[i] for i in order[place * size : (place + 1) * size]]


def scorer_of(
    policy: PersonaPolicy,
    tokenizer: Any,
    prompts: PersonaPrompts,
    persona_ids: Sequence[str],
    record: dict[str, Any],
    batch_size: int,
) -> Scorer:
    """Scores are beta * (policy - reference), with beta and base model as in `record`.

    A persona that was not trained scores exactly as none: to the policy both are one text, which is scored once.
    """
    index = {persona: place for place, persona in enumerate(persona_ids)}
    # The base itself, or the one under the adapter, as a DPO model's reference is.
    kind = "dpo" if hasattr(policy.base, "disable_adapter") else "base"
    reference = ScoringModel(policy.base, tokenizer, kind, record=record)
    context = context_of(policy.base)
    fits = usable_by(tokenizer, prompts, None if context is None else context - len(policy.generic))

    @torch.no_grad()
    def score(candidates: Sequence[Candidate]) -> list[float]:
        shown = {candidate.persona_id for candidate in candidates} - {None}
        untrained = len(shown - set(index))
        if untrained:
            say(f"[p_dpo] {untrained} of {len(shown)} personas were not trained and are scored as the generic one")
        keys = [(index.get(c.persona_id or "", GENERIC), c.prompt_id, c.question, c.answer) for c in candidates]
        different = list(dict.fromkeys(keys))
        items = [(prompts.messages(None, prompt_id, question), answer) for _, prompt_id, question, answer in different]
        texts = [encoded(tokenizer, item) for item in items]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))  # of like length together: little is padded
        values = [0.0] * len(texts)
        for place in tqdm(range(0, len(order), batch_size), desc="Policy", unit="batch", disable=None):
            batch = order[place : place + batch_size]
            scored = policy([texts[i] for i in batch], [different[i][0] for i in batch])
            for i, value in zip(batch, scored.tolist(), strict=True):
                values[i] = value
        compared = reference_log_probabilities(reference, items, None, batch_size)
        beta = record["run"]["beta"]
        scores = {key: beta * (p - r) for key, p, r in zip(different, values, compared, strict=True)}
        return [scores[key] for key in keys]

    return Scorer(score, lambda candidate: fits(replace(candidate, persona_id=None)), record)


def coverage(evaluation: Evaluation, persona_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """For the true and the wrong persona: how many test rows and personas are scored with the generic tokens. Printed too."""
    figures = {}
    for condition in ("true", "wrong"):
        shown = [shown_persona(row, condition) for row in evaluation.rows]
        generic = [persona for persona in shown if persona not in persona_ids]
        figures[condition] = {"rows": len(shown), "rows_generic": len(generic)}
        figures[condition] |= {"personas": len(set(shown)), "personas_generic": len(set(generic))}
        say(
            f"[coverage] {condition}: {len(set(generic))} of {len(set(shown))} personas ({len(generic)} of {len(shown)} test rows) have no "
            "soft tokens of their own and are scored as the generic persona"
        )
    return figures


def _check(run: TrainingRun) -> None:
    config, model = run.config, run.model
    if run.data.persona != "none":
        raise InputError(
            f"persona is {run.data.persona!r}, but p_dpo knows personas by their soft tokens and its prompts show none. Set persona: none."
        )
    if model.dtype != "float32":
        raise InputError(
            f"dtype is {model.dtype!r}, but p_dpo keeps weights in float32. Set dtype: float32; bf16 may be true."
        )
    if model.use_peft and (model.lora_dropout or model.lora_task_type != "CAUSAL_LM"):
        raise InputError(
            f"lora_dropout is {model.lora_dropout}, lora_task_type {model.lora_task_type!r}; p_dpo trains without dropout, so that a run "
            "depends on its seed alone. Set lora_dropout: 0.0 and lora_task_type: CAUSAL_LM."
        )
    if not 0 <= config.alpha <= 1:
        raise InputError(f"alpha is {config.alpha}; it is a weight from 0 to 1.")
    for name in COUNTS:
        if getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}; give at least 1.")
    for name in ("beta", "learning_rate", "token_learning_rate", "max_grad_norm"):
        if not getattr(config, name) > 0:
            raise InputError(f"{name} is {getattr(config, name)}; give a number above 0.")


if __name__ == "__main__":
    run_as_script(main)
