"""What a profile states, attribute by attribute, and the same said otherwise: in part, in prose, or with gaps.

A profile is the text that the judge saw, `Label: value` a line (builder.personas.profile). Everything here is made from those lines and
from nothing else, so that no mode tells a model more than `full` does.
"""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

import numpy as np

from builder.errors import InputError
from builder.personas.profile import HEADER, NULL_WORDS, label
from builder.prompts.vectors import sentence_vectors
from builder.randomness import rng_for
from builder.schema import ATTRIBUTES, BIG_FIVE, BIG_FIVE_LEVELS, paper_key

PSYCHOGRAPHICS = (
    "big_five_scores",
    "defining_quirks",
    "mannerisms",
    "personal_time",
    "lifestyle",
    "ideology",
    "political_views",
    "religion",
)
DEMOGRAPHICS = tuple(name for name in ATTRIBUTES if name not in PSYCHOGRAPHICS)
BY_KEY = {paper_key(name): name for name in ATTRIBUTES}

Stated = Mapping[str, str]  # attribute -> value as the profile has it, in the profile's order

# Whole sentences for the values of which there are few.
SENTENCES: dict[str, dict[str, str]] = {
    "age": {"1": "They are 1 year old."},
    "sex": {"Male": "They are male.", "Female": "They are female."},
    "household_language": {"English only": "Their household speaks English only."},
    "education": {"No schooling completed": "They have completed no schooling."},
    "employment_status": {
        "Civilian employed, at work": "They are a civilian, employed and at work.",
        "Civilian employed, with a job but not at work": "They are a civilian, employed, with a job but not at work.",
        "Armed forces, at work": "They are in the armed forces and at work.",
        "Armed forces, with a job but not at work": "They are in the armed forces, with a job but not at work.",
        "Unemployed": "They are unemployed.",
        "Not in labor force": "They are not in the labor force.",
    },
    "income": {"No personal income": "They have no personal income."},
    "marital_status": {
        "Married": "They are married.",
        "Widowed": "They are widowed.",
        "Divorced": "They are divorced.",
        "Separated": "They are separated.",
        "Never married": "They have never been married.",
        "Never married or under 15 years old": "They have never been married or are under 15 years old.",
    },
    "family_presence_and_age": {
        "No related children": "In their family there are no related children.",
        "No children": "In their family there are no children.",
    },
    "citizenship": {
        "U.S. citizen by naturalization": "They are a U.S. citizen by naturalization.",
        "Not a U.S. citizen": "They are not a U.S. citizen.",
    },
    "veteran_status": {
        "On active duty": "They are on active duty.",
        "Veteran": "They are a veteran.",
        "Trained in the Reserves or National Guard only": "They were trained in the Reserves or National Guard only.",
        "Non-Veteran": "They are not a veteran.",
    },
    "disability": {"With a disability": "They have a disability."},
    "health_insurance": {
        "With health insurance coverage": "They have health insurance coverage.",
        "No health insurance coverage": "They have no health insurance coverage.",
    },
    "ideology": {
        "Very conservative": "Their ideology is very conservative.",
        "Conservative": "Their ideology is conservative.",
        "Moderate": "Their ideology is moderate.",
        "Liberal": "Their ideology is liberal.",
        "Very liberal": "Their ideology is very liberal.",
    },
    "political_views": {
        "Democrat": "In politics they are a Democrat.",
        "Leans Democrat": "In politics they lean Democrat.",
        "Independent": "In politics they are an independent.",
        "Leans Republican": "In politics they lean Republican.",
        "Republican": "In politics they are a Republican.",
    },
    "religion": {"No particular religion": "They have no particular religion."},
    "cognitive_difficulty": {"Yes": "They have a cognitive difficulty."},
    "vision_difficulty": {"Yes": "They have a vision difficulty."},
    "hearing_difficulty": {"Yes": "They have a hearing difficulty."},
    "ability_to_speak_english": {
        "Very well": "They speak English very well.",
        "Well": "They speak English well.",
        "Not well": "They do not speak English well.",
        "Not at all": "They do not speak English at all.",
    },
    "fertility": {
        "Gave birth to a child within the past 12 months": "They gave birth to a child within the past 12 months."
    },
}
# Any other value stands in a sentence that is one with every value. After a colon where it may be a phrase of any shape: a language model
# may have written it. Class of worker, industry and occupation are only quoted: they may be those of a job that is no more.
GIVEN_AS = "Their {label} is given as {value}."
FORMS = {
    "detailed_job_description": "Their work is described so: {value}.",
    "family_presence_and_age": "This is given on the presence and age of family: {value}.",
    "household_type": "Their household is of this type: {value}.",
    "big_five_scores": "Their Big Five scores are given as {value}.",
    "defining_quirks": "This is a defining quirk of theirs: {value}.",
    "mannerisms": "Their mannerisms are described so: {value}.",
    "personal_time": "They spend personal time in this way: {value}.",
    "lifestyle": "Their lifestyle is described so: {value}.",
    "political_views": "Their political views are given as {value}.",
}
# What our profiles print for a null, and the paper's.
NULLS = {
    NULL_WORDS["missing"]: "On {label} nothing is known.",
    NULL_WORDS["not_applicable"]: "The question of {label} does not apply to them.",
    NULL_WORDS["none"]: "On {label} the answer is none.",
    "nan": "On {label} nothing is stated.",
}
# Pieces of a value that are sentences with a few words before them.
STARTS = {
    "citizenship": (r"Born (in|abroad) .*", "They were born {rest}.", "Born "),
    "family_presence_and_age": (r"With .*children.*", "In their family there are {rest}.", "With "),
    "age": (r"\d+", "They are {rest} years old.", ""),
}


