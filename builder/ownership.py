"""What decides a build's content, and whose a build folder is: a folder belongs to the recipe, inputs and templates it was begun with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from builder.census.pums import PACKAGED_RECORDS
from builder.census.pums_files import content_hash, input_files
from builder.errors import InputError
from builder.files import locked, read_json
from builder.imports.personas_file import hash_persona_source
from builder.judge.judge import Judge
from builder.judge.judge_file import load_judge
from builder.llm.templates import PLACES, check_renders, load_template
from builder.personas.consistency import TEMPLATE as CHECK_TEMPLATE
from builder.personas.enrichment import REPAIR_TEMPLATE
from builder.personas.enrichment import TEMPLATE as ENRICHMENT_TEMPLATE
from builder.personas.lists import FOLDER as PERSONA_DATA
from builder.prompts import controversy_model, vectors
from builder.prompts.controversy import TEMPLATE as CLASSIFY_TEMPLATE
from builder.prompts.sources import hash_prompt_source
from builder.recipe import BuildRecipe, as_dict, deciding_keys, fingerprint
from builder.schema import CANARY


def new_build(recipe: BuildRecipe) -> dict[str, Any]:
    """The beginning of build.json. Raises InputError for inputs and templates that are not there."""
    return {
        "recipe": as_dict(recipe),
        "fingerprint": fingerprint(recipe),
        "inputs": hash_inputs(recipe),
        "code_version": code_version(),
        "templates": {template.name: template.version for template in map(load_template, template_names(recipe))},
        "packaged": hash_packaged(recipe),
        "canary": CANARY,
        "stages": {},
        "usage": {},
    }


def hash_inputs(recipe: BuildRecipe) -> dict[str, str | None]:
    """SHA-256 of every input that the recipe names, for one on the Hub its address with the commit; None for packaged inputs. Raises
    InputError for what is not there.

    A census source may be a folder of PUMS files, as `persona census fetch` fills it; its hash is that of the files' contents.
    """
    census = {
        "census.source": recipe.census.source,
        "census.household_source": recipe.census.household_source,
    }
    hashes: dict[str, str | None] = {
        key: None if source in (None, "packaged") else hash_source(key, input_files, source)
        for key, source in census.items()
    }
    hashes["prompts.source"] = hash_prompt_source(recipe.prompts.source)
    if recipe.personas.source != "census":
        hashes["personas.source"] = hash_persona_source(recipe.personas.source)
    return hashes


def hash_source(key: str, list_files: Callable[[Path], list[Path]], source: str) -> str:
    path = Path(source)
    if not path.exists():
        raise InputError(f"{key} is {source}, which does not exist. Give the path of a file, or `packaged`.")
    try:
        return content_hash(list_files(path))
    except OSError as error:
        raise InputError(
            f"{key} is {source}, which cannot be read ({error.strerror}). Check its permissions."
        ) from None


def template_names(recipe: BuildRecipe) -> list[str]:
    """The prompt templates that decide what a build contains."""
    personas, pairs = recipe.personas, recipe.pairs
    names = [pairs.answer_template, pairs.critique_template, pairs.revision_template]
    if "dpf_matched" in recipe.configs:
        names += [recipe.matched.critique_template, recipe.matched.revision_template]
    if personas.enrichment == "lm":
        names += [ENRICHMENT_TEMPLATE, REPAIR_TEMPLATE]
    if personas.consistency == "lm":
        names.append(CHECK_TEMPLATE)
    if recipe.prompts.controversy == "lm":
        names.append(CLASSIFY_TEMPLATE)
    return names


def check_templates(recipe: BuildRecipe) -> None:
    """Raises InputError for a template of the recipe that cannot be read or asks for what its place does not have. Judges check theirs."""
    for name in template_names(recipe):
        load_template(name)
    sections: list[Any] = [recipe.pairs, *([recipe.matched] if "dpf_matched" in recipe.configs else [])]
    places = [("answer", recipe.pairs.answer_template)]
    places += [(place, getattr(s, f"{place}_template")) for s in sections for place in ("critique", "revision")]
    for place, name in places:
        check_renders(load_template(name), *PLACES[place])


def load_judges(recipe: BuildRecipe) -> list[Judge]:
    models = recipe.models
    judges = [load_judge(recipe.judge, models.judge, recipe.seed)]
    if models.second_judge.provider != "none":
        second = models.second_judge
        judges.append(load_judge(recipe.second_judge, second, recipe.seed, "second_judge"))
        if judges[0].label == judges[1].label:
            raise InputError(
                f"judge and second_judge are the same ({judges[0].label}), so the second would say nothing new. Give models.second_judge "
                "another model, or second_judge another judge file."
            )
    if critic := next((judge for judge in judges if judge.kind == "critique"), None):
        raise InputError(
            f"The judge {critic.name} says whether one answer needs revision; a build asks which of two is preferred. Set judge "
            "to roleplay, likelihood or auto."
        )
    return judges


def judge_templates(judges: Sequence[Judge]) -> dict[str, str]:
    """{name: version} of the templates of judges that have one."""
    templates = [load_template(judge.template) for judge in judges if judge.template]
    return {template.name: template.version for template in templates}


def hash_packaged(recipe: BuildRecipe) -> dict[str, str]:
    """SHA-256 of the data files of this version that decide what a build contains: another version's personas would be others."""
    hashes = {"persona data": content_hash(sorted(file for file in PERSONA_DATA.iterdir() if file.is_file()))}
    if recipe.census.source == "packaged":
        hashes["census records"] = content_hash([PACKAGED_RECORDS])
    hashes["word vectors"] = content_hash([vectors.FILE])
    if recipe.prompts.controversy == "packaged":
        hashes["controversy model"] = content_hash([controversy_model.FILE])
    return hashes


