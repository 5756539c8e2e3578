"""A low-rank reward head on frozen embeddings: r_u(x, y) = w_u' V phi(x, y), where a new persona needs w_u alone.

The form is that of LoRe (arXiv:2504.14439) and PReF (arXiv:2503.06358). V's first row is the generic direction, a Bradley-Terry fit on all
rows; the others, `rank` of them, are directions in which personas differ. The generic persona has w_0 = (1, 0, ..., 0), and every w_u is
drawn towards it. Rank 0, and mode `none`, leave the generic direction alone: the persona-blind control.

Minimised in turns over V and all w_u, m being the margins w_u' V (phi(chosen) - phi(rejected)), U personas and d dimensions:

    sum log(1 + exp(-m)) + persona_penalty / 2 sum |w_u - w_0|^2 + direction_penalty (U + d) / 2 |V_1..rank|^2

The noise in U personas' preferences over d dimensions grows with U + d, and so does the penalty; then w_u - w_0 is about as large in small
data as in large. Each turn is convex. The turns start from the directions in which the personas' rows part most from the generic fit, so
that nothing is drawn by chance and `seed` changes nothing.

python -m training.low_rank --config demo_low_rank --dataset FOLDER --output_dir OUT
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from builder.errors import InputError
from builder.files import read_json, write_atomically, write_json
from training import preflight
from training.arguments import parse_arguments
from training.data import TRAIN_SPLIT
from training.embeddings import (
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

WEIGHTS_FILE = "low_rank.safetensors"
PERSONAS_FILE = "personas.json"  # the ids of the rows of `personas` in the weights
TURN_STEPS = 30
SMALLEST_GAIN = 1e-4  # of the objective in a round, as a share of it


@dataclass
class LowRankConfig(OwnLoopConfig):
    rank: int = field(
        default=4, metadata={"help": "Directions in which personas differ; 0: the persona-blind control."}
    )
    rounds: int = field(default=20, metadata={"help": "At most so many turns of V and the personas' weights."})
    generic_penalty: float = field(
        default=0.1, metadata={"help": "Ridge of the generic direction, times the dimensions of the embedding."}
    )
    direction_penalty: float = field(
        default=0.05, metadata={"help": "Ridge of the other directions, times personas + dimensions."}
    )
    persona_penalty: float = field(
        default=1.0, metadata={"help": "Draws a persona's weights towards the generic ones."}
    )


@dataclass(frozen=True)
class Head:
    """directions: V, (1 + rank, d). generic: w_0, (1 + rank,). personas: id -> w_u, (1 + rank,). mean, scale: (d,), of the embeddings."""

    directions: Values
    generic: Values
    personas: Mapping[str, Values]
    mean: Values
    scale: Values

    @property
    def rank(self) -> int:
        """0: every persona is the generic one."""
        return len(self.generic) - 1

    def features(self, embeddings: Values) -> Values:
        """(n, d) -> V phi, (n, 1 + rank)."""
        return ((embeddings - self.mean) / self.scale) @ self.directions.T


def main(argv: list[str] | None = None) -> Path:
    """Fit, check and write a low-rank head; returns its folder. Raises InputError as training.dpo does."""
    run = parse_arguments(argv, LowRankConfig)
    config = run.config
    check_own_loop(run, "low_rank")
    check_config(config)
    check_base(run)
    prepared = prepare(run, for_reward=False, always_labelled=True)
    started = time.monotonic()
    rows, embedded = prepared.rows[TRAIN_SPLIT], embedded_pairs(prepared, run.cache)
    base, mean, scale = embedded.base, embedded.mean, embedded.scale
    chosen, rejected = (embedded.embeddings[embedded.pairs[:, side]] for side in (0, 1))
    differences = (chosen.astype(np.float64) - rejected) / scale
    owners = [shown or None for shown in rows["shown_persona_id"]]
    directions, personas, objective = fit_head(differences, owners, config)
    head = Head(directions, generic_weights(len(directions) - 1), personas, mean, scale)
    margins = (differences @ directions.T * weights_of(head, owners)).sum(axis=1)
    seconds = time.monotonic() - started
    preflight.say(
        f"[train] {len(differences)} pairs of {len(personas)} personas, {len(directions) - 1} directions beside the generic one: "
        f"{len(objective)} rounds, {seconds:.0f} s with the embeddings; training pairs won {np.mean(margins > 0):.2f}"
    )
    _save(head, prepared.working)
    trained = directions.size + sum(weights.size for weights in personas.values())
    facts = {
        "steps": len(objective),
        "seconds": round(seconds, 1),
        "trainable_parameters": trained,
        "parameters": trained + sum(p.numel() for p in base.model.parameters()),
        "train_loss": float(np.logaddexp(0, -margins).mean()),
        "trained_rows": len(differences),
        "truncated_rows": 0,
        "rank": len(directions) - 1,
        "personas_learned": len(personas),
        "persona_penalty": config.persona_penalty,
        "texts_embedded": len(embedded.embeddings),
        "objective": objective,
    }
    live = scorer_of(
        head, base, prepared.evaluation_prompts, config.persona_penalty, run.data.eval_batch_texts, run.cache
    )
    return save_and_publish(prepared, "low_rank", facts, live)


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
    """A finished head. A persona that it has not learned is fitted from `few_shot_pairs` of its labelled pairs. cache: of embeddings."""
    base = load_frozen_base(folder, record, base_model, device, dtype)
    head = _read(folder)
    return Scorer(
        scorer_of(head, base, prompts, record["run"]["persona_penalty"], batch_size, cache),
        usable_by_base(base, prompts, head.personas, looks_at_pairs=head.rank > 0),
        record,
    )


def scorer_of(
    head: Head,
    base: ScoringModel,
    prompts: PersonaPrompts,
    persona_penalty: float,
    batch_size: int,
    cache: Path | None,
) -> ScoreFunction:
    def score(candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        examples = drawn_examples(prompts, candidates, head.personas) if head.rank else {}
        texts = [text_of(candidate) for candidate in candidates] + example_texts(examples)
        features = head.features(embed(base, prompts, texts, batch_size, cache))
        of_text = dict(zip(texts, features, strict=True))
        weights = dict(head.personas)
        for persona, pairs in examples.items():
            differences = [
                of_text[pair.question, pair.preferred] - of_text[pair.question, pair.other] for pair in pairs
            ]
            weights[persona] = fit_weights(
                np.array(differences).reshape(len(pairs), len(head.generic)), head.generic, persona_penalty
            )
        return [float(weights.get(c.persona_id or "", head.generic) @ of_text[text_of(c)]) for c in candidates]

    return score


def fit_head(
    differences: Values, owners: Sequence[str | None], config: LowRankConfig
) -> tuple[Values, dict[str, Values], list[float]]:
    """(V, w_u of every owner, the objective after each round), from standardised phi(chosen) - phi(rejected), (n, d).

    owners: whose preference each row is; None: nobody's, so that it bears on the generic direction only. There cannot be more directions
    than owners or dimensions. Raises InputError for a single row.
    """
    generic = fit_generic(differences, config.generic_penalty)
    ids = sorted({owner for owner in owners if owner is not None})
    rank = min(config.rank, len(ids), differences.shape[1])
    if rank == 0:
        return generic[None, :], {}, []
    place = {persona: i for i, persona in enumerate(ids)}
    own = np.array([i for i, owner in enumerate(owners) if owner is not None])
    differences = differences[own]
    owner = np.array([place[owners[i]] for i in own])
    rows_of = [np.flatnonzero(owner == i) for i in range(len(ids))]
    ridge = config.direction_penalty * (len(ids) + differences.shape[1])
    start = generic_weights(rank)
    weights = np.tile(start, (len(ids), 1))
    directions = _first_directions(differences, owner, generic, rank)
    objective: list[float] = []
    for _ in range(config.rounds):
        weights = _all_weights(differences, rows_of, generic, directions, start, config.persona_penalty)
        directions, value = _fit_directions(
            differences, weights[owner][:, 1:], weights[owner][:, 0] * (differences @ generic), directions, ridge
        )
        objective.append(value + config.persona_penalty / 2 * float(((weights - start) ** 2).sum()))
        if len(objective) > 1 and objective[-2] - objective[-1] < SMALLEST_GAIN * objective[-1]:
            break
    weights = _all_weights(differences, rows_of, generic, directions, start, config.persona_penalty)
    return np.vstack([generic, directions]), dict(zip(ids, weights, strict=True)), objective


def fit_generic(differences: Values, penalty: float) -> Values:
    """The direction, (d,), of a Bradley-Terry fit on all rows alike."""
    if len(differences) < 2:
        raise InputError("There is a single training row, from which no direction can be fitted. Give more rows.")
    # The loss does not change when a row is turned round together with its label, and the library asks for both labels.
    signs = np.where(np.arange(len(differences)) % 2, -1.0, 1.0)
    fit = LogisticRegression(C=1 / (penalty * differences.shape[1]), fit_intercept=False, max_iter=1000)
    return fit.fit(differences * signs[:, None], signs).coef_[0]


def fit_weights(features: Values, generic: Values, penalty: float) -> Values:
    """w, (1 + rank,), from V phi(chosen) - V phi(rejected) of one persona's pairs, (k, 1 + rank); without pairs the generic one.

    Newton's method. Not scikit-learn: its penalty draws towards zero only, and it has no offset by which w - w_0 could be fitted.
    """

    def objective(w: Values) -> float:
        return float(np.logaddexp(0, -features @ w).sum() + penalty / 2 * ((w - generic) ** 2).sum())

    weights = generic.copy()
    for _ in range(100):
        lost = expit(-features @ weights)
        gradient = penalty * (weights - generic) - features.T @ lost
        curvature = (features * (lost * (1 - lost))[:, None]).T @ features + penalty * np.eye(len(generic))
        step = np.linalg.solve(curvature, gradient)
        # A full step can overshoot where the margins are large.
        while objective(weights - step) > objective(weights) and np.abs(step).max() > 1e-9:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() <= 1e-9:
            break
    return weights


def _all_weights(
    differences: Values, rows_of: Sequence[Values], generic: Values, directions: Values, start: Values, penalty: float
) -> Values:
    features = differences @ np.vstack([generic, directions]).T
    return np.array([fit_weights(features[rows], start, penalty) for rows in rows_of])


def _fit_directions(
    differences: Values, weights: Values, offsets: Values, start: Values, ridge: float
) -> tuple[Values, float]:
    """(V without the generic row, (rank, d), and the value of its objective) for fixed weights of each row, (n, rank).

    Not scikit-learn: its features would be the products of weights and differences, n x (rank d) numbers, where this needs n x d.
    """

    def objective(flat: Values) -> tuple[float, Values]:
        directions = flat.reshape(start.shape)
        margins = offsets + (weights * (differences @ directions.T)).sum(axis=1)
        gradient = ridge * directions - (weights * expit(-margins)[:, None]).T @ differences
        return np.logaddexp(0, -margins).sum() + ridge / 2 * (flat @ flat), gradient.ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": TURN_STEPS})
    return found.x.reshape(start.shape), float(found.fun)


def _first_directions(differences: Values, owner: Values, generic: Values, rank: int) -> Values:
    """(rank, d): of each persona the gradient of its rows' loss under the generic fit, of these the strongest singular directions."""
    gradients = np.zeros((owner.max() + 1, differences.shape[1]))
    np.add.at(gradients, owner, expit(-differences @ generic)[:, None] * differences)
    return np.linalg.svd(gradients, full_matrices=False)[2][:rank]


