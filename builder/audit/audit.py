"""The audit of a build: can the pairs be won without the persona, and do the splits hold what they promise?

What must hold by construction (splits, mirrors, ids) is proved over all rows. Shortcuts are measured within pairs: given chosen and
rejected, which one would a rule or a fitted probe take that never sees the persona? The paper's own pairs are shorter on the chosen side
by instruction, so `dpf` is reported, not judged; `dpf_matched` has bands in the recipe; on `contrast` every blind probe must get exactly
one half.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.audit.checks import Check, Outcome, figure, proof, shares, unknown
from builder.audit.pairs import Pairs, read_pairs
from builder.audit.probes import length_outcomes, probe_outcomes
from builder.audit.proofs import (
    BUILD,
    judgement_proofs,
    matched_proofs,
    mirror_proofs,
    pair_proofs,
    people_proofs,
    prompt_proofs,
    revision_proofs,
    row_proof,
    straddling,
)
from builder.files import write_json
from builder.pairs.inferable import FEWEST_PERSONAS, RECOVERED, guess_attributes
from builder.personas.groups import COMPARED
from builder.pipeline import finished_build
from builder.recipe import AuditRecipe
from builder.schema import PAIR_CONFIGS
from builder.tables import STAGE_OF_TABLE, read_columns

Row = dict[str, Any]


def audit_build(run: Path) -> list[Check]:
    """Audit the finished build in RUN, write RUN/audit.json and return its checks, proofs first.

    A check is {name, value, low, high, n, verdict, note, band, proof}: `low` and `high` are the 95 % interval or null, `band` what the
    recipe allows or null, verdict `pass`, `fail`, `report` or `inconclusive`. Raises InputError for a build that is not finished.
    """
    build = finished_build(run)
    configs = [config for config in PAIR_CONFIGS if config in build["recipe"]["configs"]]
    recipe, seed = AuditRecipe(**build["recipe"]["audit"]), build["recipe"]["seed"]
    personas = read_columns(
        run, "personas", ["persona_id", "group", "profile", *sorted({*COMPARED, *RECOVERED})]
    ).to_pylist()
    prompts = read_columns(run, "prompts", ["prompt_id", "question", "pool"]).to_pylist()

    divided = (build["stages"]["personas"].get("clusters") or {}).get("divided", 0)
    proofs = [
        *people_proofs(run, personas, divided),
        *prompt_proofs(prompts, build["recipe"]["prompts"]["near_duplicate_similarity"]),
    ]
    measured: list[Check] = []
    counted: dict[int, int] = {}
    tables: dict[str, Pairs] = {}
    for config in configs:
        pairs = read_pairs(
            run,
            config,
            [p["persona_id"] for p in personas],
            [p["prompt_id"] for p in prompts],
            seed,
            recipe.probe_pairs,
            counted,
        )
        tables[config] = pairs
        groups, pools = (
            np.array([row[key] for row in rows], dtype=object) for rows, key in ((personas, "group"), (prompts, "pool"))
        )
        proofs += mirror_proofs(pairs) if config == "contrast" else []
        proofs += matched_proofs(pairs) if config == "dpf_matched" else []
        proofs += pair_proofs(pairs, groups, pools)
        proofs.append(row_proof(pairs, build["stages"][STAGE_OF_TABLE[config]]))
        measured += config_checks(pairs, personas, prompts, recipe, seed)
    combinations = sum(map(len, tables.values()))
    note = "each combination in one split, over all configs and both personas of a pair"
    proofs.append(
        proof(BUILD, "persona-prompt pairs in two splits", straddling(list(tables.values())), combinations, note)
    )
    if "contrast" in tables and "dpf" in tables:
        proofs += revision_proofs(tables["contrast"], tables["dpf"])
    if "judgements" in build["recipe"]["configs"]:
        proofs += judgement_proofs(run, list(tables.values()), build.get("judgements"))
    checks = [*proofs, *measured]
    write_json(run / "audit.json", {"fingerprint": build["fingerprint"], "checks": checks})
    return checks


def failures(checks: Sequence[Check]) -> list[str]:
    """One phrase per failed check, proofs first; `proof` of a check says of which kind it is."""
    failed = sorted((c for c in checks if c["verdict"] == "fail"), key=lambda c: not c.get("proof"))
    return [f"{c['name']}: {_shown(c['value'])} ({c['note']})" for c in failed]


def config_checks(
    pairs: Pairs, personas: Sequence[Row], prompts: Sequence[Row], recipe: AuditRecipe, seed: int
) -> list[Check]:
    """What rules, probes and flags say of one pair table."""
    matched = pairs.config == "dpf_matched"
    length_band, text_band = (recipe.matched_length, recipe.matched_text) if matched else (None, None)
    everywhere = [
        *length_outcomes(pairs, length_band),
        Outcome("chosen names an attribute", pairs.names_attribute, "chosen texts that state one"),
        Outcome("chosen gives an attribute away", pairs.gives_away > 0, "chosen texts from which a probe infers one"),
    ]
    if pairs.config == "dpf":
        everywhere.append(Outcome("chosen not shorter", pairs.not_shorter, "against the paper's revision order"))
    questions, profiles = [p["question"] for p in prompts], [p["profile"] for p in personas]
    sampled = probe_outcomes(pairs, questions, profiles, length_band, text_band, seed)
    checks = [
        *shares(pairs.config, everywhere, pairs.clusters(), seed, recipe.min_pairs),
        *shares(pairs.config, sampled, pairs.clusters(pairs.sample.rows), seed, recipe.min_pairs),
    ]
    if pairs.config != "contrast":  # whose chosen texts are those of dpf
        checks += [*length_difference(pairs), *recovery_checks(pairs, personas, recipe, seed)]
    return checks


def length_difference(pairs: Pairs) -> list[Check]:
    """The median of (chosen - rejected) / rejected in tokens."""
    known = pairs.rejected_tokens > 0
    name, note = "median length difference", "chosen against rejected in tokens, as a share of rejected"
    if not known.any():
        return [unknown(pairs.config, name, 0, note)]
    difference = (pairs.chosen_tokens[known] - pairs.rejected_tokens[known]) / pairs.rejected_tokens[known]
    return [figure(pairs.config, name, float(np.median(difference)), int(known.sum()), note)]


def recovery_checks(pairs: Pairs, personas: Sequence[Row], recipe: AuditRecipe, seed: int) -> list[Check]:
    """How much more often each attribute is guessed rightly from the sampled answers than by always saying its most frequent value."""
    import pyarrow as arrow

    rows = pairs.sample.rows
    people, asked = pairs.persona[rows], pairs.prompt[rows]
    known = np.flatnonzero((people >= 0) & (asked >= 0))
    sample = arrow.table(
        {
            "pair_id": pairs.pair_ids.take(rows[known]),
            "persona_id": [pairs.personas[p] for p in people[known]],
            "prompt_id": [pairs.prompts[p] for p in asked[known]],
            "chosen": [pairs.sample.chosen[i] for i in known],
        }
    )
    outcomes = [
        Outcome(
            f"{guesses.attribute.replace('_', ' ')} is read off",
            guesses.gain,
            f"guessed rightly from {guesses.right.sum() / max(1, guesses.known.sum()):.3f} of the chosen answers, less "
            f"{guesses.baseline:.3f} by always saying the most frequent value",
        )
        for guesses in guess_attributes(sample, personas, seed)
    ]
    if not outcomes:
        note = f"needs answers of at least {FEWEST_PERSONAS} personas to two prompts"
        return [unknown(pairs.config, "attributes are read off", len(set(people.tolist())), note)]
    return shares(pairs.config, outcomes, pairs.clusters(rows[known]), seed, recipe.min_pairs)


def _shown(value: float | int | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value}"
