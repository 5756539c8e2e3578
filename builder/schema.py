"""The published tables: columns, ids, split names. The contract between builder, training, eval and everyone who loads the data.

Imports nothing of ours. `features(config)` gives the one `datasets.Features` to which every split of a config is cast.
"""

from collections.abc import Iterable
from typing import Any

# Appendix A of the paper, in its order. A column is the paper's key with underscores; `paper_key` gives it back.
ATTRIBUTES = (
    "age",
    "sex",
    "race",
    "ancestry",
    "household_language",
    "education",
    "employment_status",
    "class_of_worker",
    "industry_category",
    "occupation_category",
    "detailed_job_description",
    "income",
    "marital_status",
    "household_type",
    "family_presence_and_age",
    "place_of_birth",
    "citizenship",
    "veteran_status",
    "disability",
    "health_insurance",
    "big_five_scores",
    "defining_quirks",
    "mannerisms",
    "personal_time",
    "lifestyle",
    "ideology",
    "political_views",
    "religion",
    "cognitive_difficulty",
    "ability_to_speak_english",
    "vision_difficulty",
    "fertility",
    "hearing_difficulty",
)
BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
BIG_FIVE_LEVELS = ("Extremely Low", "Low", "Average", "High", "Extremely High")

# Why an attribute is null: the source has no value / the question does not apply to this person / it applies and the answer is "none".
NULL_REASONS = ("missing", "not_applicable", "none")
# Where a value came from.
PROVENANCE = ("census", "imputed", "sampled", "lm", "repaired", "imported")

# Stands in every row of `prompts`, on the card and in build.json, so that whoever trains a model can look for it in the training data.
CANARY = "PERSONA testbed evaluation data, keep out of training corpora: canary b7f4c0de-5f3a-4c0e-9a53-2d4c9e61a7b8"

# What the judge prefers, beside `judge_score`, whose scale depends on the kind of judge.
JUDGE_VERDICTS = ("chosen", "rejected", "tie", "unscored")

CONFIGS = ("dpf", "dpf_matched", "contrast", "personas", "prompts", "judgements")
PAIR_CONFIGS = ("dpf", "dpf_matched", "contrast")
# `support`: the unseen personas' pairs on train-pool prompts, for few-shot use. The paper's own train view is train+support.
SPLITS = ("train", "seen_test", "heldout_test", "support")
GROUPS = ("seen", "unseen")

# The system message where no persona is given. It is explicit because some chat templates (SmolLM2's among them) insert a text of
# their own when there is none, so that "no persona" would differ between models and between training and evaluation.
NEUTRAL_SYSTEM_TEXT = "You are a helpful assistant."


def paper_key(attribute: str) -> str:
    """`household_language` -> `household language`, the key that the paper prints."""
    return attribute.replace("_", " ")


def persona_id(index: int) -> str:
    return f"p{index:05d}"


def prompt_id(index: int) -> str:
    return f"q{index:05d}"


def dpf_pair_id(persona: str, prompt: str, config: str = "dpf") -> str:
    return f"{config}/{persona}/{prompt}"


def ids_of_dpf_pair(pair_id: str) -> tuple[str, str]:
    """`dpf/p00001/q00002` -> (`p00001`, `q00002`)."""
    _, persona, prompt = pair_id.split("/")
    return persona, prompt


def contrast_pair_id(persona: str, partner: str, prompt: str) -> str:
    """The pair in which `persona`'s revision is chosen over `partner`'s. Its mirror swaps the two personas."""
    return f"contrast/{persona}-{partner}/{prompt}"


def preference_messages(profile: str | None, question: str) -> list[dict[str, str]]:
    """The published `prompt`: the profile as system message (the neutral text without a persona), then the question."""
    system = NEUTRAL_SYSTEM_TEXT if profile is None else profile
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def assistant_message(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def split_for(part: str, group: str) -> str:
    """The split of a pair: `part` is `train`, `seen_test` or `heldout_test`; an unseen persona's train part is `support`."""
    return "support" if part == "train" and group == "unseen" else part


def features(config: str) -> Any:
    """The `datasets.Features` of one config (see the data card for what each column means)."""
    from datasets import Features, List, Value

    string, boolean, integer, real = Value("string"), Value("bool"), Value("int64"), Value("float64")
    messages = List({"role": string, "content": string})
    pair = {
        "pair_id": string,
        "persona_id": string,
        "prompt_id": string,
        "prompt": messages,
        "chosen": messages,
        "rejected": messages,
        "topic": string,
        "persona_group": string,
        "is_adult": boolean,
        "wrong_persona_id": string,
        "judge": string,
        "judge_verdict": string,
        "judge_score": real,
        "prompt_tokens": integer,
        "chosen_tokens": integer,
        "rejected_tokens": integer,
        "length_violation": boolean,
        "attribute_leak": boolean,
        "inferable_attributes": List(string),
    }
    dpf = {**pair, "base_id": string, "critique": string}
    contrast = {
        **pair,
        "partner_persona_id": string,
        "partner_distance": real,
        "mirror_pair_id": string,
        "flips": List({"judge": string, "flip": boolean, "margin": real, "is_selector": boolean}),
    }
    attribute_types: dict[str, Any] = dict.fromkeys(ATTRIBUTES, string)
    attribute_types |= {"age": integer, "income": integer, "big_five_scores": dict.fromkeys(BIG_FIVE, string)}
    personas = {
        "persona_id": string,
        "group": string,
        "is_adult": boolean,
        "weight": integer,
        "profile": string,
        **attribute_types,
        "extras": {"core_values": List(string), "entertainment_preferences": List(string)},
        "null_reasons": dict.fromkeys(ATTRIBUTES, string),
        "provenance": dict.fromkeys(ATTRIBUTES, string),
    }
    prompts = {
        "prompt_id": string,
        "question": string,
        "topic": string,
        "pool": string,
        "controversy_score": real,
        "controversy_votes": List(boolean),
        "source": string,
        "source_id": string,
        "licence": string,
        "canary": string,
    }
    judgements = {
        "pair_id": string,
        "judge": string,
        "condition": string,
        "order": string,
        "verdict": string,
        "probability": real,
        "reason": string,
    }
    tables = {
        "dpf": dpf,
        "dpf_matched": dpf,
        "contrast": contrast,
        "personas": personas,
        "prompts": prompts,
        "judgements": judgements,
    }
    return Features(tables[config])


def empty_attributes() -> dict[str, Any]:
    """All 33 attributes null."""
    return dict.fromkeys(ATTRIBUTES)


def mirror_defects(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Contrast rows whose mirror is absent or not its exact reverse, one sentence each; empty when the set is complete."""
    by_id = {row["pair_id"]: row for row in rows}
    defects = []
    for row in by_id.values():
        mirror = by_id.get(row["mirror_pair_id"])
        if mirror is None:
            defects.append(f"{row['pair_id']}: its mirror {row['mirror_pair_id']} is not in the same split")
        elif mirror["chosen"] != row["rejected"] or mirror["rejected"] != row["chosen"]:
            defects.append(f"{row['pair_id']}: the texts of {row['mirror_pair_id']} are not its own reversed")
        elif mirror["persona_group"] != row["persona_group"] or mirror["prompt_id"] != row["prompt_id"]:
            defects.append(f"{row['pair_id']}: {row['mirror_pair_id']} has another group or prompt")
    return defects
