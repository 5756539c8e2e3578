"""What a build must share with the published version that it extends: every key, model and file that decides rows, and no smaller size."""

from collections.abc import Sequence
from typing import Any

from builder.errors import InputError
from builder.ownership import judge_templates, load_judges
from builder.pairs.assignment import PARTS
from builder.recipe import ROLES, BuildRecipe, ModelRecipe, as_dict, deciding_keys, seen_count

Row = dict[str, Any]
# What an extension is for, or what says nothing of a row. Every other key must be as it was: one table would hold rows of two kinds,
# and its card would describe the new ones only.
MAY_DIFFER = (
    *(
        "name",
        "personas.count",
        "personas.seen",
        "pairs.train",
        "pairs.seen_test",
        "pairs.heldout_test",
        "pairs.judge_check",
    ),
    *(
        "prompts.count",
        "prompts.heldout",
        "prompts.text_column",
        "prompts.min_words",
        "prompts.require_question_mark",
        "prompts.topics",
    ),
)
# Compared in their own way, or (audit) about what is told of the rows.
COMPARED_APART = ("configs", "models.", "audit.")


def refuse_what_does_not_extend(name: str, published: dict[str, Any], recipe: BuildRecipe, new: dict[str, Any]) -> None:
    """name: where the user says the version is. published: its build.json. new: `new_build(recipe)`."""
    if recipe.personas.source != "census":
        raise InputError(
            "--extend goes on with a draw from the census, and personas.source is a file. Build a new dataset instead."
        )
    if "examined" not in published["stages"]["personas"]:
        raise InputError(
            f"The personas of {name} come from a file ({published['stages']['personas']['source']}) and were not drawn from the "
            "census, so there is no draw to go on with. Build a new dataset without --extend."
        )
    differing = differences(published, recipe, new)
    if differing:
        shown = "; ".join(f"{key} ({told(old)} there, {told(new)} now)" for key, (old, new) in differing.items())
        raise InputError(
            f"{name} was made otherwise: {shown}. An extension goes on with the same draw and the same way of writing and judging, so "
            "that one table holds one kind of row. Use what the earlier version used, or build a new dataset without --extend."
        )
    refuse_other_configs(name, published["recipe"]["configs"], recipe.configs)


def differences(published: dict[str, Any], recipe: BuildRecipe, new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{what: (in the earlier version, now)} for everything that decides rows and is not what an extension is for."""
    # A key that the earlier version's recipe does not know yet had the effect of its default.
    old = deciding_keys(as_dict(BuildRecipe(recipe.name, recipe.seed))) | deciding_keys(published["recipe"])
    keys = deciding_keys(new["recipe"])
    before: dict[str, Any] = {k: v for k, v in old.items() if k not in MAY_DIFFER and not k.startswith(COMPARED_APART)}
    now: dict[str, Any] = {key: keys.get(key) for key in before}

    for role in ROLES:
        before[f"models.{role}"] = named_model(**published["models"][role])
        now[f"models.{role}"] = model_now(getattr(recipe.models, role), published["models"][role])
    # Template and judge files may have the same name and another content.
    judges = load_judges(recipe)
    before["judges"], now["judges"] = published["judges"], [judge.label for judge in judges]
    templates = new["templates"] | judge_templates(judges)
    for template in templates.keys() & published["templates"].keys():
        before[f"template {template}"] = published["templates"][template]
        now[f"template {template}"] = templates[template]
    for what, key in (("the census file", "census.source"), ("the household file", "census.household_source")):
        before[what], now[what] = published["inputs"].get(key), new["inputs"][key]
    if recipe.census.source == "packaged" and before["the census file"] is None:
        before["the packaged census records"] = published["stages"]["personas"]["sha256"]
        now["the packaged census records"] = new["packaged"]["census records"]
    return {key: (before[key], now[key]) for key in sorted(before) if before[key] != now[key]}


def named_model(provider: str, model: str, revision: str | None) -> str:
    return provider if provider == "none" else f"{provider} {model}" + (f" at revision {revision}" if revision else "")


def told(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def model_now(model: ModelRecipe, published: dict[str, Any]) -> str:
    """The recipe's model by what is published of it: provider, declared id, revision. For weights in this process that is their hash."""
    revision = model.revision
    if model.provider == published["provider"] == "transformers" and published["revision"] != revision:
        from builder.llm.weights import find_model

        revision = find_model(model.model, model.path, model.revision).content_hash
    return named_model(model.provider, model.model, revision)


def refuse_other_configs(name: str, old: Sequence[str], new: Sequence[str]) -> None:
    for config in old:
        if config not in new:
            raise InputError(f"{name} has the config {config}, which the recipe leaves out. Add it to configs.")
    for config in new:
        if config not in old:
            raise InputError(
                f"{name} has no config {config}, so it would hold rows of the new personas only. Leave it out of configs, or build a new "
                "version with it, of all personas, without --extend."
            )


def refuse_smaller_sizes(
    name: str, published: dict[str, Any], personas: Sequence[Row], prompts: Sequence[Row], recipe: BuildRecipe
) -> None:
    seen = sum(row["group"] == "seen" for row in personas)
    wanted_seen = seen_count(recipe.personas)
    for what, have, wanted in (
        ("personas.count", len(personas), recipe.personas.count),
        ("personas.seen", seen, wanted_seen),
        ("personas.count less personas.seen", len(personas) - seen, recipe.personas.count - wanted_seen),
        ("prompts.count", len(prompts), recipe.prompts.count),
    ):
        if wanted < have:
            raise InputError(
                f"{what} is {wanted}, but {name} has {have}. An extension keeps all of them: raise {what}."
            )
    for part, more in more_pairs(published, recipe).items():
        if more < 0:
            have = published["recipe"]["pairs"][part]
            raise InputError(
                f"pairs.{part} is {have + more}, but {name} has {have}. An extension keeps every pair: do not lower it."
            )


def more_pairs(published: dict[str, Any], recipe: BuildRecipe) -> dict[str, int]:
    """{part: how many more pairs a persona the recipe asks for than that of the earlier version did}."""
    return {part: getattr(recipe.pairs, part) - published["recipe"]["pairs"][part] for part in PARTS}
