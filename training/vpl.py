"""A variational few-shot reward on frozen embeddings, after VPL (arXiv:2408.10075): an encoder guesses a persona's latent z from k labelled
pairs, a decoder r(phi, z) scores an answer for it.

Loss of a row: -log sigma(r(phi_w, z) - r(phi_l, z)) + kl_weight KL(q(z | pairs) || N(0, I)), z drawn from q, the second term raised from
zero in the first steps. The pairs are others of the same persona, on other questions. q is a product of the prior and one Gaussian a pair
(VPL: attention over the pairs), so that without pairs it is the prior, and more pairs than in training narrow it further. In scoring z is
the mean of q; nobody's, and that of a persona without pairs, is 0.

python -m training.vpl --config demo_vpl --dataset FOLDER --output_dir OUT
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu, logsigmoid

from builder.errors import InputError
from builder.files import write_atomically
from builder.randomness import rng_for, seed_for
from training import preflight
from training.arguments import parse_arguments
from training.data import TRAIN_SPLIT
from training.embeddings import (
    Text,
    Values,
    check_base,
    drawn_examples,
    embed,
    embedded_pairs,
    example_texts,
    load_frozen_base,
    text_of,
    usable_by_base,
)
from training.evaluation import Candidate, ScoreFunction, Scorer
from training.own_loop import OwnLoopConfig, check_own_loop, save_and_publish
from training.prepare import prepare
from training.prompts import PersonaPrompts
from training.run_as_script import run_as_script
from training.scoring import ScoringModel

WEIGHTS_FILE = "vpl.safetensors"


@dataclass
class VplConfig(OwnLoopConfig):
    latent_size: int = field(default=16, metadata={"help": "Dimensions of z."})
    hidden_size: int = field(default=128, metadata={"help": "Width of encoder and decoder."})
    kl_weight: float = field(default=0.01, metadata={"help": "Of the KL term, once it is raised."})
    kl_annealing: float = field(default=0.5, metadata={"help": "Share of the steps in which the KL term is raised."})
    max_steps: int = field(default=1000, metadata={"help": "Optimiser steps."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Rows a step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Of AdamW."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of AdamW."})
    logging_steps: int = field(default=100, metadata={"help": "Steps between two lines of the log."})


class Vpl(torch.nn.Module):
    """d: size of an embedding. Weights are drawn from `generator`, or left as they are in memory for a state that is loaded."""

    def __init__(self, d: int, hidden: int, latent: int, generator: torch.Generator | None = None):
        super().__init__()
        self.pair = _linear(d, hidden, generator)
        self.natural = _linear(hidden, 2 * latent, generator)  # a pair's mean and logarithm of precision, per dimension
        self.answer = _linear(d, hidden, generator)
        self.latent = _linear(latent, hidden, generator)
        self.joint = _linear(hidden, hidden, generator)
        self.score = _linear(hidden, 1, generator)

    def posterior(self, differences: torch.Tensor, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean, variance) of q, (n, latent), from phi(preferred) - phi(other) of k pairs, (n, k, d). given: (n, k), 0 where none is."""
        means, log_precisions = self.natural(gelu(self.pair(differences))).chunk(2, dim=-1)
        # Bounded, so that no single pair decides z alone.
        precisions = torch.exp(log_precisions.clamp(-8, 4)) * given[:, :, None]
        precision = 1 + precisions.sum(dim=1)
        return (precisions * means).sum(dim=1) / precision, 1 / precision

    def reward(self, phi: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """(n,) from (n, d) and (n, latent)."""
        return self.score(gelu(self.joint(gelu(self.answer(phi) + self.latent(z)))))[:, 0]


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write a VPL model; returns its folder. Raises InputError as training.dpo does."""
    run = parse_arguments(argv, VplConfig)
    config = run.config
    check_own_loop(run, "vpl")
    check_config(config)
    check_base(run)
    prepared = prepare(run, for_reward=False, always_labelled=True)
    started = time.monotonic()
    rows, embedded = prepared.rows[TRAIN_SPLIT], embedded_pairs(prepared, run.cache)
    base, mean, scale, pairs = embedded.base, embedded.mean, embedded.scale, embedded.pairs
    model, history = train_vpl(
        standardised(embedded.embeddings, mean, scale),
        pairs,
        rows["persona_id"],
        [shown or None for shown in rows["shown_persona_id"]],
        rows["prompt_id"],
        run.data.few_shot_pairs,
        config,
    )
    seconds = time.monotonic() - started
    _save(model, mean, scale, prepared.working)
    trained = sum(p.numel() for p in model.parameters())
    looks_at_pairs = run.data.few_shot_pairs > 0 and any(rows["shown_persona_id"])
    facts = {
        "steps": config.max_steps,
        "seconds": round(seconds, 1),
        "trainable_parameters": trained,
        "parameters": trained + sum(p.numel() for p in base.model.parameters()),
        "train_loss": history[-1]["loss"],
        "trained_rows": len(pairs),
        "truncated_rows": 0,
        "latent_size": config.latent_size,
        "hidden_size": config.hidden_size,
        "looks_at_pairs": looks_at_pairs,
        "texts_embedded": len(embedded.embeddings),
        "history": history,
    }
    live = scorer_of(
        model, mean, scale, base, prepared.evaluation_prompts, looks_at_pairs, run.data.eval_batch_texts, run.cache
    )
    return save_and_publish(prepared, "vpl", facts, live)


def load(
    folder: Path,
    record: dict[str, Any],
    prompts: PersonaPrompts,
    base_model: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    batch_size: int = 16,
    cache: Path | None = None,
) -> Scorer:
    """A finished model. Every persona's z comes from `few_shot_pairs` of its labelled pairs. cache: of embeddings."""
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no {WEIGHTS_FILE}. Give the folder that training.vpl wrote.")
    base = load_frozen_base(folder, record, base_model, device, dtype)
    state = load_file(folder / WEIGHTS_FILE)
    mean, scale = state.pop("mean").numpy(), state.pop("scale").numpy()
    facts = record["run"]
    model = Vpl(len(mean), facts["hidden_size"], facts["latent_size"])
    model.load_state_dict(state)
    return Scorer(
        scorer_of(model, mean, scale, base, prompts, facts["looks_at_pairs"], batch_size, cache),
        usable_by_base(base, prompts, {}, facts["looks_at_pairs"]),
        record,
    )


def scorer_of(
    model: Vpl,
    mean: Values,
    scale: Values,
    base: ScoringModel,
    prompts: PersonaPrompts,
    looks_at_pairs: bool,
    batch_size: int,
    cache: Path | None,
) -> ScoreFunction:
    """looks_at_pairs: false for a model trained without them, whose encoder has learned nothing; then z is 0 throughout."""

    def score(candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        examples = drawn_examples(prompts, candidates, {}) if looks_at_pairs else {}
        texts: list[Text] = [text_of(candidate) for candidate in candidates] + example_texts(examples)
        phi = standardised(embed(base, prompts, texts, batch_size, cache), mean, scale)
        of_text = dict(zip(texts, phi, strict=True))
        latents = {
            persona: latent_of(model, [of_text[p.question, p.preferred] - of_text[p.question, p.other] for p in pairs])
            for persona, pairs in examples.items()
        }
        nobody = latent_of(model, [])
        with torch.no_grad():
            z = torch.stack([latents.get(candidate.persona_id or "", nobody) for candidate in candidates])
            return model.reward(phi[: len(candidates)], z).double().tolist()

    return score


@torch.no_grad()
def latent_of(model: Vpl, differences: Sequence[torch.Tensor]) -> torch.Tensor:
    """(latent,): the mean of q from phi(preferred) - phi(other) of each pair; 0 without pairs."""
    stacked = torch.stack(list(differences)) if differences else torch.zeros(0, model.pair.in_features)
    return model.posterior(stacked[None], torch.ones(1, len(differences)))[0][0]


def train_vpl(
    phi: torch.Tensor,
    pairs: Values,
    personas: Sequence[str],
    shown: Sequence[str | None],
    questions: Sequence[str],
    most_pairs: int,
    config: VplConfig,
) -> tuple[Vpl, list[dict[str, float]]]:
    """(model, log). The embedding is frozen and the model small, so it is trained on the processor: the same bits with and without a GPU.

    phi: (texts, d), standardised. pairs: (n, 2), indices of the chosen and the rejected text of each row. personas: whose row it is. shown:
    whose other rows the encoder gets (None: nobody's). questions: of each row. most_pairs: of these rows at most so many; how many is drawn
    for each row in each epoch, so that fewer, and none, are known from training. Raises InputError for a loss that is not finite.
    """
    generator = torch.Generator().manual_seed(seed_for(config.seed, "vpl", "weights and noise"))
    model = Vpl(phi.shape[1], config.hidden_size, config.latent_size, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rows_of: dict[str, list[int]] = {}
    for row, persona in enumerate(personas):
        rows_of.setdefault(persona, []).append(row)
    chosen, rejected = torch.from_numpy(pairs.copy()).unbind(dim=1)
    waiting: list[int] = []
    epoch = 0
    history: list[dict[str, float]] = []
    sums = {"loss": 0.0, "kl": 0.0, "accuracy": 0.0}
    for step in range(1, config.max_steps + 1):
        if not waiting:
            epoch += 1
            waiting = rng_for(config.seed, "vpl/order", str(epoch)).permutation(len(pairs)).tolist()
        batch = waiting[: config.per_device_train_batch_size]
        waiting = waiting[len(batch) :]
        contexts, given = _contexts(batch, rows_of, shown, questions, most_pairs, config.seed, epoch)
        mean, variance = model.posterior(phi[chosen[contexts]] - phi[rejected[contexts]], given)
        z = mean + variance.sqrt() * torch.randn(mean.shape, generator=generator)
        margins = model.reward(phi[chosen[batch]], z) - model.reward(phi[rejected[batch]], z)
        kl = ((variance + mean**2 - 1 - variance.log()) / 2).sum(dim=1).mean()
        raised = min(1.0, step / max(1.0, config.kl_annealing * config.max_steps))
        loss = -logsigmoid(margins).mean() + raised * config.kl_weight * kl
        if not math.isfinite(loss.item()):
            raise InputError(f"The loss is {loss.item()} at step {step}. Lower learning_rate.")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums["loss"] += loss.item()
        sums["kl"] += kl.item()
        sums["accuracy"] += (margins > 0).float().mean().item()
        if step % config.logging_steps == 0 or step == config.max_steps:
            since = step - int(history[-1]["step"] if history else 0)
            history.append({"step": step, **{name: value / since for name, value in sums.items()}})
            sums = dict.fromkeys(sums, 0.0)
            said = ", ".join(f"{name} {history[-1][name]:.3f}" for name in sums)
            preflight.say(f"[train] step {step}: {said}")
    return model, history


def _contexts(
    batch: Sequence[int],
    rows_of: dict[str, list[int]],
    shown: Sequence[str | None],
    questions: Sequence[str],
    most_pairs: int,
    seed: int,
    epoch: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row in the batch: rows of the persona shown, each on another question and none on the row's own, (n, most_pairs), and 1 where
    there is one.
    """
    contexts = torch.zeros((len(batch), most_pairs), dtype=torch.long)
    given = torch.zeros((len(batch), most_pairs))
    for place, row in enumerate(batch):
        rng = rng_for(seed, "vpl/pairs", f"{epoch}/{row}")
        count = int(rng.integers(most_pairs + 1))
        others = rows_of.get(shown[row] or "", [])
        drawn: dict[str, int] = {}
        for other in rng.permutation(others).astype(int) if count else ():
            if questions[other] != questions[row]:
                drawn.setdefault(questions[other], int(other))
            if len(drawn) == count:
                break
        contexts[place, : len(drawn)] = torch.tensor(list(drawn.values()), dtype=torch.long)
        given[place, : len(drawn)] = 1
    return contexts, given


def standardised(embeddings: Values, mean: Values, scale: Values) -> torch.Tensor:
    """(n, d), float32."""
    return torch.from_numpy(((embeddings - mean) / scale).astype(np.float32))


def check_config(config: VplConfig) -> None:
    least = {
        "latent_size": 1,
        "hidden_size": 1,
        "max_steps": 1,
        "per_device_train_batch_size": 1,
        "logging_steps": 1,
        "kl_weight": 0,
        "kl_annealing": 0,
        "weight_decay": 0,
    }
    for name, value in least.items():
        if not getattr(config, name) >= value:
            raise InputError(f"{name} is {getattr(config, name)}; give at least {value}.")
    if not config.learning_rate > 0:
        raise InputError(f"learning_rate is {config.learning_rate}; give one above 0.")


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> torch.nn.Linear:
    """torch's usual layer, its weights not drawn from the global state."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, inputs, outputs)
    if generator is not None:
        bound = 1 / math.sqrt(inputs)
        torch.nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        torch.nn.init.zeros_(layer.bias)
    return layer


def _save(model: Vpl, mean: Values, scale: Values, folder: Path) -> None:
    state = {name: values.contiguous() for name, values in model.state_dict().items()}
    state |= {"mean": torch.from_numpy(mean), "scale": torch.from_numpy(scale)}
    write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(state, path))


if __name__ == "__main__":
    run_as_script(main)
