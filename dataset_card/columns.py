"""What every published column means, as data: the card prints it, and a test compares it with the published tables."""

_PAIR = {
    "pair_id": "Never changes between versions of the dataset and says what the pair is: `{pair_id}`.",
    "persona_id": "The persona whose preference this is; a row of `personas`.",
    "prompt_id": "The question; a row of `prompts`.",
    "prompt": "Two chat messages: system (the persona's profile) and user (the question). TRL reads it as it is.",
    "chosen": "One assistant message: {chosen}.",
    "rejected": "One assistant message: {rejected}.",
    "topic": "The question's topic.",
    "persona_group": "`seen` (has rows in `train`) or `unseen` (never trained on).",
    "is_adult": "The persona is 18 or older; null where an imported persona's age is unknown.",
    "wrong_persona_id": (
        "A seeded third persona of the same group, for the wrong-persona control. Never the contrast partner, whose score would be "
        "just one minus the true one."
    ),
    "judge": "The judge of this row; `none` for imported pairs.",
    "judge_verdict": "What the judge prefers for this persona: `chosen`, `rejected`, `tie` or `unscored`; null if it was not asked.",
    "judge_score": (
        "How much the judge prefers `chosen` for this persona: P(chosen) over both orders for a judge that gives verdicts, the margin "
        "for a judge by likelihood. Null if unscored, never a half."
    ),
    "prompt_tokens": "Tokens of `prompt` under the tokenizer of the build.",
    "chosen_tokens": "Tokens of `chosen`.",
    "rejected_tokens": "Tokens of `rejected`.",
    "length_violation": (
        "`chosen` has at least as many tokens as `rejected`; in `dpf_matched`: the lengths differ by more than 20 % of those of `rejected`."
    ),
    "attribute_leak": "`chosen` states one of the persona's attribute values outright. Flagged, not dropped.",
    "inferable_attributes": (
        "Attributes whose true value a probe, fitted on other personas and questions, reads off `chosen`: ranked first, with a probability "
        "of at least one half and at least twice the share of personas who have the value, or, where more than a third have it, half-way "
        "from that share to certainty. Empty also where a build is too small to fit the probe."
    ),
}


def _pair(pair_id: str, chosen: str, rejected: str) -> dict[str, str]:
    """The columns that all pair tables share. Plain replacement: some descriptions hold braces of their own."""
    values = {"{pair_id}": pair_id, "{chosen}": chosen, "{rejected}": rejected}
    described = dict(_PAIR)
    for mark, value in values.items():
        described = {column: text.replace(mark, value) for column, text in described.items()}
    return described


_DPF_REST = {
    "base_id": "Identifies the base answer; all personas share one for a question, unless the recipe says `base_answer: fresh`.",
    "critique": (
        "What the critic said about the base answer on the persona's behalf; the reviser saw this and not the persona. Null where imported "
        "data lack it."
    ),
}

_ATTRIBUTES = {
    "age": "Age in years.",
    "sex": "Sex, as the census asks it.",
    "race": "Race, as the census asks it.",
    "ancestry": "First ancestry reported, often imputed from a donor record (see `provenance`).",
    "household_language": "Language group spoken in the household.",
    "education": "Highest schooling completed.",
    "employment_status": "Employment status; asked from 16 years of age.",
    "class_of_worker": "Private, government, self-employed and so on.",
    "industry_category": "Industry of the present or last job, in broad groups.",
    "occupation_category": "Occupation of the present or last job, in broad groups.",
    "detailed_job_description": "The occupation in the census's detailed wording, or written by a language model.",
    "income": "Personal income of the last 12 months in USD, may be negative; rounded unless the recipe says otherwise.",
    "marital_status": "Marital status.",
    "household_type": "Type of household.",
    "family_presence_and_age": "Whether own children live in the household, and their ages.",
    "place_of_birth": "Country or state of birth, often imputed from a donor record (see `provenance`).",
    "citizenship": "Citizenship status.",
    "veteran_status": "Military service.",
    "disability": "Whether any of the census's difficulties is reported.",
    "health_insurance": "Whether covered by health insurance, and how.",
    "big_five_scores": "Five traits from published norms; each level, from Extremely Low to Extremely High, is a fifth of all adults.",
    "defining_quirks": "A habit that marks the person out, sampled or written by a language model.",
    "mannerisms": "How the person speaks and moves, sampled or written by a language model.",
    "personal_time": "How free time is spent, sampled or written by a language model.",
    "lifestyle": "Way of living, sampled or written by a language model.",
    "ideology": "Ideology, sampled; not asked by the census.",
    "political_views": "Political views, sampled; not asked by the census.",
    "religion": "Religion, sampled; not asked by the census.",
    "cognitive_difficulty": "Difficulty remembering, concentrating or deciding.",
    "ability_to_speak_english": "How well English is spoken, where another language is spoken at home.",
    "vision_difficulty": "Blind, or serious difficulty seeing.",
    "fertility": "Gave birth within the last 12 months; asked of women of 15 to 50.",
    "hearing_difficulty": "Deaf, or serious difficulty hearing.",
}

