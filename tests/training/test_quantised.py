"""QLoRA: refused at once where bitsandbytes is missing; where it is installed (it runs on processors too), trained and read back."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from builder.errors import InputError
from training import dpo, reward
from training.packaged import RECIPE_FOLDER

QUANTISED = ["--load_in_4bit", "true", "--use_bnb_nested_quant", "true"]


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find_spec(name, *more)
    )


@pytest.mark.parametrize(
    "arguments", [QUANTISED, ["--load_in_8bit", "true"], ["--optim", "paged_adamw_8bit"], ["--optim", "adamw_8bit"]]
)
def test_bitsandbytes_is_asked_for_before_anything_is_loaded(tmp_path, place, without_bitsandbytes, arguments):
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        dpo.main([*place.arguments("demo_dpo", tmp_path / "model"), "--model_name_or_path", "nowhere", *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", ["qlora_dpo", "qlora_reward"])
def test_the_packaged_recipes_ask_for_it(tmp_path, without_bitsandbytes, recipe):
    main = reward.main if recipe.endswith("reward") else dpo.main
    arguments = ["--config", str(RECIPE_FOLDER / f"{recipe}.yaml"), "--dataset", "nowhere", "--use_cpu", "true"]
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        main([*arguments, "--output_dir", str(tmp_path / "model")])


def wider_model(tiny: Path, folder: Path) -> Path:
    """Of 64 hidden units: the processor's 4-bit kernels take no narrower map."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_the_adapter_is_scored_on_the_quantised_weights_it_was_trained_on(tmp_path, place, kind):
    pytest.importorskip("bitsandbytes")
    base = wider_model(place.base, tmp_path / "wide")
    main = dpo.main if kind == "dpo" else reward.main
    arguments = place.arguments(f"demo_{kind}", tmp_path / "model", "--max_steps", "12", "--logging_steps", "4")
    precision = ["--dtype", "bfloat16", "--bf16", "true"]
    folder = main([*arguments, *QUANTISED, *precision, "--model_name_or_path", str(base)])
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["quantization"]["load_in_4bit"]
    # On the weights before rounding the same adapters score otherwise by 0.01 (DPO) and 0.02 (reward).
    assert record["reload_difference"] < 5e-3
