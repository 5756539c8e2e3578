"""The recipe of a training run: our keys beside TRL's, read strictly from YAML and the command line."""

import argparse
import dataclasses
import difflib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import ModelConfig, TrlParser

from builder.errors import InputError
from builder.schema import PAIR_CONFIGS
from builder.strict_yaml import parse_yaml
from training.conditioning import MODES, ROLES, Conditioning
from training.packaged import RECIPE_FOLDER, find_packaged


@dataclass
class PersonaDataArguments:
    """What is ours beside the trainer's and the model's own keys."""

    dataset: str | None = field(default=None, metadata={"help": "A published folder, or hub:org/name@v1.0.0."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Tag or commit of a Hub dataset whose address names none."}
    )
    dataset_configs: list[str] = field(
        default_factory=lambda: ["dpf"], metadata={"help": f"Pair configs to train on, from {', '.join(PAIR_CONFIGS)}."}
    )
    dataset_shares: list[float] | None = field(
        default=None,
        metadata={"help": "Share of each pair config among the training rows; default: as many rows as there are."},
    )
    max_train_rows: int | None = field(default=None, metadata={"help": "At most so many training rows."})
    validation_share: float = field(
        default=0.0, metadata={"help": "Share of the train questions whose pairs are kept back for early stopping."}
    )
    rows_seed: int = field(
        default=0,
        metadata={"help": "Of every draw of rows, labelled pairs and dropped attributes; `seed` is of the training."},
    )
    persona: str = field(
        default="full",
        metadata={
            "help": f"What of the persona the prompt shows: {', '.join(MODES)}. `none`: the persona-blind baseline."
        },
    )
    persona_role: str = field(
        default="system", metadata={"help": "`system`, or `user` for templates without a system role."}
    )
    persona_budget: int | None = field(
        default=None,
        metadata={"help": "The most tokens that a persona may take in the prompt; a longer one is an error."},
    )
    relevant_attributes: int = field(
        default=5, metadata={"help": "Lines that `relevant` keeps and `summary` puts first."}
    )
    few_shot_pairs: int = field(default=4, metadata={"help": "Labelled pairs shown in the few-shot modes."})
    persona_dropout: float = field(
        default=0.0, metadata={"help": "Share of the training rows whose prompt shows no persona."}
    )
    persona_corruption: float = field(
        default=0.0, metadata={"help": "Share of each persona's stated attributes that is left out."}
    )
    max_dropped_share: float = field(
        default=0.05,
        metadata={"help": "Stop before training if more than this share of a split's rows must be dropped."},
    )
    eval_max_rows: int | None = field(
        default=500,
        metadata={
            "help": "Rows of each pair config in each cell (persona group x test split) scored at the end under the true, no and a wrong "
            "persona (whole mirrored sets); null: all, 0: none."
        },
    )
    eval_batch_texts: int = field(default=16, metadata={"help": "Texts scored at a time at the end."})
    share_prompt: bool = field(
        default=True,
        metadata={
            "help": "Compute a pair's prompt once for both answers. Not with gradient_checkpointing or several processes."
        },
    )
    reference_persona: bool = field(
        default=True,
        metadata={
            "help": "DPO: the reference model sees the persona too. false: it sees the neutral text (computed once)."
        },
    )
    score_cache: str | None = field(
        default=None,
        metadata={"help": "A folder in which runs on the same base share the reference's log-probabilities."},
    )
    robust_groups: str | None = field(
        default=None,
        metadata={
            "help": "Group-robust weighting: an attribute of the profile, e.g. `religion`, whose values are the groups."
        },
    )
    robust_step: float = field(default=0.01, metadata={"help": "Step of the groups' weights (eta)."})
    early_stopping_metric: str | None = field(
        default=None,
        metadata={
            "help": "A specificity gap on the validation rows, e.g. `validation/contrast/gap_wrong`; needs validation_share."
        },
    )
    early_stopping_patience: int = field(default=3, metadata={"help": "Evaluations without a gain before stopping."})
    base_model_id: str | None = field(
        default=None, metadata={"help": "The id to declare for a base model given as a folder (default: its name)."}
    )
    merge_adapter: bool = field(
        default=False, metadata={"help": "Save the whole model with the adapter merged into its weights."}
    )
    keep_checkpoints: bool = field(
        default=False, metadata={"help": "Keep the intermediate checkpoints' weights in the finished folder."}
    )

    def __post_init__(self) -> None:
        if isinstance(self.dataset_configs, str):
            self.dataset_configs = [self.dataset_configs]


@dataclass(frozen=True)
class TrainingRun:
    """One parsed run. `given` holds the keys that the recipe or the command line set, for the record."""

    data: PersonaDataArguments
    config: Any  # trl.DPOConfig or trl.RewardConfig
    model: ModelConfig
    given: dict[str, Any]

    @property
    def cache(self) -> Path | None:
        """Where runs on the same base share its log-probabilities and embeddings."""
        return Path(self.data.score_cache) if self.data.score_cache else None

    @property
    def loading_dtype(self) -> str:
        """In which a model is loaded to be scored: the recipe's where that is a half precision, else float32."""
        dtype = self.model.dtype
        return dtype if dtype in ("bfloat16", "float16") else "float32"

    @property
    def evaluates(self) -> bool:
        """Whether the trainer reads validation and test rows while it trains; methods with a loop of their own have no such key."""
        strategy = getattr(self.config, "eval_strategy", "no")
        return str(getattr(strategy, "value", strategy)) != "no"


class StrictParser(TrlParser):
    """TRL's parser, with our error in place of a usage text of four hundred lines."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"The arguments cannot be used: {message}.")


def parse_arguments(argv: list[str] | None, config_class: Any) -> TrainingRun:
    """`--config RECIPE.yaml` gives defaults, further `--key value` arguments override them.

    Raises InputError for a file that cannot be read, an unknown key (naming the closest valid one) and a value that
    does not fit.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    classes: list[Any] = [PersonaDataArguments, config_class, ModelConfig]
    parser = StrictParser(classes, allow_abbrev=False)
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    recipe: dict[str, Any] = {}
    if "--config" in argv:
        position = argv.index("--config")
        if position + 1 == len(argv):
            raise InputError("--config is the last argument; the recipe's path is missing after it.")
        argv[position + 1] = str(find_packaged(argv[position + 1], RECIPE_FOLDER, "training recipe"))
        recipe = _read_recipe(Path(argv[position + 1]))
    for key, value in recipe.items():
        if key != "env":
            _check_key(key, list(actions))
            _check_value(key, value, actions[key])
    given = {key for key in recipe if key != "env"}
    for argument in argv:
        if argument.startswith("--") and argument != "--config":
            key = argument[2:].partition("=")[0].replace("-", "_")
            if key == "help":
                continue
            negated = key.removeprefix("no_")
            key = negated if key not in actions and negated in actions else key
            _check_key(key, list(actions))
            given.add(key)
    try:
        data, config, model = parser.parse_args_and_config(argv)
    except (ValueError, TypeError) as error:
        raise InputError(f"The recipe cannot be used: {error}") from error
    values = {**vars(data), **_plain_fields(config), **_plain_fields(model)}
    _validate(data)
    return TrainingRun(data, config, model, {key: values.get(key) for key in sorted(given)})


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}. Mend the file.") from None
    if not isinstance(recipe, dict):
        raise InputError(
            f"{path} holds {type(recipe).__name__} instead of keys. Start from a recipe in training/recipes/."
        )
    return recipe


