"""Any language model by one word: a trained model's folder, an endpoint, a model folder, the embedded or the scripted one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.model_recipe import ModelRecipe, load_model_file
from builder.llm.weights import EMBEDDED_MODEL_ID
from builder.strict_yaml import refuse_secrets
from eval.results import without_paths
from training.conditioning import Conditioning, from_record, persona_text
from training.record import RECORD_FILE, finished_record

FORMS = (
    "embedded, scripted, a folder that `persona train dpo` wrote, a folder with config.json, NAME@ADDRESS of an OpenAI-compatible endpoint "
    "(as qwen@http://127.0.0.1:8000/v1; its key in OPENAI_API_KEY), or a YAML file with the keys of a recipe's model"
)
KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True)
class LanguageModel:
    """A model that writes answers.

    name: of files and tables. recipe: how it is reached. folder: of a trained model, else None. conditioning: how it is shown personas.
    facts: for `Result.subject`.
    """

    name: str
    recipe: ModelRecipe
    folder: Path | None
    conditioning: Conditioning
    facts: dict[str, Any]

    @property
    def scripted(self) -> bool:
        return self.recipe.provider == "scripted"


def find_language_model(given: str) -> LanguageModel:
    """The model that `given` names, not loaded yet. Raises InputError for what names none, and for a trained model that writes nothing."""
    folder = Path(given)
    if (folder / RECORD_FILE).is_file():
        return _trained(folder)
    recipe = model_recipe(given)
    return LanguageModel(
        name=file_name(
            Path(recipe.path).name if recipe.path and given != "embedded" else recipe.model.rsplit("/", 1)[-1]
        ),
        recipe=recipe,
        folder=None,
        conditioning=Conditioning(),
        facts={"kind": "language model", **recipe_facts(recipe), "training": None},
    )


def find_language_models(given: Sequence[str]) -> list[LanguageModel]:
    """The models that `given` names, none loaded yet. Raises InputError like find_language_model, and for two of one name: a result is
    called after its model, so the second would be refused when the first has been paid for.
    """
    models = [find_language_model(word) for word in given]
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two models have the same name ({', '.join(names)}), so their results would be one file. Give each once, or rename a folder."
        )
    return models


def model_recipe(given: str) -> ModelRecipe:
    """How the model that `given` names is reached (FORMS, but no trained folder). Raises InputError for anything else."""
    if given == "embedded":
        return ModelRecipe(model=EMBEDDED_MODEL_ID)
    if given == "scripted":
        return ModelRecipe(provider="scripted", model="scripted")
    path = Path(given)
    if given.endswith((".yaml", ".yml")):
        if not path.is_file():
            raise InputError(f"The model file {given} does not exist. Give one of: {FORMS}.")
        return load_model_file(path)
    name, at, address = given.rpartition("@")
    if at and re.match(r"https?://", address):
        refuse_secrets(address, "the endpoint's address")
        return ModelRecipe(provider="openai", model=name, base_url=address, api_key_env=_key_variable())
    if (path / "config.json").is_file():
        return ModelRecipe(model=path.resolve().name, path=str(path))
    raise InputError(f"{given!r} names no model. Give one of: {FORMS}.")


def recipe_facts(recipe: ModelRecipe) -> dict[str, Any]:
    """What a result says of how a model was reached; never an address, a path or a key."""
    return {"provider": recipe.provider, "model": without_paths(recipe.model), "revision": recipe.revision}


def shown_persona_text(model: LanguageModel, profile: str | None, question: str) -> str | None:
    """What stands for the persona in this model's prompts; None without one."""
    return None if profile is None else persona_text(model.conditioning, profile, question)


def file_name(name: str) -> str:
    """Letters, digits, dots, dashes and underscores only: `a b/c` -> `a-b-c`."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def _trained(folder: Path) -> LanguageModel:
    record = finished_record(folder)
    if record["kind"] != "dpo":
        raise InputError(
            f"{folder} is a {record['kind']} model, which scores answers and writes none. Give the folder of a DPO model, or use "
            "`persona eval models`."
        )
    conditioning = from_record(record)
    if conditioning.mode in ("few_shot", "full+few_shot"):
        raise InputError(
            f"{folder} reads labelled pairs of a persona (persona: {conditioning.mode}), for which these prompts have no place. Give a "
            "model that reads profiles."
        )
    if conditioning.mode in (
        "none",
        "shuffled",
    ):  # what they do when they are shown a persona is measured with the whole profile
        conditioning = replace(conditioning, mode="full")
    return LanguageModel(
        name=file_name(folder.resolve().name),
        recipe=ModelRecipe(model=record["base_model"]["model_id"]),
        folder=folder,
        conditioning=conditioning,
        facts={
            "kind": "DPO model",
            "provider": "transformers",
            "model": folder.resolve().name,
            "revision": None,
            "training": without_paths(record),
        },
    )


def _key_variable() -> str | None:
    import os

    return KEY_VARIABLE if os.environ.get(KEY_VARIABLE) else None
