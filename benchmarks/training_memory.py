"""What memory a training run needs, by model size and method; and whether that is so where it can be measured.

    python -m benchmarks.training_memory [--batch 4] [--length 512] [--answer 256]
    OMP_NUM_THREADS=1 python -m benchmarks.training_memory --measure [--steps 3]

The table is computed, not measured: from the shapes of the models (built without weights), and the formula of `memory` below. With
--measure, the packaged model trains on one thread of the processor, DPO and reward with LoRA in float32, batch 2, 320 tokens a text (45 of
them the answer), made of random words; every case in a fresh process. Printed are seconds a step without the first (of the processor, which
on one thread are those of the clock where nothing else runs), the peak of resident memory, what of it was there before the model was
loaded, the rest, and the formula's figure for that rest.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

GIB = 2**30
RANK = 16
# Four bits; a byte of scale for 64 weights and four bytes for 256 scales (double quantisation, arXiv:2305.14314).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of the head's logits at a time (trl: TOKEN_CHUNK_SIZE in kernels/chunked_logprob.py, _CHUNKED_LOGPROB_CHUNK_SIZE in trainer/utils.py).
TILE_TOKENS, TILE_WORDS = 4096, 32768

# Shapes as in each model's config.json on the Hub; the parameters as its card or safetensors index gives them.
# name: (kind, vocabulary, hidden, intermediate, layers, heads, key-value heads, tied embeddings, parameters)
SHAPES = {
    "SmolLM2-135M": ("llama", 49152, 576, 1536, 30, 9, 3, True, 134_515_008),
    "Qwen2.5-0.5B": ("qwen2", 151936, 896, 4864, 24, 14, 2, True, 494_032_768),
    "Qwen2.5-1.5B": ("qwen2", 151936, 1536, 8960, 28, 12, 2, True, 1_543_714_304),
    "Qwen2.5-3B": ("qwen2", 151936, 2048, 11008, 36, 16, 2, True, 3_085_938_688),
    "Qwen2.5-7B": ("qwen2", 152064, 3584, 18944, 28, 28, 4, False, 7_615_616_512),
    "Llama-3.1-8B": ("llama", 128256, 4096, 14336, 32, 32, 8, False, 8_030_261_248),
}


@dataclass(frozen=True)
class Way:
    """Bytes. `weight` and `head_weight`: of a frozen or trained weight in the linear layers, and elsewhere (embeddings, head). `trained`:
    of weight, gradient and the optimizer's two moments of a trained parameter. `saved_hidden`, `saved_inner`: what one token leaves in one
    layer for the backward pass, in multiples of hidden and intermediate size. `kept`: the same with checkpointing, in multiples of hidden.
    """

    adapter: bool
    weight: float
    head_weight: float
    trained: float
    saved_hidden: float
    saved_inner: float
    kept: float


# The saved bytes were counted with torch.autograd.graph.saved_tensors_hooks on one Llama layer with padding and sdpa attention, at two
# intermediate sizes. bf16 means autocast, as the recipes have it; the norms work in float32. Adapters are float32, in QLoRA bfloat16.
WAYS = {
    "full fp32": Way(False, 4, 4, 16, 40, 16, 4),
    "full bf16": Way(False, 2, 2, 8, 24, 8, 2),
    "LoRA fp32": Way(True, 4, 4, 16, 33, 16, 4),
    "LoRA bf16": Way(True, 2, 2, 16, 30, 8, 2),
    # Moments of one byte: paged_adamw_8bit.
    "QLoRA": Way(True, NF4_BYTES, 2, 6, 21, 8, 2),
}


@dataclass(frozen=True)
class Sizes:
    """Parameters of a model by where they are."""

    linear: int  # in the layers' linear maps, which QLoRA quantises and LoRA adapts
    others: int  # embeddings, norms, and the head if it is not the embeddings
    adapter: int  # of LoRA with rank 16 on all linear maps but the head
    hidden: int
    inner: int
    layers: int
    vocabulary: int


def sizes(name: str, method: str) -> Sizes:
    """Counted on a model without weights. A reward model has one row for a head instead of the vocabulary's."""
    import torch
    import transformers

    kind, vocabulary, hidden, inner, layers, heads, kv_heads, tied, _ = SHAPES[name]
    config_class: Any = transformers.LlamaConfig if kind == "llama" else transformers.Qwen2Config
    config = config_class(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
        num_labels=1,
    )
    auto = transformers.AutoModelForSequenceClassification if method == "reward" else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    total = sum(p.numel() for p in model.parameters())
    maps = [
        module
        for place, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and place not in ("lm_head", "score")
    ]
    linear = sum(module.weight.numel() for module in maps)
    adapter = sum(RANK * (module.in_features + module.out_features) for module in maps)
    return Sizes(linear, total - linear, adapter, hidden, inner, layers, vocabulary)


