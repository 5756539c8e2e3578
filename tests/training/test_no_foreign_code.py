"""Whatever a model folder, a recipe or a checkpoint holds, no code of theirs runs. Every trap here leaves a mark if it does."""

import contextlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import Trainer

from builder.errors import InputError
from tests.tiny_model import build_tiny_model
from training import dpo, reward
from training.checkpoints import check_checkpoint, check_resuming
from training.scoring import load_base_model, load_dpo_model, load_reward_model

pytestmark = pytest.mark.thorough

MAIN = {"dpo": dpo.main, "reward": reward.main}
LOAD = {"dpo": load_dpo_model, "reward": load_reward_model}
ONE_STEP = ("--max_steps", "1", "--eval_max_rows", "0")


class Trap:
    """Creates `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable, tuple]:
        return (os.mkdir, (str(self.mark),))


def write_as_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps({"state": Trap(mark)}))


def write_as_torch(path: Path, mark: Path) -> None:
    torch.save({"state": {0: torch.zeros(2)}, "trap": Trap(mark)}, path)


TRAPS = (write_as_pickle, write_as_torch)


@pytest.mark.parametrize("write", TRAPS)
def test_the_traps_work(tmp_path, write):
    write(tmp_path / "file.pt", tmp_path / "mark")
    with contextlib.suppress(RuntimeError):  # a bare pickle is no torch file, which torch finds after reading it
        torch.load(tmp_path / "file.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


# ---- Weights


@pytest.mark.parametrize("kind", MAIN)
def test_a_base_model_in_a_pickle_is_refused(place, tmp_path, kind):
    base = shutil.copytree(place.base, tmp_path / "base")
    (base / "model.safetensors").unlink()
    write_as_torch(base / "pytorch_model.bin", tmp_path / "mark")
    with pytest.raises(InputError, match="safetensors"):
        MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "model", "--model_name_or_path", str(base)))
    with pytest.raises(InputError, match="safetensors"):
        load_base_model(str(base))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", MAIN)
def test_pickled_weights_beside_safetensors_are_not_looked_at(place, tmp_path, kind):
    """Not even where the recipe asks for them."""
    base = shutil.copytree(place.base, tmp_path / "base")
    write_as_torch(base / "pytorch_model.bin", tmp_path / "mark")
    asked = ["--model_name_or_path", str(base), "--model_init_kwargs", '{"use_safetensors": false}']
    MAIN[kind]([*place.arguments(f"demo_{kind}", tmp_path / "model", *ONE_STEP), *asked])
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", MAIN)
@pytest.mark.parametrize("write", TRAPS)
def test_an_adapter_in_a_pickle_is_refused(place, dpo_folder, reward_folder, tmp_path, kind, write):
    folder = shutil.copytree(dpo_folder if kind == "dpo" else reward_folder, tmp_path / "model")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no adapter_model\.safetensors\. "):
        LOAD[kind](folder, base_model=str(place.base))
    write(folder / "adapter_model.bin", tmp_path / "mark")
    with pytest.raises(InputError, match=r"only adapter_model\.bin\. Weights are read from safetensors only"):
        LOAD[kind](folder, base_model=str(place.base))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", MAIN)
def test_a_whole_model_in_a_pickle_is_refused(place, tmp_path, kind):
    arguments = place.arguments(f"demo_{kind}", tmp_path / "model", *ONE_STEP, "--use_peft", "false")
    folder = MAIN[kind](arguments)
    LOAD[kind](folder, base_model=str(place.base))
    (folder / "model.safetensors").unlink()
    write_as_torch(folder / "pytorch_model.bin", tmp_path / "mark")
    with pytest.raises(InputError, match=r"only pytorch_model\.bin\. Weights are read from safetensors only"):
        LOAD[kind](folder, base_model=str(place.base))
    assert not (tmp_path / "mark").exists()


# ---- A model's own code


def with_own_code(folder: Path, mark: Path, model_type: str) -> Path:
    """A tiny model whose folder brings classes for model, configuration and tokenizer."""
    build_tiny_model(folder)
    (folder / "trap.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).mkdir(exist_ok=True)\n"
        "from transformers import PreTrainedTokenizerFast as Words, Qwen2Config as Settings, Qwen2ForCausalLM as Model\n"
    )
    give_own_code(folder, model_type)
    return folder


def give_own_code(folder: Path, model_type: str) -> None:
    classes = {"AutoConfig": "trap.Settings", "AutoModelForCausalLM": "trap.Model"}
    classes["AutoModelForSequenceClassification"] = "trap.Model"
    for name, more in (
        ("config.json", {"auto_map": classes, "model_type": model_type}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["trap.Words", "trap.Words"]}}),
    ):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | more))


@pytest.mark.parametrize("kind", MAIN)
def test_code_in_a_known_models_folder_does_not_run(place, tmp_path, kind):
    base = with_own_code(tmp_path / "base", tmp_path / "mark", "qwen2")
    arguments = ["--model_name_or_path", str(base), *ONE_STEP]
    folder = MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "model", *arguments))
    LOAD[kind](folder, base_model=str(base))
    load_base_model(str(base))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("kind", MAIN)
def test_a_model_that_needs_its_own_code_is_refused(place, tmp_path, monkeypatch, kind):
    """At once, not after a question on the terminal, whose answer could be yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    base = with_own_code(tmp_path / "base", tmp_path / "mark", "trap")
    with pytest.raises(InputError, match=r"type 'trap'.*the folder's own code is never run"):
        MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "model", "--model_name_or_path", str(base)))
    with pytest.raises(InputError, match="type 'trap'"):
        load_base_model(str(base))
    whole = MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / "whole", *ONE_STEP, "--use_peft", "false"))
    shutil.copy(base / "trap.py", whole)
    give_own_code(whole, "trap")
    with pytest.raises(InputError, match="type 'trap'"):
        LOAD[kind](whole, base_model=str(place.base))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--trust_remote_code", "true"], "trust_remote_code"),
        (["--model_init_kwargs", '{"trust_remote_code": true}'], "trust_remote_code"),
        (["--model_init_kwargs", '{"use_kernels": true}'], "use_kernels"),
        (["--model_init_kwargs", '{"attn_implementation": "owner/attention"}'], "attn_implementation"),
        (["--attn_implementation", "owner/attention"], "attn_implementation"),
        (["--attn_implementation", "flash_attention_2"], "flash_attn"),
    ],
)
def test_no_recipe_key_lets_foreign_code_run(place, tmp_path, arguments, named):
    base = with_own_code(tmp_path / "base", tmp_path / "mark", "qwen2")
    for kind, main in MAIN.items():
        with pytest.raises(InputError, match=named):
            main([*place.arguments(f"demo_{kind}", tmp_path / kind), "--model_name_or_path", str(base), *arguments])
    assert not (tmp_path / "mark").exists()


