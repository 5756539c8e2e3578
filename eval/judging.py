"""Judges of an evaluation: found by name, asked through the same recorded calls as every model, and described in the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.judge.judge_file import load_judge
from builder.llm.calls import ModelCalls
from builder.llm.model_recipe import ModelRecipe
from builder.llm.templates import load_template
from eval.language_models import model_recipe, recipe_facts
from eval.results import Result

DEFAULT_MODEL = "embedded"


@dataclass(frozen=True)
class EvaluationJudge:
    """A judge and how its model is reached. `judge.role` is its role in `open_calls`."""

    judge: Judge
    recipe: ModelRecipe

    @property
    def scripted(self) -> bool:
        """Its verdicts are a fixed function of the text: they show that the plumbing works, and nothing else."""
        return self.recipe.provider == "scripted"


def find_judges(given: Sequence[str], kinds: Sequence[str], seed: int) -> list[EvaluationJudge]:
    """Each of `given` is JUDGE or JUDGE=MODEL: a judge file (or a packaged name), and a model as in eval.language_models.

    Without =MODEL the file's own model, else the embedded one. kinds: those that the evaluation can use (pairwise, likelihood, critique).
    Raises InputError for a judge of another kind, one that does not exist, or two of one label.
    """
    found: list[EvaluationJudge] = []
    for number, words in enumerate(given, 1):
        name, equals, model = words.partition("=")
        recipe = model_recipe(model) if equals else None
        judge = load_judge(
            name, recipe or model_recipe(DEFAULT_MODEL), seed, role=f"judge{number}", prefer_own_model=recipe is None
        )
        if judge.kind not in kinds:
            raise InputError(
                f"Judge {judge.name} is of kind {judge.kind}, and here {' or '.join(kinds)} is needed. See builder/judge/judges/."
            )
        if any(other.judge.label == judge.label for other in found):
            raise InputError(f"Judge {judge.label} is given twice. Give each once.")
        found.append(EvaluationJudge(judge, judge.model_recipe or recipe or model_recipe(DEFAULT_MODEL)))
    if not found:
        raise InputError("No judge is given. Give --judge NAME or --judge NAME=MODEL.")
    return found


def judge_facts(
    judge: EvaluationJudge, build: Mapping[str, Any] | None = None, subject: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One entry of `Result.judges`.

    build: build.json of the dataset. subject: `Result.subject`. `also`: what else the judge's model did (it wrote or chose texts of the
    dataset, it wrote the answers judged here): then its verdict is an opinion on its own work.
    """
    own, recipe = judge.judge, judge.recipe
    return {
        "label": own.label,
        "name": own.name,
        "version": own.version,
        "kind": own.kind,
        "parser": own.parser if own.kind != "likelihood" else None,
        "template": load_template(own.template).label if own.template else None,
        "temperature": own.temperature if own.kind == "likelihood" else own.sampling.temperature,
        "max_retries": own.max_retries,
        **recipe_facts(recipe),
        "scripted": judge.scripted,
        "also": other_parts(recipe.model, build, subject),
    }


def judge_identity(judge: EvaluationJudge, calls: ModelCalls) -> list[Any]:
    """[label, label of the template, identity of the model]: what a judge contributes to a fingerprint. The label has the version of the
    judge file alone, so that without the template's an edit of the template would leave an old result standing."""
    template = load_template(judge.judge.template).label if judge.judge.template else None
    return [judge.judge.label, template, calls.client(judge.judge.role).identity]


def todays_facts(facts: Sequence[Mapping[str, Any]], judges: Mapping[str, Judge]) -> list[dict[str, Any]]:
    """`Result.judges` after rereading: label and version of the judge that reads today. judges: label in the facts -> today's judge.

    Raises InputError for a label that has no judge.
    """
    for entry in facts:
        if entry["label"] not in judges:
            raise InputError(
                f"The replies of judge {entry['label']} lie in the result, and no judge is given to read them. Give its file with --judge."
            )
    return [
        {**entry, "label": judges[entry["label"]].label, "version": judges[entry["label"]].version} for entry in facts
    ]


def own_work_notes(result: Result) -> list[str]:
    """A sentence for each judge whose model also wrote or chose what it judged."""
    return [
        f"The model of {judge['name']} also {' and '.join(judge['also'])}: it judges its own work."
        for judge in result.judges
        if judge["also"]
    ]


def other_parts(
    model: str, build: Mapping[str, Any] | None = None, subject: Mapping[str, Any] | None = None
) -> list[str]:
    """What the model did beside judging: `wrote the base answers`, `wrote the revisions`, `chose the revisions`, `said which pairs flip`,
    `wrote the answers`."""
    models = (build or {}).get("models") or {}
    found = []
    if (models.get("generator") or {}).get("model") == model:
        found.append("wrote the base answers")
    if (models.get("reviser") or {}).get("model") == model:
        found.append("wrote the revisions")
    candidates = (((build or {}).get("recipe") or {}).get("pairs") or {}).get("candidates") or 1
    if candidates > 1 and (models.get("judge") or {}).get("model") == model:
        found.append("chose the revisions")
    if "contrast" in ((build or {}).get("configs") or ()) and (models.get("judge") or {}).get("model") == model:
        found.append("said which pairs flip")
    if subject is not None and model in (subject.get("model"), _base_of(subject)):
        found.append("wrote the answers")
    return found


def _base_of(subject: Mapping[str, Any]) -> str | None:
    base: str | None = ((subject.get("training") or {}).get("base_model") or {}).get("model_id")
    return base