def stated_attributes(profile: str) -> dict[str, str]:
    """Attribute -> value, in the profile's order; a line with another key stands under that key. Keys as our profiles or the paper print
    them. A line without a key goes on with the value before it; what stands before the first key is an opening and is left out.

    Raises InputError for a text that is not a profile of lines.
    """
    stated: dict[str, str] = {}
    last = None
    for line in map(str.strip, profile.splitlines()):
        key, colon, value = line.partition(": ")
        if colon:
            last = BY_KEY.get(" ".join(key.lower().replace("_", " ").split()), key)
            stated.setdefault(last, value)
        elif line and last is not None and not line.endswith(":"):
            stated[last] += f" {line}"
    if not set(stated) & set(ATTRIBUTES):
        raise InputError(
            f"A profile begins {profile[:60]!r} and has no line `Label: value`, so no part of it can be chosen. Use persona: full, none or "
            "few_shot with this dataset."
        )
    return stated


def as_lines(stated: Stated) -> str:
    return "\n".join([HEADER, *(line_of(name, value) for name, value in stated.items())])


def line_of(name: str, value: str) -> str:
    return f"{label(name) if name in ATTRIBUTES else name}: {value}"


def as_prose(stated: Stated) -> str:
    """A biography in the third person: one sentence an attribute, in the profile's order, under the profile's header.

    Each sentence says what its line says. An attribute that is null is said to be so where the profile has a line for it.
    """
    return "\n".join([HEADER, *([" ".join(sentence(name, value) for name, value in stated.items())] if stated else [])])


def sentence(name: str, value: str) -> str:
    label_inside = label(name)[0].lower() + label(name)[1:] if name in ATTRIBUTES else name
    if value in SENTENCES.get(name, {}):
        return SENTENCES[name][value]
    if value in NULLS:
        return NULLS[value].format(label=label_inside)
    if name == "big_five_scores" and (levels := _big_five_levels(value)):
        return f"They are {', '.join(levels[:-1])} and {levels[-1]}."
    if name in STARTS:
        pattern, form, start = STARTS[name]
        if re.fullmatch(pattern, value):
            return form.format(rest=value.removeprefix(start))
    ended = value.rstrip(". ")
    said = FORMS.get(name, GIVEN_AS).format(label=label_inside, value=ended)
    return said.removesuffix(".") if ended.endswith(("!", "?")) else said


def _big_five_levels(value: str) -> list[str]:
    """`Openness: Low, ...` -> [`low in openness`, ...]; empty for anything else."""
    levels = dict(part.partition(": ")[::2] for part in value.split(", "))
    if list(levels) != [trait.capitalize() for trait in BIG_FIVE] or not set(levels.values()) <= set(BIG_FIVE_LEVELS):
        return []
    return [f"{level.lower()} in {trait.lower()}" for trait, level in levels.items()]


def prose_wording() -> list[str]:
    """Every sentence that as_prose has, so that a checkpoint's template hash changes with any of them."""
    fixed = [f"{name} {value} {said}" for name, known in SENTENCES.items() for value, said in known.items()]
    open_forms = [f"{name} {form}" for forms in (FORMS, NULLS, STARTS) for name, form in forms.items()]
    levels = ", ".join(f"{trait.capitalize()}: {BIG_FIVE_LEVELS[0]}" for trait in BIG_FIVE)
    return [*fixed, *open_forms, GIVEN_AS, as_prose({"big_five_scores": levels})]


def only(stated: Stated, names: Collection[str]) -> dict[str, str]:
    return {name: value for name, value in stated.items() if name in names}


def relevant(stated: Stated, question: str, count: int) -> dict[str, str]:
    """The `count` attributes whose lines are nearest to the question, in the profile's order; all where there are no more.

    Nearness is the cosine of the mean word vectors of line and question: a similarity of words and nothing more. It does not know which
    attributes bear on the answer. Of equally near lines the first counts.
    """
    names = list(stated)
    lines = tuple(line_of(name, value) for name, value in stated.items())
    # Rounded, so that a machine's last bits decide nothing.
    nearness = np.round(_vectors(lines) @ _vectors((question,))[0], 6)
    nearest = np.argsort(-nearness, kind="stable")[:count]
    return {names[place]: stated[names[place]] for place in sorted(nearest)}


@lru_cache(maxsize=8192)
def _vectors(texts: tuple[str, ...]) -> np.ndarray:
    """A persona's lines meet hundreds of questions. About 25 kB for a full profile of 33 lines."""
    return sentence_vectors(texts)


def corrupted(stated: Stated, share: float, seed: int) -> dict[str, str]:
    """Without `share` of the attributes, rounded to the nearest number. What a smaller share leaves out, a larger one leaves out too."""
    order = rng_for(seed, "persona_corruption", as_lines(stated)).permutation(len(stated))
    gone = {list(stated)[place] for place in order[: round(share * len(stated))]}
    return {name: value for name, value in stated.items() if name not in gone}
