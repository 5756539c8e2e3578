"""Words for what the data say in a code."""

CONFIG_WORDS = {
    "dpf": "The base answer against its revision for this persona.",
    "dpf_matched": "As dpf, with both answers of about one length.",
    "contrast": "One persona's revision against another persona's, every pair with its mirror.",
    "personas": "Who is asking: 33 attributes and the profile that models are shown.",
    "prompts": "The questions, with topic and votes on whether people disagree about them.",
    "judgements": "Every verdict of every judge: one pair, one condition, one order of the answers.",
}
SPLIT_WORDS = {
    "train": "seen personas, training questions",
    "seen_test": "questions that others trained on, never this persona",
    "heldout_test": "questions that nobody trained on",
    "support": "unseen personas, training questions: for few-shot use only",
}
SIDES = {
    "dpf": ("the revision for this persona", "the base answer, written for nobody in particular"),
    "dpf_matched": ("the revision for this persona", "the base answer, rewritten to about the same length"),
    "contrast": ("this persona's revision", "the partner's revision of the same answer"),
}
PROVENANCE_WORDS = {
    "census": "census record",
    "imputed": "from a donor record",
    "sampled": "drawn from a published distribution",
    "lm": "written by a language model",
    "repaired": "drawn again, so that it fits the rest",
    "imported": "imported",
}
NULL_WORDS = {
    "missing": "the source does not say",
    "not_applicable": "does not apply to this person",
    "none": "applies, and the answer is none",
}
CONDITION_WORDS = {"true": "its persona", "none": "no persona", "wrong": "a wrong persona", "partner": "the partner"}
FLAG_WORDS = {
    "flip": ("Judge changes sides", "The judge prefers each persona's own revision under that persona"),
    "length": ("Length violation", "chosen has at least as many tokens as rejected"),
    "leak": ("Attribute leak", "chosen states one of the persona's attribute values outright"),
    "adult": ("Adult", "The persona is 18 or older"),
}
