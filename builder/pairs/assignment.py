"""Who is asked what: prompts to personas, and to each pair the wrong persona of its control.

Persona and prompt are drawn independently (paper, section 3.2): nothing here looks at what a persona or a prompt contains, so no link
between topic and demographics can be learned from the assignment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.randomness import rng_for
from builder.recipe import PairsRecipe
from builder.schema import GROUPS


@dataclass(frozen=True)
class Assigned:
    """`part`: `train` or `seen_test` (both from the train pool) or `heldout_test`."""

    persona_id: str
    prompt_id: str
    part: str


def assign_prompts(
    seed: int, pairs: PairsRecipe, persona_ids: Sequence[str], prompts: Sequence[dict[str, Any]]
) -> list[Assigned]:
    """For each persona `train` + `seen_test` prompts of the train pool and `heldout_test` of the held-out pool, without overlap.

    A persona's prompts depend on the seed, its id and the pools only, so other personas can come and go.
    """
    pools = {name: sorted(p["prompt_id"] for p in prompts if p["pool"] == name) for name in ("train", "heldout")}
    needed = {"train": pairs.train + pairs.seen_test, "heldout": pairs.heldout_test}
    for name, count in needed.items():
        if len(pools[name]) < count:
            raise InputError(
                f"Each persona needs {count} prompts of the {name} pool, and {len(pools[name])} passed the filters. Give more "
                "prompts, or lower pairs.train, pairs.seen_test or pairs.heldout_test."
            )
    assigned = []
    for persona in sorted(persona_ids):
        rng = rng_for(seed, "assignment", persona)
        train_pool = [pools["train"][i] for i in rng.permutation(len(pools["train"]))[: needed["train"]]]
        heldout = [pools["heldout"][i] for i in rng.permutation(len(pools["heldout"]))[: needed["heldout"]]]
        assigned += [Assigned(persona, q, "train") for q in train_pool[: pairs.train]]
        assigned += [Assigned(persona, q, "seen_test") for q in train_pool[pairs.train :]]
        assigned += [Assigned(persona, q, "heldout_test") for q in heldout]
    return assigned


def wrong_persona(seed: int, pair_id: str, involved: Collection[str], group_members: Sequence[str]) -> str | None:
    """A seeded persona of the same group that has no part in the pair, for the wrong-persona control; None if there is none.

    Never the contrast partner: under the partner's profile a contrast pair is its own mirror, so the control would be one minus the
    true score.
    """
    others = [p for p in sorted(group_members) if p not in involved]
    if not others:
        return None
    return others[int(rng_for(seed, "wrong_persona", pair_id).integers(len(others)))]


def members_by_group(personas: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    return {group: [p["persona_id"] for p in personas if p["group"] == group] for group in GROUPS}
