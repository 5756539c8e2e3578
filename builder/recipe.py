"""BuildRecipe: every knob of a build, read strictly from YAML.

An unknown key, a wrong type, a literal key or a password in an address is an error before anything is spent. `fingerprint` identifies
what a build will contain: it leaves out what cannot change the result (where an endpoint stands, how many calls run at once).
"""

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.llm.model_recipe import ModelRecipe, check_model
from builder.schema import ATTRIBUTES
from builder.strict_yaml import apply_override, build_dataclass, read_yaml, refuse_secrets

ROLES = ("enricher", "checker", "classifier", "generator", "critic", "reviser", "judge", "second_judge")
# The roles that a build can do without.
OPTIONAL_ROLES = ("classifier", "enricher", "checker", "second_judge")
BUILDABLE = ("dpf", "dpf_matched", "contrast", "judgements")
RECIPE_FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class CensusRecipe:
    source: str = (
        "packaged"  # `packaged` (synthetic records), a PUMS person file, or a folder that `persona census fetch` filled
    )
    household_source: str | None = (
        None  # the matching household file, where the person file does not carry the household columns
    )
    survey_year: int | None = None  # read from the file where it says so
    adults_only: bool = True


@dataclass(frozen=True)
class SamplingRecipe:
    max_tokens: int = 400
    temperature: float = 0.8
    top_p: float = 0.95
    # End the answer at the first end of a sentence after this many tokens (in-process models only): a small model seldom ends by
    # itself, and an answer cut at max_tokens counts as truncated. null: let the model end.
    end_sentence_after: int | None = None


@dataclass(frozen=True)
class PersonasRecipe:
    # `census`, or finished personas, plain or with the columns of Nemotron-Personas: a JSONL, CSV or Parquet file, or
    # `hub:org/name@revision`. Those are taken as they are: `enrichment` and `consistency` do nothing with them.
    source: str = "census"
    count: int = 1586
    seen: int | None = None  # the rest is `unseen`: never trained on. null: the paper's share, 1,000 of 1,586
    enrichment: str = (
        "lm"  # `lm`: the enricher writes the open-ended fields; `none`: they are sampled from the packaged lists
    )
    profile_attributes: tuple[str, ...] = (
        ATTRIBUTES  # in the order of the profile; the first are kept when room is short
    )
    enrichment_categories: int = 3  # of the five open-ended categories, how many the enricher writes for a persona
    enrichment_sampling: SamplingRecipe = field(default_factory=SamplingRecipe)
    consistency: str = "rules"  # `rules`: the packaged rules; `lm`: these, and the checker reads every persona twice
    profile_shows_nulls: bool = False  # print attributes without a value, with the reason, as the paper does
    profile_max_tokens: int = 700
    round_income: bool = True  # to two significant digits


@dataclass(frozen=True)
class PromptsRecipe:
    # `packaged`, a JSONL or CSV file (PRISM's `conversations.jsonl` as it is), or `hub:org/name@revision`
    source: str = "packaged"
    text_column: str | None = None  # the column with the question, where it is none of the known names
    count: int = 3868
    heldout: int = 868
    min_words: int = 5
    require_question_mark: bool = True
    # Who says which questions people could answer differently. `lm`: the classifier role votes; `packaged`: the fitted model that comes
    # with this project; `none`: every question is kept
    controversy: str = "none"
    controversy_threshold: float = 0.5  # mean of the classifier's votes, or the fitted model's probability
    controversy_votes: int = 3
    near_duplicate_similarity: float = 0.7  # Jaccard similarity of word shingles from which two prompts count as one
    topics: int = 20  # number of topic clusters where the source names no topics


@dataclass(frozen=True)
class PairsRecipe:
    train: int = 100
    seen_test: int = 50
    heldout_test: int = 50
    candidates: int = 1  # revisions drawn per pair; the judge keeps the one it likes best for this persona
    base_answer: str = "shared"  # `shared`: one base answer per prompt; `fresh`: one for every pair
    judged: str = "all"  # which pairs the judge is asked about: `all`, or only those of the judge `check`
    # Size of the stratified sample of unselected first revisions on which every judge says whether it prefers them to the base answer
    judge_check: int = 2000
    answer_template: str = "answer"
    critique_template: str = "critique_paper"
    revision_template: str = "revision_paper"
    answer: SamplingRecipe = field(default_factory=SamplingRecipe)
    critique: SamplingRecipe = field(default_factory=SamplingRecipe)
    revision: SamplingRecipe = field(default_factory=SamplingRecipe)
    max_retries: int = 3  # of a critique or revision that cannot be read, was cut or refused


