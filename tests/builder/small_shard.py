"""One shard of pairs on scripted models: everything that build_pairs takes, small enough to look at."""

from typing import Any

from builder.judge.judge import Judge
from builder.judge.judge_file import load_judge
from builder.llm.calls import ModelCalls
from builder.llm.model_recipe import ModelRecipe
from builder.llm.record import Record
from builder.llm.scripted import ScriptedClient, scripted_reply
from builder.pairs.assignment import assign_prompts, members_by_group
from builder.pairs.dpf import build_pairs
from builder.pairs.feedback import write_base_answers
from builder.pairs.shard_result import ShardResult
from builder.recipe import ROLES, BuildRecipe, load_recipe
from builder.schema import empty_attributes

Row = dict[str, Any]
PERSONAS = 8


def recipe_of(*overrides: str) -> BuildRecipe:
    """The demo's with scripted models and the templates of a full build."""
    scripted = [f"models.{role}.provider=scripted" for role in ROLES if role != "classifier"]
    templates = [
        *("pairs.critique_template=critique_paper", "pairs.revision_template=revision_paper"),
        *("matched.critique_template=critique_matched", "matched.revision_template=revision_matched"),
    ]
    return load_recipe("demo", [*scripted, *templates, "judge=roleplay", "pairs.candidates=1", *overrides])


def personas(count: int = PERSONAS, **values: Any) -> list[Row]:
    """Every third is unseen. `values` replace columns of all of them."""
    return [
        {
            **empty_attributes(),
            "persona_id": f"p{i:05d}",
            "group": "unseen" if i % 3 == 2 else "seen",
            "is_adult": True,
            "profile": f"Age: {30 + i}\nReligion: {('Catholic', 'Buddhist')[i % 2]}\nLifestyle: garden number {i}",
            "age": 30 + i,
            "religion": ("Catholic", "Buddhist")[i % 2],
            **values,
        }
        for i in range(count)
    ]


def prompts() -> list[Row]:
    """12 of the train pool and 4 held out, as the demo's recipe wants them."""
    return [
        {
            "prompt_id": f"q{i:05d}",
            "question": f"Should dogs be allowed on bus line number {i}?",
            "topic": f"topic {i % 3}",
            "pool": "train" if i < 12 else "heldout",
        }
        for i in range(16)
    ]


def scripted_calls(recipe: BuildRecipe, tmp_path: Any, replies: dict[str, Any] | None = None) -> ModelCalls:
    """`replies`: by role, request -> text, where the scripted reply will not do."""
    clients = {role: ScriptedClient(role, reply) for role, reply in (replies or {}).items()}
    return ModelCalls(recipe.models, Record(tmp_path / "responses.sqlite"), clients=clients)


def judges_of(recipe: BuildRecipe) -> list[Judge]:
    return [
        load_judge("roleplay", ModelRecipe(provider="scripted", model=recipe.models.judge.model), recipe.seed),
        load_judge("roleplay", ModelRecipe(provider="scripted", model="another"), recipe.seed, role="second_judge"),
    ]


def make(
    recipe: BuildRecipe, calls: Any, people: list[Row] | None = None, asked: list[Row] | None = None, **options: Any
) -> ShardResult:
    """build_pairs on one shard that holds everybody."""
    people, asked = people or personas(), asked or prompts()
    assigned = assign_prompts(recipe.seed, recipe.pairs, [p["persona_id"] for p in people], asked)
    base = write_base_answers(recipe, calls, {p["prompt_id"]: p["question"] for p in asked})
    members = members_by_group(people)
    return build_pairs(recipe, calls, judges_of(recipe), people, asked, assigned, base, members, **options)


def always(verdict: str) -> Any:
    return lambda request: f"REASON: because\nVERDICT: {verdict}"


def sometimes(never: str, reply: Any = scripted_reply) -> Any:
    """The scripted reply, but `reply` where the request holds `never`."""
    return lambda request: (reply if never in request.messages[-1]["content"] else scripted_reply)(request)
