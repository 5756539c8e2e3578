"""One reward adapter for each of a few personas: what a model of its own would give, and what no large population can afford.

Each adapter is trained by TRL's reward trainer from the same base, with the same seed, on the rows of its persona alone; the prompts
show no persona. One more, `generic`, is trained on the rows of all of them. It stands for no persona, so that the gap to `none` says
what one's own adapter gives over the pooled one.

Test rows count where both the true and the wrong persona have an adapter; the others are left out and counted.

accelerate launch --config_file accelerate_configs/cpu.yaml -m training.per_persona --config demo_per_persona --dataset FOLDER \
  --output_dir OUT
"""

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, get_peft_config

from builder.errors import InputError
from training import scoring
from training.arguments import TrainingRun, parse_arguments
from training.base_model import context_of, load_tokenizer
from training.data import TRAIN_SPLIT, trainer_rows
from training.evaluation import Candidate, Scorer, pair_candidates
from training.monitor import check_monitoring
from training.own_loop import RELOAD_ROWS, check_own_loop, save_and_publish
from training.preflight import say
from training.prepare import Prepared
from training.prompts import PersonaPrompts
from training.run import building_trainer, check_dropout, prepare_trl, train
from training.run_as_script import run_as_script
from training.scoring import ScoringModel, score_rewards
from training.trained import usable_by
from training.trainers import NamedSplitsRewardTrainer

ADAPTERS_FOLDER = "adapters"  # in it a folder a persona, and GENERIC
GENERIC = "generic"


@dataclass
class PerPersonaConfig(RewardConfig):
    personas: int = field(
        default=8, metadata={"help": "How many personas get an adapter: those with the most training rows, ties by id."}
    )