@dataclass(frozen=True)
class MatchedRecipe:
    """`dpf_matched`: critique and revision that say nothing about length, and pairs selected so that length tells nothing."""

    critique_template: str = "critique_matched"
    revision_template: str = "revision_matched"


@dataclass(frozen=True)
class ContrastRecipe:
    partners: int = 1  # partners drawn per row; both mirrors are always built
    # How unlike the partners are: `spread` (over near, middling and far personas), `near`, `far` or `any`
    partner_distance: str = "spread"


@dataclass(frozen=True)
class AuditRecipe:
    """Bands for the share of pairs that a probe without the persona gets right; a check fails whose 95 % interval lies outside."""

    matched_length: tuple[float, ...] = (0.48, 0.52)  # dpf_matched: taking the shorter answer
    matched_text: tuple[float, ...] = (0.40, 0.60)  # dpf_matched: words of the answers
    min_pairs: int = 1000  # below this a band check is `inconclusive`
    probe_pairs: int = 20_000  # the fitted probes read at most so many pairs of a config, drawn by prompt


@dataclass(frozen=True)
class ModelsRecipe:
    enricher: ModelRecipe = field(default_factory=ModelRecipe)
    checker: ModelRecipe = field(default_factory=lambda: ModelRecipe(provider="none"))
    classifier: ModelRecipe = field(default_factory=lambda: ModelRecipe(provider="none"))
    generator: ModelRecipe = field(default_factory=ModelRecipe)
    critic: ModelRecipe = field(default_factory=ModelRecipe)
    reviser: ModelRecipe = field(default_factory=ModelRecipe)
    judge: ModelRecipe = field(default_factory=ModelRecipe)
    second_judge: ModelRecipe = field(default_factory=lambda: ModelRecipe(provider="none"))


@dataclass(frozen=True)
class BuildRecipe:
    name: str
    seed: int
    census: CensusRecipe = field(default_factory=CensusRecipe)
    personas: PersonasRecipe = field(default_factory=PersonasRecipe)
    prompts: PromptsRecipe = field(default_factory=PromptsRecipe)
    pairs: PairsRecipe = field(default_factory=PairsRecipe)
    matched: MatchedRecipe = field(default_factory=MatchedRecipe)
    contrast: ContrastRecipe = field(default_factory=ContrastRecipe)
    audit: AuditRecipe = field(default_factory=AuditRecipe)
    models: ModelsRecipe = field(default_factory=ModelsRecipe)
    # A name from builder/judge/judges or a file. `auto`: by likelihood where the judge model runs in-process, else role-play.
    judge: str = "auto"
    # The judge file of models.second_judge, which selects nothing and judges contrast pairs and the judge check too
    second_judge: str = "auto"
    configs: tuple[str, ...] = ("dpf", "contrast")  # of dpf, dpf_matched, contrast, judgements


def seen_count(personas: PersonasRecipe) -> int:
    """How many personas are `seen`: as the recipe says, else the paper's share (decision Q1: 1,000 + 586)."""
    return round(personas.count * 1000 / 1586) if personas.seen is None else personas.seen


# Keys that say where or how fast something runs. They cannot change the content of a build, so they stay out of the fingerprint.
# Input files are identified by their content hash (build.json) instead of their path.
PROVENANCE_KEYS = {
    "census.source",
    "census.household_source",
    "personas.source",
    "prompts.source",
    *(
        f"models.{role}.{key}"
        for role in ROLES
        for key in ("path", "base_url", "api_key_env", "max_concurrency", "timeout_seconds", "max_tokens_field")
    ),
    *(f"models.{role}.cost_per_million_{side}_tokens" for role in ROLES for side in ("prompt", "completion")),
}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> BuildRecipe:
    """Read a recipe file (a path, or the name of a packaged recipe) and apply `dotted.key=value` overrides.

    Raises InputError for an unreadable file, an unknown key (naming the closest valid one), a value of the wrong type, a literal
    key or a password.
    """
    path = find_recipe(source)
    raw = read_yaml(path)
    for override in overrides:
        apply_override(raw, override)
    refuse_secrets(raw)
    recipe = build_dataclass(BuildRecipe, raw)
    _validate(recipe)
    return recipe


