"""Which language model, and how it is reached: in a build's recipe by role, in a judge file, and in evaluation."""

from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from builder.strict_yaml import build_dataclass, read_yaml, refuse_secrets

PROVIDERS = ("transformers", "openai", "scripted", "none")
MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class ModelRecipe:
    provider: str = "transformers"
    model: str = (
        "HuggingFaceTB/SmolLM2-135M-Instruct"  # the declared id: it names the model in records and in the data card
    )
    revision: str | None = None
    path: str | None = None  # a local model folder or GGUF file (transformers only)
    base_url: str | None = None  # an OpenAI-compatible endpoint (openai only)
    api_key_env: str | None = None  # the NAME of the environment variable that holds the key
    max_concurrency: int = 16
    batch_size: int = 16  # in-process batches (transformers only)
    timeout_seconds: float = 120.0  # of a whole response (openai only)
    # What the endpoint calls the limit of an answer: `max_tokens`, or `max_completion_tokens`, which some hosted models take alone
    max_tokens_field: str = "max_tokens"
    cost_per_million_prompt_tokens: float = 0.0  # USD
    cost_per_million_completion_tokens: float = 0.0  # USD


def check_model(model: ModelRecipe, where: str) -> None:
    """Raises InputError for a value that no model can be reached with. where: of the keys, as `models.judge`."""

    def require(holds: bool, message: str) -> None:
        if not holds:
            raise InputError(message)

    require(
        model.provider in PROVIDERS,
        f"{where}.provider is {model.provider!r}; choose one of {', '.join(PROVIDERS)}.",
    )
    require(
        model.provider != "openai" or model.base_url is not None,
        f"{where}.provider is openai without {where}.base_url. Give the endpoint's address, e.g. http://127.0.0.1:8000/v1.",
    )
    require(
        model.max_concurrency >= 1 and model.batch_size >= 1,
        f"{where}.max_concurrency and batch_size must be at least 1.",
    )
    require(
        model.timeout_seconds > 0,
        f"{where}.timeout_seconds is {model.timeout_seconds:g}; a response takes some time. Choose more than 0.",
    )
    require(
        model.max_tokens_field in MAX_TOKENS_FIELDS,
        f"{where}.max_tokens_field is {model.max_tokens_field!r}; it takes {' or '.join(MAX_TOKENS_FIELDS)}.",
    )
    for side in ("prompt", "completion"):
        price = getattr(model, f"cost_per_million_{side}_tokens")
        require(
            price >= 0,
            f"{where}.cost_per_million_{side}_tokens is {price:g}; a price is 0 USD or more, or --max-cost would never stop.",
        )


def load_model_file(path: Path) -> ModelRecipe:
    """A YAML file with the keys of ModelRecipe. Raises InputError as a build's recipe does, for a literal key too."""
    raw = read_yaml(path)
    refuse_secrets(raw)
    model: ModelRecipe = build_dataclass(ModelRecipe, raw)
    check_model(model, path.stem)
    return model
