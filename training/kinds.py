"""The methods that can be trained, by the names of their scripts, and what is to be known of each elsewhere. Imports nothing, because the
launcher and the command line read it.

Beside its script and what stands here a new method needs the keys that it does not read (unread_keys.py), what makes it blind
(record.is_blind), its prose in a card (model_card.py, model_card_results.py) and its notes in a sweep's table (sweep_table_text.py).
"""

# On TRL's trainers: they read a persona as text, and transformers and PEFT load what they write.
TRL_KINDS = ("dpo", "reward")
# With a loop of their own: only this project loads them.
OWN_KINDS = ("low_rank", "vpl", "p_dpo", "per_persona")
METHODS = (*TRL_KINDS, *OWN_KINDS)

# These never read a profile, so that leaving out attributes would change nothing.
READS_NO_PROFILE = OWN_KINDS
# These know a persona by its id: prompts without a profile are their way and do not make them blind.
BY_PERSONA_ID = ("p_dpo", "per_persona")
# These learn a persona from its labelled pairs, whatever stands in the prompt.
LEARN_FROM_PAIRS = ("low_rank", "vpl")

# Of a model: in a column of a table, above its card, and in a line of an evaluation. Of the training: in the help.
SHORT_NAMES = {
    "dpo": "DPO model",
    "reward": "reward model",
    "low_rank": "low-rank head",
    "vpl": "VPL model",
    "p_dpo": "P-DPO model",
    "per_persona": "adapter a persona",
}
TITLES = {
    "dpo": "DPO model",
    "reward": "Reward model",
    "low_rank": "Low-rank reward head with weights for each persona",
    "vpl": "Reward model that infers a persona from labelled pairs (VPL)",
    "p_dpo": "DPO model with soft tokens for each persona (P-DPO)",
    "per_persona": "A reward adapter for each of a few personas",
}
DESCRIPTIONS = {
    "dpo": "DPO model, by its implicit reward",
    "reward": "reward model",
    "low_rank": "low-rank reward head on frozen embeddings",
    "vpl": "variational few-shot reward model (VPL)",
    "p_dpo": "DPO model with soft tokens for each persona (P-DPO), by its implicit reward",
    "per_persona": "reward adapters, one for each of a few personas",
}
HELP = {
    "dpo": "A persona-conditioned DPO model.",
    "reward": "A persona-conditioned reward model.",
    "low_rank": "A low-rank reward head on frozen embeddings.",
    "vpl": "A variational encoder of a persona's labelled pairs.",
    "p_dpo": "DPO with soft tokens for each persona.",
    "per_persona": "An adapter of its own for each of a few personas.",
}