# ---- The trainer's own state

RESUMABLE = ("--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--eval_max_rows", "0")
STATE_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


@pytest.fixture(scope="module")
def interrupted(place, tmp_path_factory) -> dict[str, Path]:
    """By kind, the folder beside the output in which a run stopped after its checkpoint of step 2."""
    original = Trainer.training_step

    def stop(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    root = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "training_step", stop)
        for kind, main in MAIN.items():
            with pytest.raises(KeyboardInterrupt):
                main(place.arguments(f"demo_{kind}", root / kind, *RESUMABLE))
    return {kind: root / f".{kind}.partial" for kind in MAIN}


@pytest.fixture
def stopped(interrupted, tmp_path) -> dict[str, Path]:
    """A copy of them to spoil, by kind the folder checkpoint-2."""
    for kind, folder in interrupted.items():
        shutil.copytree(folder, tmp_path / f".{kind}.partial")
    return {kind: tmp_path / f".{kind}.partial" / "checkpoint-2" for kind in interrupted}


def resume(place, tmp_path: Path, kind: str) -> Path:
    return MAIN[kind](place.arguments(f"demo_{kind}", tmp_path / kind, *RESUMABLE, "--resume_from_checkpoint", "true"))


@pytest.mark.parametrize(
    ("kind", "name", "write"),
    [
        *[("reward", name, write) for name in (*STATE_FILES, "scaler.pt") for write in TRAPS],
        *[("dpo", name, write_as_torch) for name in STATE_FILES],
    ],
)
def test_state_that_holds_code_is_refused_on_resuming(place, tmp_path, stopped, name, write, kind):
    write(stopped[kind] / name, tmp_path / "mark")
    with pytest.raises(InputError, match=rf"checkpoint-2/{name} is not read.*Remove checkpoint-2") as refused:
        resume(place, tmp_path, kind)
    assert "weights_only" not in str(refused.value), "torch's own words advise to read it all the same"
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / kind).exists()