COLUMNS: dict[str, dict[str, str]] = {
    "dpf": {
        **_pair(
            "dpf/p00012/q00345",
            "the base answer revised for this persona",
            "the base answer, written without any persona",
        ),
        **_DPF_REST,
    },
    "dpf_matched": {
        **_pair(
            "dpf_matched/p00012/q00345",
            "a revision for this persona, selected so that each pair has a counterpart with the lengths exchanged",
            "the base answer, written without any persona",
        ),
        **_DPF_REST,
    },
    "contrast": {
        **_pair(
            "contrast/p00012-p00077/q00345",
            "this persona's revision",
            "another persona's revision of the same base answer",
        ),
        "partner_persona_id": "The persona for whom `rejected` was written.",
        "partner_distance": (
            "Share of the attributes stated in the profiles in which the two personas differ, 0 to 1; null where a profile states nothing."
        ),
        "mirror_pair_id": "The row with the two personas, and so the two texts, exchanged; always in the same split and group.",
        "flips": (
            "One entry per judge: whether its preference turned round between the two personas, its margin, and whether it had a hand "
            "in selecting the texts."
        ),
    },
    "personas": {
        "persona_id": "Never changes between versions.",
        "group": "`seen` or `unseen`.",
        "is_adult": "18 or older.",
        "weight": "How many people the record drawn stands for: its survey weight, or what a file gives, else 1.",
        "profile": "The persona as text: the system message of its pairs.",
        **_ATTRIBUTES,
        "extras": "Core values and entertainment preferences: used by the paper's human study, outside the 33 attributes.",
        "null_reasons": "Why an attribute is null: `missing`, `not_applicable` or `none`; null where it has a value.",
        "provenance": "Where each value comes from: `census`, `imputed`, `sampled`, `lm`, `repaired` or `imported`.",
    },
    "prompts": {
        "prompt_id": "Never changes between versions.",
        "question": "The question as its author typed it.",
        "topic": "The source's own topic, or the three most telling words of its cluster.",
        "pool": "`train` (seen by some persona's training rows) or `heldout` (by none).",
        "controversy_score": (
            "Share of readable votes that people could want different answers, or the packaged model's probability; null without a "
            "classifier."
        ),
        "controversy_votes": "The readable votes themselves; empty for the packaged model.",
        "source": "Where the question comes from.",
        "source_id": "Its id there.",
        "licence": "The licence of the question's text.",
        "canary": "The same text in every row: whoever finds it in training data has trained on this dataset.",
    },
    "judgements": {
        "pair_id": "The pair judged.",
        "judge": "The judge: model, prompt and parser are named in `build.json`.",
        "condition": "`true`, `none` or `wrong`: whose profile the judge was shown.",
        "order": "Which of the two texts stood first.",
        "verdict": "`A`, `B`, `tie` or `unscored`.",
        "probability": "The judge's probability of the chosen text, where it gives one.",
        "reason": "What the judge said, or why there is no verdict.",
    },
}

# Parts of a column that is a struct or a list of structs. In `null_reasons` and `provenance` each part is named as its attribute.
SUBCOLUMNS = {
    "role": "Who speaks: `system`, `user` or `assistant`.",
    "content": "The message's text.",
    "judge": "The judge.",
    "flip": "Its preference turned round between the two personas.",
    "margin": "How much it preferred each persona's own text.",
    "is_selector": "It had a hand in selecting the texts.",
    "core_values": "What matters most to the persona.",
    "entertainment_preferences": "What the persona likes to watch, read, hear or play.",
    **{
        trait: f"Level of {trait}: a fifth of all adults has each."
        for trait in ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
    },
}

CONFIG_MEANINGS = {
    "dpf": "persona x prompt: the base answer against its revision for this persona (the paper's pairs)",
    "dpf_matched": "the same pairs, length-neutral",
    "contrast": "prompt x ordered pair of personas: one persona's revision against the other's, every pair with its mirror",
    "personas": "one persona",
    "prompts": "one question",
    "judgements": "one call of a judge",
}
SPLIT_MEANINGS = {
    "train": "seen personas, training questions",
    "seen_test": "both groups; questions that others trained on, never this persona",
    "heldout_test": "both groups; questions that nobody trained on",
    "support": "unseen personas, training questions: for few-shot use only",
}
