from pathlib import Path

import pytest
from trl import DPOConfig, RewardConfig

from builder.errors import InputError
from training.arguments import conditioning_of, parse_arguments
from training.conditioning import MODES, Conditioning
from training.low_rank import LowRankConfig
from training.p_dpo import PersonalDPOConfig
from training.packaged import RECIPE_FOLDER
from training.per_persona import PerPersonaConfig
from training.vpl import VplConfig

RECIPES = sorted(RECIPE_FOLDER.glob("*.yaml"))


# A recipe is of the script by which its name begins.
CONFIG_CLASSES = {
    "low_rank": LowRankConfig,
    "p_dpo": PersonalDPOConfig,
    "per_persona": PerPersonaConfig,
    "vpl": VplConfig,
    "dpo": DPOConfig,
    "reward": RewardConfig,
}
TASK_TYPES = {"dpo": "CAUSAL_LM", "p_dpo": "CAUSAL_LM", "reward": "SEQ_CLS", "per_persona": "SEQ_CLS"}


def method_of(recipe: Path) -> str:
    return next(
        method
        for method in CONFIG_CLASSES
        if recipe.stem.removeprefix("demo_").removeprefix("qlora_").startswith(method)
    )


def recipe_file(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_packaged_recipes_parse_strictly(recipe):
    method = method_of(recipe)
    # bf16 needs a GPU already when the arguments are parsed.
    overrides = [] if recipe.stem.startswith("demo") else ["--use_cpu", "true", "--bf16", "false"]
    run = parse_arguments(["--config", str(recipe), "--dataset", "somewhere", *overrides], CONFIG_CLASSES[method])
    assert run.data.dataset == "somewhere"
    assert run.data.dataset_configs == ["dpf", "contrast"]
    assert run.model.use_peft == (method in TASK_TYPES)
    if method in TASK_TYPES:
        assert run.model.lora_task_type == TASK_TYPES[method]
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
        ("persona: half\n", "full, prose, summary"),
        ("persona_role: assistant\n", "system, user"),
        ("persona_dropout: 1.0\n", "persona_dropout is 1.0; it is a share"),
        ("persona_corruption: -0.25\n", "persona_corruption is -0.25"),
        ("validation_share: 1\n", "validation_share is 1"),
        ("relevant_attributes: 0\n", "relevant_attributes is 0; give at least 1"),
        ("few_shot_pairs: -1\n", "few_shot_pairs is -1"),
        ("persona_budget: 0\n", "persona_budget is 0"),
        ("max_train_rows: 1\n", "max_train_rows is 1"),
        ("max_train_rows: many\n", "max_train_rows"),
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


def test_the_conditioning_of_a_recipe(tmp_path):
    recipe = recipe_file(
        tmp_path,
        "persona: relevant\npersona_role: user\nrelevant_attributes: 3\nfew_shot_pairs: 2\npersona_corruption: 0.25\nrows_seed: 9\n"
        "seed: 4\nuse_cpu: true\nbf16: false\n",
    )
    run = parse_arguments(["--config", recipe, "--dataset", "d"], DPOConfig)
    # Another seed of the training shows the same texts.
    assert conditioning_of(run.data) == Conditioning("relevant", "user", 3, 2, 0.25, 9)
    plain = parse_arguments(["--dataset", "d", "--use_cpu", "true", "--bf16", "false"], DPOConfig)
    assert conditioning_of(plain.data) == Conditioning()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_a_value_of_the_key_persona(mode):
    run = parse_arguments(["--config", "demo_dpo", "--dataset", "d", "--persona", mode], DPOConfig)
    assert conditioning_of(run.data).mode == mode


def test_missing_recipe_and_dataset():
    with pytest.raises(InputError, match="demo_dpo"):
        parse_arguments(["--config", "nowhere", "--dataset", "d"], DPOConfig)
    with pytest.raises(InputError, match="--dataset"):
        parse_arguments(["--config", "demo_dpo"], DPOConfig)