def generic_weights(rank: int) -> Values:
    """w_0."""
    return np.eye(1 + rank)[0]


def weights_of(head: Head, owners: Sequence[str | None]) -> Values:
    """(n, 1 + rank): of each row's persona, the generic ones for nobody and for a persona that is not learned."""
    return np.array([head.personas.get(owner, head.generic) if owner else head.generic for owner in owners])


def check_config(config: LowRankConfig) -> None:
    if config.rank < 0 or config.rounds < 1:
        raise InputError(
            f"rank is {config.rank} and rounds is {config.rounds}; give a rank of at least 0 and at least one round."
        )
    for name in ("generic_penalty", "direction_penalty", "persona_penalty"):
        if not getattr(config, name) > 0:
            raise InputError(
                f"{name} is {getattr(config, name)}; without a penalty above 0 the fit has no bound. Give 0.1, say."
            )


def _save(head: Head, folder: Path) -> None:
    ids = list(head.personas)
    tensors = {
        "directions": head.directions,
        "generic": head.generic,
        "personas": np.array([head.personas[persona] for persona in ids]).reshape(len(ids), len(head.generic)),
        "mean": head.mean,
        "scale": head.scale,
    }
    contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(contiguous, path))
    write_json(folder / PERSONAS_FILE, ids)


def _read(folder: Path) -> Head:
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no {WEIGHTS_FILE}. Give the folder that training.low_rank wrote.")
    tensors = load_file(folder / WEIGHTS_FILE)
    personas = dict(zip(read_json(folder / PERSONAS_FILE), tensors["personas"], strict=True))
    return Head(tensors["directions"], tensors["generic"], personas, tensors["mean"], tensors["scale"])


if __name__ == "__main__":
    run_as_script(main)
