from pathlib import Path

import pytest
from trl import DPOConfig, RewardConfig

from builder.errors import InputError
from training.arguments import RECIPE_FOLDER, parse_arguments

RECIPES = sorted(RECIPE_FOLDER.glob("*.yaml"))


def config_class(recipe: Path) -> type:
    return RewardConfig if "reward" in recipe.stem else DPOConfig


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_packaged_recipes_parse_strictly(recipe):
    # bf16 needs a GPU already when the arguments are parsed.
    overrides = [] if recipe.stem.startswith("demo") else ["--use_cpu", "true", "--bf16", "false"]
    run = parse_arguments(["--config", str(recipe), "--dataset", "somewhere", *overrides], config_class(recipe))
    assert run.data.dataset == "somewhere"
    assert run.data.dataset_configs == ["dpf", "contrast"]
    assert run.model.use_peft
    assert run.model.lora_task_type == ("SEQ_CLS" if "reward" in recipe.stem else "CAUSAL_LM")
    assert isinstance(run.config.learning_rate, float)


def test_recipes_of_one_size_train_on_the_same_rows():
    for size in ("demo_", ""):
        names = (f"{size}dpo", f"{size}reward")
        runs = [
            parse_arguments(["--config", n, "--dataset", "d", "--use_cpu", "true", "--bf16", "false"], c)
            for n, c in zip(names, (DPOConfig, RewardConfig), strict=True)
        ]
        assert len({(run.config.max_length, run.model.model_name_or_path, run.data.persona) for run in runs}) == 1


def test_unknown_key_in_recipe_names_the_closest(tmp_path):
    recipe = recipe_file(tmp_path, "learning_rte: 1.0e-4\n")
    with pytest.raises(InputError, match=r"learning_rte.*learning_rate"):
        parse_arguments(["--config", recipe, "--dataset", "d"], DPOConfig)


@pytest.mark.parametrize("arguments", [["--max_stps", "3"], ["--max_stps=3"], ["--max_ste", "3"]])
def test_unknown_key_on_the_command_line_names_the_closest(arguments):
    with pytest.raises(InputError, match="max_steps"):
        parse_arguments(["--config", "demo_dpo", "--dataset", "d", *arguments], DPOConfig)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("max_steps: 2.5\n", "max_steps"),
        ("max_steps: many\n", "max_steps"),
        ("dtype: float33\n", "dtype"),
        ("persona: half\n", "persona"),
        ("dataset_configs: [dpo]\n", "dataset_configs"),
        ("max_dropped_share: 2\n", "max_dropped_share"),
        ("- a list\n", "list"),
        ("a: [\n", "YAML"),
    ],
)
def test_values_that_do_not_fit_are_named(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        parse_arguments(["--config", recipe_file(tmp_path, text), "--dataset", "d", "--use_cpu", "true"], DPOConfig)


def test_command_line_overrides_the_recipe_and_both_are_recorded():
    run = parse_arguments(["--config", "demo_dpo", "--dataset", "d", "--max_steps", "7"], DPOConfig)
    assert run.config.max_steps == 7
    assert run.given["max_steps"] == 7
    assert run.given["beta"] == 0.1
    assert "weight_decay" not in run.given


def test_missing_recipe_and_dataset():
    with pytest.raises(InputError, match="demo_dpo"):
        parse_arguments(["--config", "nowhere", "--dataset", "d"], DPOConfig)
    with pytest.raises(InputError, match="--dataset"):
        parse_arguments(["--config", "demo_dpo"], DPOConfig)