def memory(
    size: Sizes, way: Way, method: str, texts: int, length: int, answer: int, checkpointing: bool
) -> dict[str, float]:
    """Bytes by purpose. `texts`: both sides of all pairs of a step on one device; `length`: tokens of each after padding.

    weights      parameters x bytes; with LoRA also nothing else: the reference of DPO is the same weights with the adapter off
    training     trained parameters x bytes of gradient and two moments (and of the adapter itself)
    reference    full DPO without precompute_ref_log_probs only: the weights a second time
    activations  texts x length x layers x saved bytes; with checkpointing each layer's input instead, and one layer in full
    head         DPO only: a tile of float32 logits of the answers' tokens, in the forward pass
    """
    weights = size.linear * way.weight + size.others * way.head_weight
    if way.adapter:
        trained = size.adapter + (size.hidden if method == "reward" else 0)
        training = trained * way.trained
    else:
        training = (size.linear + size.others) * (way.trained - way.weight)
    tokens = texts * length
    layer = tokens * (way.saved_hidden * size.hidden + way.saved_inner * size.inner)
    kept = tokens * way.kept * size.hidden
    tile = min(texts * answer, TILE_TOKENS) * min(TILE_WORDS, size.vocabulary) * 4 if method == "dpo" else 0
    return {
        "weights": weights,
        "training": training,
        "reference": weights if method == "dpo" and not way.adapter else 0.0,
        "activations": size.layers * kept + layer if checkpointing else size.layers * layer,
        "head": tile,
    }