def _check_key(key: str, valid: list[str]) -> None:
    if key not in valid:
        close = difflib.get_close_matches(key, valid, n=1, cutoff=0.0)[0]
        raise InputError(f"Unknown key {key}. The closest valid key is {close}.")


def _check_value(key: str, value: Any, action: argparse.Action) -> None:
    """YAML values become argparse defaults, which argparse converts only when they are text; so others are checked
    here.
    """
    several = action.nargs in ("+", "*") and isinstance(value, list)
    kinds = {int: (int,), float: (int, float)}
    fits = several or not isinstance(value, list)
    for part in value if several else [value]:
        if part is not None and not isinstance(part, str) and action.type in kinds:
            fits = fits and type(part) in kinds[action.type]
    if value is not None and action.choices is not None and value not in action.choices:
        fits = False
    if not fits:
        wanted = (
            f"one of {list(action.choices)}" if action.choices else getattr(action.type, "__name__", str(action.type))
        )
        raise InputError(f"{key} is {value!r} ({type(value).__name__}), but it takes {wanted}.")


def _plain_fields(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _validate(data: PersonaDataArguments) -> None:
    if not data.dataset:
        raise InputError("dataset is missing. Give a published folder, or hub:org/name@v1.0.0 (--dataset).")
    unknown = [name for name in data.dataset_configs if name not in PAIR_CONFIGS]
    if unknown or not data.dataset_configs:
        raise InputError(f"dataset_configs is {data.dataset_configs}; choose from {', '.join(PAIR_CONFIGS)}.")
    if len(set(data.dataset_configs)) < len(data.dataset_configs):
        raise InputError(f"dataset_configs names a config twice: {data.dataset_configs}. Name each once.")
    if data.persona not in MODES:
        raise InputError(f"persona is {data.persona!r}; choose one of {', '.join(MODES)}.")
    if data.persona_role not in ROLES:
        raise InputError(f"persona_role is {data.persona_role!r}; choose one of {', '.join(ROLES)}.")
    for name in ("validation_share", "persona_dropout", "persona_corruption"):
        if not 0 <= getattr(data, name) < 1:
            raise InputError(f"{name} is {getattr(data, name)}; it is a share from 0 to below 1.")
    for name, least in (
        ("relevant_attributes", 1),
        ("few_shot_pairs", 0),
        ("max_train_rows", 2),
        ("persona_budget", 1),
        ("eval_batch_texts", 1),
    ):
        value = getattr(data, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; give at least {least}.")
    if not 0 <= data.max_dropped_share < 1:
        raise InputError(f"max_dropped_share is {data.max_dropped_share}; it is a share from 0 to below 1.")
    if data.eval_max_rows is not None and data.eval_max_rows < 0:
        raise InputError(f"eval_max_rows is {data.eval_max_rows}; give null (all), 0 (none) or a number of rows.")


def conditioning_of(data: PersonaDataArguments) -> Conditioning:
    return Conditioning(
        data.persona,
        data.persona_role,
        data.relevant_attributes,
        data.few_shot_pairs,
        data.persona_corruption,
        data.rows_seed,
    )
