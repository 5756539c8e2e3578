"""What our training scripts and our scoring cost beside TRL's own scripts and beside plain scoring, on the same model and rows.

    python -m benchmarks.training [--dataset PUBLISHED_FOLDER] [--steps 12] [--rounds 3] [--json FILE]

Four ratios, each from runs that alternate with what they are compared with, in processes of their own:
* DPO and reward: tokens a second of `training.dpo` and `training.reward` over `trl.scripts.dpo` and `trl.scripts.reward` with the same
  arguments (LoRA on the embedded 135M model, two pairs a step, float32, CPU). Tokens are those of the rows, counted once for each answer,
  whatever a script computes or pads; time is the trainer's own `train_runtime`, without start-up.
* reference: steps a second of DPO with the reference's log-probabilities computed before training over computed at every step.
* scoring: texts a second with each prompt computed once over every text computed whole, and the largest difference of the scores.
Without a dataset one is made of sentences of about the demo's lengths.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.whole_texts import token_scores
from builder.files import write_json
from builder.llm.weights import embedded_model
from builder.randomness import rng_for
from builder.schema import assistant_message, preference_messages
from tests.published_folder import build_tables, write_tables

ROOT = Path(__file__).parent.parent
SUBJECTS = "people work family money children time school church town weather food health music garden market friends"
MATTERS = "house street company government taxes freedom honesty respect patience travel summer winter morning evening"
WORDS = f"{SUBJECTS} {MATTERS}".split()
PROFILE_WORDS, QUESTION_WORDS, ANSWER_WORDS = 95, 14, 38
ARGUMENTS = {
    "dtype": "float32",
    "max_length": "320",
    "use_peft": "true",
    "lora_r": "8",
    "lora_alpha": "16",
    "lora_dropout": "0.0",
    "lora_target_modules": "all-linear",
    "per_device_train_batch_size": "2",
    "gradient_accumulation_steps": "1",
    "learning_rate": "1e-4",
    "seed": "0",
    "use_cpu": "true",
    "bf16": "false",
    "gradient_checkpointing": "false",
    "dataloader_pin_memory": "false",
    "logging_steps": "1",
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
}
TASK = {"dpo": "CAUSAL_LM", "reward": "SEQ_CLS"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a published folder with a config `dpf`")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=96, help="texts scored")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        dataset = (arguments.dataset or made_dataset(Path(temporary) / "data")).resolve()
        figures: dict[str, Any] = {}
        for method in ("dpo", "reward"):
            pair = ours_and_stock(method, dataset, arguments.steps, arguments.rounds, Path(temporary))
            figures[method] = report(f"{method}: tokens a second, ours over TRL's script", *pair)
        pair = reference_once(dataset, arguments.steps, arguments.rounds, Path(temporary))
        figures["reference"] = report("dpo: steps a second, reference computed once over at every step", *pair)
        figures["scoring"] = scoring(dataset, arguments.texts, arguments.rounds)
    if arguments.json:
        write_json(arguments.json, figures)


def ours_and_stock(
    method: str, dataset: Path, steps: int, rounds: int, folder: Path
) -> tuple[list[float], list[float]]:
    """Tokens a second of each round: (ours, TRL's)."""
    ours, stock = [], []
    for place in range(rounds):
        ours.append(run_ours(method, dataset, steps, folder / f"ours-{method}-{place}")["tokens_per_second"])
        stock.append(run_stock(method, dataset, steps, folder / f"stock-{method}-{place}")["tokens_per_second"])
    return ours, stock


def reference_once(dataset: Path, steps: int, rounds: int, folder: Path) -> tuple[list[float], list[float]]:
    once, every_step = [], []
    for place in range(rounds):
        fast = run_ours("dpo", dataset, steps, folder / f"once-{place}", "--precompute_ref_log_probs", "true")
        slow = run_ours("dpo", dataset, steps, folder / f"every-{place}", "--precompute_ref_log_probs", "false")
        once.append(fast["steps_per_second"])
        every_step.append(slow["steps_per_second"])
    return once, every_step


def run_ours(method: str, dataset: Path, steps: int, out: Path, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", f"training.{method}", "--dataset", str(dataset), "--dataset_configs", "dpf"]
    command += ["--model_name_or_path", "embedded", "--eval_max_rows", "0", *common(method, steps, out), *more]
    run(command)
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return rates(record["run"]["history"], steps)


def run_stock(method: str, dataset: Path, steps: int, out: Path) -> dict[str, float]:
    """TRL's own script, with the trainer's log read back from its last checkpoint's place in the output folder."""
    located = embedded_model()
    command = [
        sys.executable,
        "-c",
        STOCK.format(method=method),
        "--dataset_name",
        str(dataset),
        "--dataset_config",
        "dpf",
    ]
    command += ["--model_name_or_path", str(located.folder), *common(method, steps, out)]
    said = run(command)
    return rates(json.loads(said.rsplit("HISTORY ", 1)[1].splitlines()[0]), steps)


# The script as shipped; only its trainer's log is printed at the end, since the script prints figures rounded for people.
STOCK = """
import json, sys
import trl.scripts.{method} as script
from transformers import Trainer
kept = {{}}
train = Trainer.train
def training(self, *arguments, **others):
    result = train(self, *arguments, **others)
    kept["history"] = self.state.log_history
    return result
Trainer.train = training
parser = script.make_parser()
script.main(*parser.parse_args_and_config()[:4])
print("HISTORY " + json.dumps(kept["history"]))
"""


def common(method: str, steps: int, out: Path) -> list[str]:
    given = ARGUMENTS | {"lora_task_type": TASK[method], "max_steps": str(steps), "output_dir": str(out)}
    return [part for key, value in given.items() for part in (f"--{key}", value)]


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def rates(history: list[dict[str, Any]], steps: int) -> dict[str, float]:
    seconds = next(entry["train_runtime"] for entry in history if "train_runtime" in entry)
    tokens = max(entry.get("num_tokens", 0) for entry in history)
    return {"tokens_per_second": tokens / seconds, "steps_per_second": steps / seconds}


def report(what: str, ours: list[float], other: list[float]) -> dict[str, Any]:
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    shown = " ".join(f"{a:.4g}/{b:.4g}" for a, b in zip(ours, other, strict=True))
    print(f"{what}: {ratio:.2f}x  (rounds: {shown})", flush=True)
    return {"ratio": ratio, "ours": ours, "other": other}


def scoring(dataset: Path, texts: int, rounds: int) -> dict[str, Any]:
    """Log-probabilities of test answers under the three conditions: with shared prompts, and each text whole."""
    from training.conditioning import Conditioning
    from training.data import TEST_SPLITS, load_preference_data
    from training.evaluation import plan_evaluation
    from training.prompts import PersonaPrompts
    from training.scoring import load_base_model, score_log_probabilities
    from training.trained import items_of

    data = load_preference_data(str(dataset), ["dpf"])
    splits = {split: list(data.splits[split]) for split in TEST_SPLITS}
    plan = plan_evaluation(splits, None, 0, lambda candidate: True)
    items = items_of(PersonaPrompts(Conditioning(), data.profiles, {}), plan.candidates[:texts])
    model = load_base_model("embedded", device="cpu")
    shared, whole, difference = [], [], 0.0
    for _ in range(rounds):
        started = time.monotonic()
        first = score_log_probabilities(model, items)
        shared.append(len(items) / (time.monotonic() - started))
        started = time.monotonic()
        second = scored_whole(model, items)
        whole.append(len(items) / (time.monotonic() - started))
        difference = max(difference, max(abs(a - b) for a, b in zip(first, second, strict=True)))
    figures = report("scoring: texts a second, prompts shared over every text whole", shared, whole)
    print(f"largest difference of a log-probability: {difference:.1e} nats over {len(items)} texts")
    return figures | {"difference": difference, "texts": len(items)}


def scored_whole(model: Any, items: list[Any], batch_size: int = 16) -> list[float]:
    """The same scores with each text run in full."""
    from training.tokens import common_prefix_length, token_ids

    sequences = []
    for messages, text in items:
        prompt = token_ids(model.tokenizer, messages, open_answer=True)
        ids = token_ids(model.tokenizer, messages + assistant_message(text))
        sequences.append((ids, common_prefix_length(prompt, ids)))
    found = token_scores(model.model, model.tokenizer.pad_token_id, sequences, batch_size)
    return [math.fsum(scores) for scores in found]


def made_dataset(folder: Path) -> Path:
    """The tests' published folder with profiles, questions and answers of about the demo's lengths."""
    tables = build_tables(seen=8, unseen=4)
    profiles = {
        row["persona_id"]: sentence("profile", row["persona_id"], PROFILE_WORDS) for row in tables["personas"]["train"]
    }
    for row in tables["personas"]["train"]:
        row["profile"] = profiles[row["persona_id"]]
    for config in ("dpf", "contrast"):
        for rows in tables[config].values():
            for row in rows:
                question = sentence("question", row["prompt_id"], QUESTION_WORDS)
                row["prompt"] = preference_messages(profiles[row["persona_id"]], question)
                for side in ("chosen", "rejected"):
                    row[side] = assistant_message(sentence("answer", row[side][0]["content"], ANSWER_WORDS))
    write_tables(folder, tables)
    return folder


def sentence(what: str, key: str, words: int) -> str:
    drawn = rng_for(0, f"benchmark/{what}", key).choice(WORDS, size=words)
    return " ".join(map(str, drawn)).capitalize() + "."


if __name__ == "__main__":
    main()