def main(argv: list[str] | None = None) -> Path:
    """Train, check and write the adapters; returns their folder. Raises InputError for anything wrong with recipe, data or base model."""
    run = parse_arguments(argv, PerPersonaConfig)
    check_own_loop(run, "per_persona")
    _check(run)
    check_monitoring(run)
    check_dropout(run)
    prepared = prepare_trl(run, "reward")
    chosen = most_rows(prepared.rows[TRAIN_SPLIT]["persona_id"], run.config.personas)
    prepared, outside = only_rows_of(prepared, chosen)
    rows = prepared.rows[TRAIN_SPLIT]
    probe = pair_candidates(rows.select(range(min(RELOAD_ROWS, len(rows)))))
    live: dict[Candidate, float] = {}
    facts: dict[str, dict[str, Any]] = {}
    for name in (GENERIC, *chosen):
        own = [place for place, persona in enumerate(rows["persona_id"]) if name in (GENERIC, persona)]
        say(f"[adapter] {name}: {len(own)} training rows")
        with building_trainer():
            trainer = NamedSplitsRewardTrainer(
                model=str(prepared.base.folder),
                args=run.config,
                train_dataset=trainer_rows(rows.select(own)),
                processing_class=prepared.tokenizer,
                peft_config=get_peft_config(run.model),
            )
        facts[name] = train(trainer, prepared, "reward")
        model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
        of_persona = [candidate for candidate in probe if candidate.persona_id == name]
        scores = blind_rewards(
            ScoringModel(model, prepared.tokenizer, "reward"), prepared.prompts, of_persona, run.data.eval_batch_texts
        )
        live |= dict(zip(of_persona, scores, strict=True))
        model.save_pretrained(str(prepared.working / ADAPTERS_FOLDER / name))
        (prepared.working / ADAPTERS_FOLDER / name / "README.md").unlink(missing_ok=True)  # PEFT's
        trainer.accelerator.free_memory()
        del trainer, model
        gc.collect()  # trainer and model hold each other
    described = together(facts) | {"personas": chosen, "rows_outside": outside}
    return save_and_publish(prepared, "per_persona", described, lambda candidates: [live[c] for c in candidates])


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
    """The finished adapters in `folder` on one base; `cache` is for methods with a reference.

    Raises InputError if its base is not the one that they were trained from.
    """
    base = scoring.base_of(folder, record, base_model)
    tokenizer = load_tokenizer(folder, for_reward=True)
    scoring.check_tokenizer(tokenizer, record)
    personas = record["run"]["personas"]
    with scoring.quiet_loading():
        classifier = AutoModelForSequenceClassification.from_pretrained(
            base.folder,
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
            dtype=scoring.torch_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    model = PeftModel.from_pretrained(classifier, str(folder / ADAPTERS_FOLDER / GENERIC), adapter_name=GENERIC)
    for persona in personas:
        model.load_adapter(str(folder / ADAPTERS_FOLDER / persona), adapter_name=persona)
    ready = ScoringModel(scoring.ready(model, device), tokenizer, "reward", record=record)
    fits = usable_by(tokenizer, prompts, context_of(model))

    def score(candidates: Sequence[Candidate]) -> list[float]:
        scores: dict[Candidate, float] = {}
        for persona in dict.fromkeys(candidate.persona_id for candidate in candidates):
            own = [candidate for candidate in candidates if candidate.persona_id == persona]
            model.set_adapter(GENERIC if persona is None else persona)
            scores |= dict(zip(own, blind_rewards(ready, prompts, own, batch_size), strict=True))
        return [scores[candidate] for candidate in candidates]

    def usable(candidate: Candidate) -> bool:
        return candidate.persona_id in (None, *personas) and fits(replace(candidate, persona_id=None))

    return Scorer(score, usable, record)


def blind_rewards(
    model: ScoringModel, prompts: PersonaPrompts, candidates: Sequence[Candidate], batch_size: int
) -> list[float]:
    """Under the adapter that is active. Whoever is shown, the text of the prompt is the neutral one."""
    items = [(prompts.messages(None, c.prompt_id, c.question), c.answer) for c in candidates]
    return score_rewards(model, items, batch_size)


def most_rows(persona_ids: Sequence[str], count: int) -> list[str]:
    """The `count` personas with the most rows, ties by id. Raises InputError if there are fewer personas."""
    rows = Counter(persona_ids)
    if len(rows) < count:
        raise InputError(f"personas is {count}, but the train rows have {len(rows)} personas. Lower personas.")
    return sorted(rows, key=lambda persona: (-rows[persona], persona))[:count]


def only_rows_of(prepared: Prepared, personas: Sequence[str]) -> tuple[Prepared, dict[str, int]]:
    """What remains for these personas, and for each split how many rows do not.

    Test rows whose wrong persona has no adapter go too, and mirrors with them: before rows are drawn for the evaluation, so that it gets
    as many as there are.
    """
    train_rows = prepared.rows[TRAIN_SPLIT]
    own = [place for place, persona in enumerate(train_rows["persona_id"]) if persona in personas]
    outside = {TRAIN_SPLIT: len(train_rows) - len(own)}
    test_rows = {}
    for split, rows in prepared.test_rows.items():
        shown = zip(*(rows[name][:] for name in ("pair_id", "persona_id", "wrong_persona_id")), strict=True)
        known = {pair for pair, persona, wrong in shown if persona in personas and wrong in personas}
        mirrors = zip(rows["pair_id"][:], rows["mirror_pair_id"][:], strict=True)
        kept = [i for i, (pair, mirror) in enumerate(mirrors) if pair in known and (mirror is None or mirror in known)]
        test_rows[split] = rows.select(kept)
        outside[split] = len(rows) - len(kept)
        say(
            f"[adapters] {split}: {len(kept)} of {len(rows)} rows have an adapter for their own and their wrong persona"
        )
    rows = {**prepared.rows, TRAIN_SPLIT: train_rows.select(own)}
    return replace(prepared, rows=rows, test_rows=test_rows), outside


def together(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs have in common once; steps and seconds added up, the mean loss, and each adapter's own figures."""
    generic = facts[GENERIC]
    figures = ("trained_rows", "truncated_rows", "steps", "seconds", "estimated", "train_loss", "history")
    return {
        **{key: value for key, value in generic.items() if key not in figures},
        "steps": sum(own["steps"] for own in facts.values()),
        "seconds": round(sum(own["seconds"] for own in facts.values()), 1),
        "train_loss": sum(own["train_loss"] for own in facts.values()) / len(facts),
        "trained_rows": generic["trained_rows"],
        "truncated_rows": generic["truncated_rows"],
        "adapters": {name: {key: own[key] for key in figures} for name, own in facts.items()},
    }


def _check(run: TrainingRun) -> None:
    config, model, data = run.config, run.model, run.data
    if data.persona != "none":
        raise InputError(
            f"persona is {data.persona!r}, but per_persona knows personas by their adapters and its prompts show none. Set persona: none."
        )
    if config.personas < 2:
        raise InputError(f"personas is {config.personas}; the wrong persona needs an adapter too. Give at least 2.")
    if not model.use_peft:
        raise InputError("use_peft is false, but per_persona trains an adapter for each persona. Set use_peft: true.")
    if model.dtype != "float32":
        raise InputError(
            f"dtype is {model.dtype!r}, but the adapters are compared with those read back in float32. Set dtype: float32 (and bf16: true "
            "to compute)."
        )
    if config.save_strategy != "no" or config.eval_strategy != "no" or config.resume_from_checkpoint:
        raise InputError(
            "per_persona trains many short runs, without checkpoints and evaluations of their own. Set save_strategy and eval_strategy to "
            '"no", and remove resume_from_checkpoint.'
        )


if __name__ == "__main__":
    run_as_script(main)
