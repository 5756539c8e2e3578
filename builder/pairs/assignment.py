"""Who is asked what: prompts to personas, and to each pair the wrong persona of its control.

Persona and prompt are drawn independently (paper, section 3.2): nothing here looks at what a persona or a prompt contains, so no link
between topic and demographics can be learned from the assignment.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from builder.errors import InputError
from builder.randomness import rng_for
from builder.recipe import PairsRecipe
from builder.schema import GROUPS

PARTS = ("train", "seen_test", "heldout_test")


@dataclass(frozen=True, slots=True)
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
    pools = prompts_by_pool(prompts)
    needed = {"train": pairs.train + pairs.seen_test, "heldout": pairs.heldout_test}
    for name, count in needed.items():
        if len(pools[name]) < count:
            raise InputError(
                f"Each persona needs {count} prompts of the {name} pool, and {len(pools[name])} passed the filters. Give more "
                "prompts, or lower pairs.train, pairs.seen_test or pairs.heldout_test."
            )
    parts = ["train"] * pairs.train + ["seen_test"] * pairs.seen_test + ["heldout_test"] * pairs.heldout_test
    assigned = []
    for persona in sorted(persona_ids):
        rng = rng_for(seed, "assignment", persona)
        drawn = [pool[i] for name, pool in pools.items() for i in rng.permutation(len(pool))[: needed[name]].tolist()]
        assigned += [Assigned(persona, prompt, part) for prompt, part in zip(drawn, parts, strict=True)]
    return assigned


def assign_more(
    seed: int,
    more: Mapping[str, int],
    persona_ids: Iterable[str],
    asked: Iterable[Assigned],
    prompts: Sequence[dict[str, Any]],
) -> list[Assigned]:
    """For personas that were `asked` before: `more` prompts a part, of those that the persona has not been asked."""
    if not any(more.values()):
        return []
    before: dict[str, set[str]] = {}
    for a in asked:
        before.setdefault(a.persona_id, set()).add(a.prompt_id)
    pools = prompts_by_pool(prompts)
    assigned = []
    for persona in sorted(persona_ids):
        known = before.get(persona, set())
        rng = rng_for(seed, "assignment of more", f"{persona}/{len(known)}")
        for pool, parts in (("train", ("train", "seen_test")), ("heldout", ("heldout_test",))):
            left = [prompt for prompt in pools[pool] if prompt not in known]
            order = iter(rng.permutation(len(left)).tolist())
            assigned += [Assigned(persona, left[i], part) for part in parts for i in islice(order, more[part])]
    return assigned


def prompts_by_pool(prompts: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The prompt ids of each pool in ascending order."""
    return {pool: sorted(p["prompt_id"] for p in prompts if p["pool"] == pool) for pool in ("train", "heldout")}


def wrong_persona(seed: int, pair_id: str, involved: Collection[str], group_members: Sequence[str]) -> str | None:
    """A seeded persona of the same group that has no part in the pair, for the wrong-persona control; None if there is none.

    `group_members`: ids in ascending order, as `members_by_group` gives them.

    Never the contrast partner: under the partner's profile a contrast pair is its own mirror, so the control would be one minus the
    true score.
    """
    # Asked for every row of the largest tables, so the list is neither copied nor filtered: the draw steps over those involved.
    places = [bisect_left(group_members, persona) for persona in involved]
    taken = sorted(
        place
        for place, persona in zip(places, involved, strict=True)
        if place < len(group_members) and group_members[place] == persona
    )
    others = len(group_members) - len(taken)
    if others == 0:
        return None
    drawn = int(rng_for(seed, "wrong_persona", pair_id).integers(others))
    for place in taken:
        drawn += drawn >= place
    return group_members[drawn]


def members_by_group(personas: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The persona ids of each group in ascending order."""
    return {group: sorted(p["persona_id"] for p in personas if p["group"] == group) for group in GROUPS}