def table(batch: int, length: int, answer: int) -> str:
    lines = [
        f"GiB on one device, computed: {batch} pairs a step of {length} tokens a text, LoRA rank {RANK}, with / without checkpointing",
        "",
        "| model | method | " + " | ".join(WAYS) + " |",
        "|---|---|" + "---|" * len(WAYS),
    ]
    for name in SHAPES:
        for method in ("dpo", "reward"):
            size = sizes(name, method)
            cells = []
            for way in WAYS.values():
                totals = [
                    sum(memory(size, way, method, 2 * batch, length, answer, on).values()) / GIB for on in (True, False)
                ]
                cells.append(" / ".join(f"{total:.1f}" for total in totals))
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _resident(peak: bool) -> int:
    """Bytes of this process now, or at most since the peak was reset (Linux)."""
    with open("/proc/self/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status if ":" in line)
    return int(fields["VmHWM" if peak else "VmRSS"].split()[0]) * 1024


def measure_one(method: str, checkpointing: bool, steps: int, batch: int, length: int, answer: int) -> dict[str, float]:
    """Train the packaged model on random words, in this process."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DPOConfig, RewardConfig

    from builder.randomness import rng_for
    from training.base_model import load_tokenizer, resolve_base_model
    from training.tokens import token_ids
    from training.trainers import NamedSplitsDPOTrainer, NamedSplitsRewardTrainer, answers_only_head

    torch.set_num_threads(1)
    base = resolve_base_model("embedded")
    tokenizer = load_tokenizer(base.folder, for_reward=method == "reward")
    words = (" house", " river", " table", " green", " music", " paper")  # one token each

    def text(key: str, count: int) -> str:
        return "".join(rng_for(0, "memory", key).choice(words, count))

    def message(role: str, content: str) -> list[dict[str, str]]:
        return [{"role": role, "content": content}]

    def row(index: int) -> dict[str, Any]:
        spare, question, sides = 0, [], []
        # The template's own tokens are found by trying: the first round shows how many there are.
        for _ in range(2):
            question = message("user", text(f"q{index}", length - answer - spare))
            sides = [message("assistant", text(f"{side}{index}", answer - 2)) for side in ("chosen", "rejected")]
            spare = len(token_ids(tokenizer, question + sides[0])) - length
        return {"prompt": question, "chosen": sides[0], "rejected": sides[1]}

    rows = Dataset.from_list([row(index) for index in range(batch * (steps + 1))])
    lengths = {len(token_ids(tokenizer, r["prompt"] + r[side])) for r in rows for side in ("chosen", "rejected")}
    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments.append(time.process_time())

    before = _resident(peak=False)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:
        refs.write("5")  # resets the peak
    config: Any = DPOConfig if method == "dpo" else RewardConfig
    trainer_class: Any = NamedSplitsDPOTrainer if method == "dpo" else NamedSplitsRewardTrainer
    adapter = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules="all-linear",
        task_type="CAUSAL_LM" if method == "dpo" else "SEQ_CLS",
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_class(
            model=str(base.folder),
            args=config(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=checkpointing,
                per_device_train_batch_size=batch,
                max_steps=steps + 1,
                max_length=length + 8,
                save_strategy="no",
                report_to="none",
                dataloader_pin_memory=False,
                disable_tqdm=True,
                model_init_kwargs={"dtype": "float32", "use_safetensors": True},
            ),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=adapter,
            callbacks=[Clock()],
        )
        with answers_only_head(trainer.accelerator.device):
            trainer.train()
    return {
        "tokens_a_text": max(lengths),
        "seconds_a_step": (moments[-1] - moments[0]) / (len(moments) - 1),
        "libraries": before,
        "peak": _resident(peak=True),
    }


def measure(steps: int) -> str:
    batch, length, answer = 2, 320, 45
    lines = [
        f"Measured on one thread: SmolLM2-135M, LoRA rank {RANK}, float32, {batch} pairs a step, {length} tokens a text.",
        "",
        "| method | checkpointing | seconds a step | peak GiB | of it libraries | training | formula | formula is off by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in ("dpo", "reward"):
        for checkpointing in (False, True):
            case = json.dumps([method, checkpointing, steps, batch, length, answer])
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_memory", "--case", case],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"},
            )
            if done.returncode != 0:
                raise RuntimeError(f"{method} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
            seen = json.loads(done.stdout.splitlines()[-1])
            parts = memory(
                sizes("SmolLM2-135M", method), WAYS["LoRA fp32"], method, 2 * batch, length, answer, checkpointing
            )
            own, told = seen["peak"] - seen["libraries"], sum(parts.values())
            lines.append(
                f"| {method} | {'on' if checkpointing else 'off'} | {seen['seconds_a_step']:.1f} | {seen['peak'] / GIB:.2f} "
                f"| {seen['libraries'] / GIB:.2f} | {own / GIB:.2f} | {told / GIB:.2f} | {(told - own) / own:+.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="pairs a step on one device")
    parser.add_argument("--length", type=int, default=512, help="tokens of a text")
    parser.add_argument("--answer", type=int, default=256, help="tokens of an answer")
    parser.add_argument("--measure", action="store_true", help="train on the processor instead of computing the table")
    parser.add_argument("--steps", type=int, default=3, help="measured steps, after one that is not counted")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure_one(*json.loads(arguments.case))))
    else:
        given = arguments
        print(measure(given.steps) if given.measure else table(given.batch, given.length, given.answer))


if __name__ == "__main__":
    main()
