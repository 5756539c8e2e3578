"""All figures of one design and judge, computed from the kept marks and from nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from builder.randomness import rng_for
from eval.attributes.influence import (
    FDR,
    FEWEST_PERSONAS,
    QUARTILES,
    Mark,
    Marks,
    agreement_of,
    by_influence,
    determination_of,
    flipped,
    influence_of,
    with_discoveries,
)
from eval.results import too_many_unscored
from training.estimates import estimate_columns

CONTROLS = ("blind", "wrong")


def content_of(
    asked: Sequence[Mapping[str, str]],
    marks: Mapping[str, Mark],
    design: str,
    not_tried: Mapping[str, str],
    rows: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """asked: rows of ASKED_COLUMNS (eval.attributes.run). marks: item id -> verdict, None if unscored. rows: `Result.rows`."""
    said = _by_question(asked, marks)
    by_attribute = {
        name: [Marks(p, q, arms["base"], arms["changed"], arms["null"]) for p, q, arms, _ in of]
        for name, of in said.items()
    }
    influences = with_discoveries([influence_of(name, by_attribute[name], seed) for name in sorted(by_attribute)])
    gate = too_many_unscored(dict(rows))
    content = {
        "design": design,
        "fdr": FDR,
        "fewest_personas": FEWEST_PERSONAS,
        "withheld": gate,
        "not_tried": dict(not_tried),
    }
    if gate is not None:
        return content | {"attributes": [], "tested": 0, "null": None, "controls": {}, "determination": None}
    return content | {
        "attributes": sorted(influences, key=by_influence),
        "tested": sum(row["p"] is not None for row in influences),
        "null": _null(said, influences, seed),
        "controls": {arm: _against_base(said, arm, seed) for arm in CONTROLS},
        # The whole persona in many wordings: only where all units of a persona judge the same pairs.
        "determination": determination_of(by_attribute, seed) if design == "leave_one_out" else None,
    }


Said = dict[str, list[tuple[str, str, dict[str, Mark], dict[str, str]]]]


def _by_question(asked: Sequence[Mapping[str, str]], marks: Mapping[str, Mark]) -> Said:
    """attribute -> (persona, question, arm -> mark, arm -> item) in the order of personas and questions."""
    found: dict[tuple[str, str, str], tuple[dict[str, Mark], dict[str, str]]] = {}
    for row in asked:
        arms, items = found.setdefault((row["attribute"], row["persona_id"], row["prompt_id"]), ({}, {}))
        arms[row["arm"]] = marks[row["item_id"]] if row["item_id"] else None
        items[row["arm"]] = row["item_id"]
    said: Said = {}
    for attribute, persona, prompt in sorted(found):
        said.setdefault(attribute, []).append((persona, prompt, *found[attribute, persona, prompt]))
    return said


def _null(said: Said, influences: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The null arm over all attributes; where attributes share a persona's null, it counts once. `spread`: quartiles of its kappas by
    persona and attribute, the band of the figure.
    """
    kappas = [kappa for row in influences for kappa in row["null"]["kappas"].values() if kappa is not None]
    spread = [float(value) for value in np.quantile(kappas, QUARTILES)] if kappas else None
    return _against_base(said, "null", seed) | {"spread": spread}


def _against_base(said: Said, arm: str, seed: int) -> dict[str, Any]:
    """{kappa, quartiles, undefined, flip_rate, rows} of one annotator against `base`."""
    rows: dict[tuple[str, str, str, str], tuple[str, str, Mark, Mark]] = {}
    for of in said.values():
        for persona, prompt, arms, items in of:
            if arm in arms:
                rows[persona, prompt, items["base"], items[arm]] = (persona, prompt, arms["base"], arms[arm])
    pairs = [rows[key] for key in sorted(rows)]
    if not pairs:
        return {"kappa": None, "quartiles": None, "undefined": {}, "flip_rate": None, "rows": 0}
    flips = np.array([[flipped(first, second)] for _, _, first, second in pairs])
    rng = rng_for(seed, "eval/attributes/flips", f"arm/{arm}")
    rate = estimate_columns(flips, [(p,) for p, *_ in pairs], rng, prompts=[q for _, q, *_ in pairs])[0]
    agreement = agreement_of(pairs, seed, f"arm/{arm}")
    agreement.pop("kappas")
    return agreement | {"flip_rate": asdict(rate), "rows": len(pairs)}