def code_version() -> str:
    try:
        return version("persona-testbed")
    except PackageNotFoundError:
        return "not installed"


def code_hash() -> str:
    """SHA-256 of this version's code: a version number does not move with every change of a checkout."""
    folder = Path(__file__).parent
    return content_hash(sorted(path for kind in ("*.py", "*.yaml") for path in folder.rglob(kind)))


@contextlib.contextmanager
def claimed(folder: Path, build: dict[str, Any]) -> Iterator[None]:
    """Hold the folder for this process, after checking that it is new or belongs to the same recipe and inputs."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Give another --out folder.")
    if folder.is_dir():
        refuse_other_build(folder, build)
    with locked(folder, "build"):
        yield


def refuse_other_build(folder: Path, build: dict[str, Any]) -> None:
    existing = folder / "build.json"
    if not existing.is_file():
        # A record alone is what `persona responses import` leaves: a build may begin on it.
        known = ("responses.sqlite", ".lock", ".build.json.")
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith(known))
        if others:
            raise InputError(
                f"{folder} holds {others[0]} but no build.json, so it is not a build's folder. Nothing was changed; give an empty or "
                "new --out folder."
            )
        return
    old_keys, new_keys = owner(read_json(existing)), owner(build)
    differing = sorted(k for k in old_keys.keys() | new_keys.keys() if old_keys.get(k) != new_keys.get(k))
    if differing:
        shown = "; ".join(f"{k}: {old_keys.get(k)!r:.60} there, {new_keys.get(k)!r:.60} now" for k in differing[:8])
        raise InputError(
            f"{folder} belongs to another build. Differing: {shown}{' ...' if len(differing) > 8 else ''}. Nothing was changed; give "
            "another --out folder, or use the recipe that made this one."
        )


def owner(build: dict[str, Any]) -> dict[str, Any]:
    """What decides a build's content: recipe keys, and the content of input files and templates."""
    return {
        **deciding_keys(build.get("recipe", {})),
        **{f"content of {key}": value for key, value in build.get("inputs", {}).items()},
        **{f"template {name}": value for name, value in build.get("templates", {}).items()},
        **{f"packaged {name}": value for name, value in build.get("packaged", {}).items()},
        **{f"judge {number}": label for number, label in enumerate(build.get("judges", []))},
    }
