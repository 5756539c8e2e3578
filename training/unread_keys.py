"""Keys of the recipe that a method does not read. To take them and do nothing would look as if they had done something.

`validation_share` is not among them: it keeps the same rows back from every method. Nor is `score_cache`, which a sweep gives to all alike
and which changes no figure.
"""

from training.arguments import TrainingRun

QUANTISATION = (
    "load_in_4bit",
    "load_in_8bit",
    "bnb_4bit_quant_type",
    "bnb_4bit_quant_storage",
    "use_bnb_nested_quant",
)
LORA = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "use_rslora",
    "use_dora",
)
# Of TRL's trainers in training.run, and of what hangs on them.
TRAINER = (
    "merge_adapter",
    "keep_checkpoints",
    "robust_groups",
    "robust_step",
    "early_stopping_metric",
    "early_stopping_patience",
    "reference_persona",
    *QUANTISATION,
)
# Of how a profile is shown: these methods' prompts never show one.
PROFILE = ("persona_budget", "relevant_attributes", "few_shot_pairs", "persona_dropout", "persona_corruption")
# A persona's own rows and labelled pairs are looked at, its profile is not; persona_budget stops a run whose profiles are longer.
HEADS = (*TRAINER, *LORA, "share_prompt", "attn_implementation", "relevant_attributes", "persona_corruption")

UNREAD = {
    "dpo": (),
    "reward": ("reference_persona",),
    "low_rank": HEADS,
    "vpl": HEADS,
    "p_dpo": (*TRAINER, *PROFILE, "share_prompt", "attn_implementation"),
    "per_persona": (*TRAINER, *PROFILE),
}
# Where these are false, something else is asked for; every other key is switched off by what is false or zero.
ON_BY_DEFAULT = ("reference_persona", "share_prompt")


def unread_keys(run: TrainingRun, method: str) -> list[str]:
    """Those that recipe or command line set to something."""
    given = run.given
    return [key for key in UNREAD[method] if given.get(key) or (key in ON_BY_DEFAULT and given.get(key) is not None)]