def find_recipe(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    packaged = RECIPE_FOLDER / f"{path.stem}.yaml"
    if path.suffix in ("", ".yaml") and len(path.parts) == 1 and packaged.is_file():
        return packaged
    names = ", ".join(sorted(p.stem for p in RECIPE_FOLDER.glob("*.yaml")))
    raise InputError(
        f"Recipe {source} does not exist. Give the path of a YAML file, or one of the packaged recipes: {names}."
    )


def as_dict(recipe: BuildRecipe) -> dict[str, Any]:
    """Plain nested dicts and lists, every default filled in."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def deciding_keys(nested: dict[str, Any]) -> dict[str, Any]:
    """The flat keys of `as_dict(recipe)` that decide what a build contains."""
    return {key: named_file(value) for key, value in flatten(nested).items() if key not in PROVENANCE_KEYS}


def named_file(value: Any) -> Any:
    """A template or judge given as a file is known by its name; where it lay says nothing, and its content hash stands in the build."""
    return Path(value).name if isinstance(value, str) and value.endswith(".yaml") else value


def fingerprint(recipe: BuildRecipe) -> str:
    """SHA-256 over the canonical JSON of `deciding_keys`."""
    text = json.dumps(deciding_keys(as_dict(recipe)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _validate(recipe: BuildRecipe) -> None:
    """What a type cannot say: ranges, menus, and keys that contradict each other."""
    _check_numbers(recipe)
    _check_personas(recipe.personas)
    _check_prompts(recipe.prompts)
    _check_pairs(recipe.pairs, recipe.prompts)
    _check_menus(recipe)
    _check_bands(recipe.audit)
    _check_configs(recipe.configs)
    _check_models(recipe)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(message)


def _check_numbers(recipe: BuildRecipe) -> None:
    personas, prompts, pairs = recipe.personas, recipe.prompts, recipe.pairs
    for key, value in flatten(dataclasses.asdict(recipe)).items():
        # YAML knows .nan and .inf, which pass every comparison or none.
        numbers = value if isinstance(value, tuple) else (value,)
        strange = [number for number in numbers if isinstance(number, float) and not math.isfinite(number)]
        _require(not strange, f"{key} is {strange[0] if strange else ''}; it takes a finite number.")
    for key, number, least in (
        ("prompts.topics", prompts.topics, 1),
        ("prompts.controversy_votes", prompts.controversy_votes, 1),
        ("pairs.train", pairs.train, 0),
        ("pairs.seen_test", pairs.seen_test, 0),
        ("pairs.heldout_test", pairs.heldout_test, 0),
        ("pairs.max_retries", pairs.max_retries, 0),
        ("audit.min_pairs", recipe.audit.min_pairs, 1),
        ("audit.probe_pairs", recipe.audit.probe_pairs, 1),
    ):
        _require(number >= least, f"{key} is {number}; it takes a whole number of at least {least}.")
    _require(recipe.contrast.partners >= 1, f"contrast.partners is {recipe.contrast.partners}; at least 1 is needed.")
    for key, sampling in (
        ("personas.enrichment_sampling", personas.enrichment_sampling),
        *((f"pairs.{part}", getattr(pairs, part)) for part in ("answer", "critique", "revision")),
    ):
        _require(
            sampling.max_tokens >= 1 and sampling.temperature >= 0 and 0 < sampling.top_p <= 1,
            f"{key} has max_tokens {sampling.max_tokens}, temperature {sampling.temperature}, top_p {sampling.top_p}; it takes max_tokens "
            "of at least 1, a temperature of at least 0 (0: the likeliest token) and 0 < top_p <= 1.",
        )


def _check_personas(personas: PersonasRecipe) -> None:
    _require(personas.count >= 1, f"personas.count is {personas.count}; at least 1 is needed.")
    _require(
        personas.seen is None or 0 <= personas.seen <= personas.count,
        f"personas.seen is {personas.seen}, of personas.count {personas.count}. Choose 0 <= seen <= count, or leave it out.",
    )
    _require(
        personas.enrichment in ("lm", "none"),
        f"personas.enrichment is {personas.enrichment!r}; it takes `lm` (the enricher writes) or `none` (sampled from lists).",
    )
    _require(
        personas.consistency in ("rules", "lm"),
        f"personas.consistency is {personas.consistency!r}; it takes `rules` (the packaged rules) or `lm` (rules and the checker).",
    )
    _require(
        1 <= personas.enrichment_categories <= 5,
        f"personas.enrichment_categories is {personas.enrichment_categories}; the enricher knows five categories. Choose 1 to 5.",
    )
    unknown = [a for a in personas.profile_attributes if a not in ATTRIBUTES]
    if unknown:
        close = difflib.get_close_matches(unknown[0], ATTRIBUTES, n=1, cutoff=0.0)[0]
        raise InputError(
            f"personas.profile_attributes names {unknown[0]!r}, which is no attribute. Did you mean {close}?"
        )


def _check_prompts(prompts: PromptsRecipe) -> None:
    _require(
        0 <= prompts.heldout <= prompts.count and prompts.count >= 1,
        f"prompts.heldout is {prompts.heldout} of prompts.count {prompts.count}. Choose 0 <= heldout <= count, count >= 1.",
    )
    _require(
        0 <= prompts.controversy_threshold <= 1,
        f"prompts.controversy_threshold is {prompts.controversy_threshold:g}; it is a share of votes or a probability. Choose 0 to 1.",
    )


def _check_pairs(pairs: PairsRecipe, prompts: PromptsRecipe) -> None:
    _require(
        pairs.train + pairs.seen_test + pairs.heldout_test >= 1,
        "pairs.train, pairs.seen_test and pairs.heldout_test are all 0, so there would be no pair. Raise one of them.",
    )
    _require(
        pairs.train + pairs.seen_test <= prompts.count - prompts.heldout,
        f"A persona would need pairs.train + pairs.seen_test = {pairs.train + pairs.seen_test} train-pool prompts, but only "
        f"prompts.count - prompts.heldout = {prompts.count - prompts.heldout} are there. Lower one or raise the other.",
    )
    _require(
        pairs.heldout_test <= prompts.heldout,
        f"pairs.heldout_test is {pairs.heldout_test}, but prompts.heldout is {prompts.heldout}. Lower one or raise the other.",
    )
    _require(pairs.candidates >= 1, f"pairs.candidates is {pairs.candidates}; at least 1 revision must be drawn.")
    _require(
        pairs.judge_check >= 0, f"pairs.judge_check is {pairs.judge_check}; it takes a number of pairs, or 0 for none."
    )


def _check_menus(recipe: BuildRecipe) -> None:
    for key, value, choices in (
        ("pairs.base_answer", recipe.pairs.base_answer, ("shared", "fresh")),
        ("pairs.judged", recipe.pairs.judged, ("all", "check")),
        ("prompts.controversy", recipe.prompts.controversy, ("lm", "packaged", "none")),
        ("contrast.partner_distance", recipe.contrast.partner_distance, ("spread", "near", "far", "any")),
    ):
        _require(value in choices, f"{key} is {value!r}; it takes {', '.join(choices[:-1])} or {choices[-1]}.")


def _check_bands(audit: AuditRecipe) -> None:
    for key in ("matched_length", "matched_text"):
        band = getattr(audit, key)
        _require(
            len(band) == 2 and 0 <= band[0] < band[1] <= 1,
            f"audit.{key} is {list(band)}; it takes the lowest and the highest share that pass, as [0.48, 0.52].",
        )


def _check_configs(configs: Sequence[str]) -> None:
    for config in configs:
        _require(config in BUILDABLE, f"configs names {config!r}; it takes {', '.join(BUILDABLE)}.")
    twice = next((config for config in configs if configs.count(config) > 1), None)
    _require(twice is None, f"configs names {twice} twice. Name each once.")
    _require("dpf" in configs, "configs must name dpf: contrast pairs are made of its revisions.")


def _check_models(recipe: BuildRecipe) -> None:
    personas, prompts = recipe.personas, recipe.prompts
    _require(
        (prompts.controversy == "lm") == (recipe.models.classifier.provider != "none"),
        f"prompts.controversy is {prompts.controversy!r} and models.classifier.provider {recipe.models.classifier.provider!r}: the "
        "classifier votes with `lm`, and only then. Set prompts.controversy=lm and name a classifier, or leave the classifier out.",
    )
    for role in ROLES:
        model: ModelRecipe = getattr(recipe.models, role)
        check_model(model, f"models.{role}")
        _require(
            model.provider != "none" or role in OPTIONAL_ROLES,
            f"models.{role}.provider is none, but the build cannot do without a {role}. Only {', '.join(OPTIONAL_ROLES)} can be none.",
        )
    _require(
        personas.enrichment == "none" or recipe.models.enricher.provider != "none",
        "personas.enrichment is lm, but models.enricher.provider is none. Set personas.enrichment=none or name an enricher.",
    )
    _require(
        personas.consistency == "rules" or recipe.models.checker.provider != "none",
        "personas.consistency is lm, but models.checker.provider is none. Set personas.consistency=rules or name a checker.",
    )