@pytest.mark.parametrize(
    ("kind", "name", "write"),
    [
        ("reward", "adapter_model.bin", write_as_torch),
        ("reward", "pytorch_model.bin", write_as_pickle),
        ("dpo", "adapter_model.bin", write_as_pickle),
        ("dpo", "pytorch_model.bin", write_as_torch),
    ],
)
def test_a_checkpoints_weights_in_a_pickle_are_refused(place, tmp_path, stopped, name, write, kind):
    (stopped[kind] / "adapter_model.safetensors").unlink()
    write(stopped[kind] / name, tmp_path / "mark")
    with pytest.raises(InputError, match=rf"holds {name}: weights as a pickle"):
        resume(place, tmp_path, kind)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("write", TRAPS)
def test_training_arguments_are_never_read(place, tmp_path, stopped, write):
    """`training_args.bin` is a pickle of the recipe's object. It is written by the trainer, and the recipe is read anew."""
    write(stopped["reward"] / "training_args.bin", tmp_path / "mark")
    folder = resume(place, tmp_path, "reward")
    assert not (tmp_path / "mark").exists()
    assert not list(folder.rglob("training_args.bin"))


def test_checkpoints_in_pieces_are_refused(stopped):
    """Torch and DeepSpeed unpickle these without a limit."""
    for name in ("pytorch_model_fsdp_0", "optimizer_0", "global_step2"):
        piece = stopped["dpo"] / name
        piece.mkdir()
        with pytest.raises(InputError, match=f"holds {name}, a checkpoint in several pieces"):
            check_checkpoint(stopped["dpo"])
        piece.rmdir()
    check_checkpoint(stopped["dpo"])


@pytest.mark.parametrize("name", [*STATE_FILES, "trainer_state.json"])
def test_an_unfinished_checkpoint_is_named(stopped, name):
    """A run killed while it wrote one. Left to itself the trainer goes on with a fresh optimizer, or breaks off."""
    path = stopped["reward"] / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=rf"checkpoint-2.*{name}.*Remove .*resuming then takes the checkpoint before"):
        check_checkpoint(stopped["reward"])
    path.unlink()
    with pytest.raises(InputError, match=r"checkpoint-2 (holds no|is unfinished).*Remove the folder"):
        check_checkpoint(stopped["reward"])


def test_the_checkpoint_before_an_unfinished_one_serves(place, tmp_path, stopped):
    later = shutil.copytree(stopped["reward"], stopped["reward"].with_name("checkpoint-3"))
    (later / "optimizer.pt").unlink()
    with pytest.raises(InputError, match="checkpoint-3 holds no optimizer"):
        resume(place, tmp_path, "reward")
    shutil.rmtree(later)
    record = json.loads((resume(place, tmp_path, "reward") / "training.json").read_text())
    assert record["run"]["steps"] == 4


def test_which_checkpoint_is_looked_at(stopped):
    working = stopped["dpo"].parent
    check_resuming(None, working)
    check_resuming(True, working)
    check_resuming(str(stopped["dpo"]), working)
    with pytest.raises(InputError, match="no such checkpoint folder"):
        check_resuming("elsewhere", working)
    (stopped["dpo"] / "optimizer.pt").unlink()
    check_resuming(None, working)
    for resume_from in (True, str(stopped["dpo"])):
        with pytest.raises(InputError, match="holds no optimizer"):
            check_resuming(resume_from, working)
