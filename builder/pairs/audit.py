"""The audit of a build: can the pairs be won without the persona, and do the splits hold what they promise?

Shortcuts are measured within pairs: given chosen and rejected, which one would a rule that never sees the persona take? `fail` is said
only of what must hold by construction (splits, mirrors, ids). The paper's own pairs are shorter on the chosen side by instruction, so
those numbers are reported, not judged.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from builder.lexical import profile_overlap, words
from builder.schema import mirror_defects
from builder.statistics import clustered_interval

Row = dict[str, Any]


def audit_tables(
    seed: int, personas: list[Row], prompts: list[Row], tables: dict[str, list[Row]]
) -> list[dict[str, Any]]:
    """One entry per check: {name, value, low, high, n, verdict, note}; verdict is `pass`, `fail` or `report`.

    `tables`: rows with `split` for each pair config. `low`/`high`: 95 % interval clustered by persona, None for counts.
    """
    checks = []
    for config, rows in tables.items():
        checks += [
            _share(
                seed,
                config,
                rows,
                "shorter wins",
                _prefers(lambda text, _: -len(words(text))),
                "taking the shorter answer",
            ),
            _share(
                seed,
                config,
                rows,
                "profile overlap wins",
                _prefers(profile_overlap),
                "taking the answer with more profile words",
            ),
            _share(
                seed,
                config,
                rows,
                "chosen names an attribute",
                lambda r: float(r["attribute_leak"]),
                "chosen texts that state one",
            ),
            _count(
                config, "repeated pair ids", len(rows) - len({r["pair_id"] for r in rows}), len(rows), "each id once"
            ),
            _count(
                config,
                "empty or identical sides",
                sum(map(_is_degenerate, rows)),
                len(rows),
                "both sides differ and say something",
            ),
            *_split_proofs(config, rows, personas, prompts),
        ]
        if config == "dpf":
            checks.append(
                _share(
                    seed,
                    config,
                    rows,
                    "chosen not shorter",
                    lambda r: float(r["length_violation"]),
                    "against the paper's revision order",
                )
            )
        if config == "contrast":
            checks += _mirror_proofs(rows)
    return checks


def failures(checks: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{c['name']}: {c['value']} ({c['note']})" for c in checks if c["verdict"] == "fail"]


def _prefers(score: Callable[[str, str], float]) -> Callable[[Row], float]:
    """1 if the rule takes chosen, 0 if rejected, a half for a tie."""

    def outcome(row: Row) -> float:
        profile = row["prompt"][0]["content"]
        chosen, rejected = (score(row[side][0]["content"], profile) for side in ("chosen", "rejected"))
        return 1.0 if chosen > rejected else 0.0 if chosen < rejected else 0.5

    return outcome


def _share(
    seed: int, config: str, rows: list[Row], name: str, outcome: Callable[[Row], float], note: str
) -> dict[str, Any]:
    values = [outcome(r) for r in rows]
    clusters = [tuple(sorted({r["persona_id"], r.get("partner_persona_id") or r["persona_id"]})) for r in rows]
    low, high = clustered_interval(values, clusters, seed, f"audit/{config}/{name}") if rows else (None, None)
    value = sum(values) / len(values) if values else None
    return {
        "name": f"{config}: {name}",
        "value": value,
        "low": low,
        "high": high,
        "n": len(rows),
        "verdict": "report",
        "note": note,
    }


def _count(config: str, name: str, value: int, n: int, note: str) -> dict[str, Any]:
    verdict = "pass" if value == 0 else "fail"
    return {
        "name": f"{config}: {name}",
        "value": value,
        "low": None,
        "high": None,
        "n": n,
        "verdict": verdict,
        "note": note,
    }


def _split_proofs(config: str, rows: list[Row], personas: list[Row], prompts: list[Row]) -> list[dict[str, Any]]:
    group_of = {p["persona_id"]: p["group"] for p in personas}
    pool_of = {p["prompt_id"]: p["pool"] for p in prompts}
    unseen_in_train = sum(r["split"] == "train" and group_of[r["persona_id"]] != "seen" for r in rows)
    seen_in_support = sum(r["split"] == "support" and group_of[r["persona_id"]] != "unseen" for r in rows)
    wrong_pool = sum((r["split"] == "heldout_test") != (pool_of[r["prompt_id"]] == "heldout") for r in rows)
    places: dict[tuple[str, str], set[str]] = {}
    for r in rows:
        places.setdefault((r["persona_id"], r["prompt_id"]), set()).add(r["split"])
    straddling = sum(len(splits) > 1 for splits in places.values())
    self_control = sum(
        r["wrong_persona_id"] in (r["persona_id"], r.get("partner_persona_id")) for r in rows if r["wrong_persona_id"]
    )
    return [
        _count(config, "unseen personas in train", unseen_in_train, len(rows), "train holds seen personas only"),
        _count(config, "seen personas in support", seen_in_support, len(rows), "support holds unseen personas only"),
        _count(config, "prompts in the wrong pool", wrong_pool, len(rows), "held-out prompts only in heldout_test"),
        _count(config, "persona-prompt pairs in two splits", straddling, len(rows), "each combination in one split"),
        _count(
            config,
            "controls that are no controls",
            self_control,
            len(rows),
            "the wrong persona has no part in the pair",
        ),
    ]


def _mirror_proofs(rows: list[Row]) -> list[dict[str, Any]]:
    defects = [
        d for split in {r["split"] for r in rows} for d in mirror_defects(r for r in rows if r["split"] == split)
    ]
    chosen = Counter((r["prompt_id"], r["chosen"][0]["content"]) for r in rows)
    rejected = Counter((r["prompt_id"], r["rejected"][0]["content"]) for r in rows)
    uneven = sum(chosen[key] != rejected[key] for key in chosen | rejected)
    return [
        _count(
            "contrast",
            "mirrors that are absent or differ",
            len(defects),
            len(rows),
            "both mirrors, same split and group",
        ),
        _count(
            "contrast",
            "texts chosen unequally often",
            uneven,
            len(chosen | rejected),
            "each as often chosen as rejected",
        ),
    ]


def _is_degenerate(row: Row) -> bool:
    chosen, rejected = row["chosen"][0]["content"].strip(), row["rejected"][0]["content"].strip()
    return not chosen or not rejected or chosen == rejected


def audit_table(checks: Sequence[dict[str, Any]]) -> str:
    """The checks as plain text."""
    lines = [f"{'check':<46}{'value':>8}  {'95 % interval':<16}{'n':>8}  verdict"]
    for check in checks:
        value, low, high = check["value"], check["low"], check["high"]
        shown = "-" if value is None else f"{value:.3f}" if low is not None else f"{value}"
        interval = "" if low is None else f"[{low:.3f}, {high:.3f}]"
        lines.append(
            f"{check['name']:<46}{shown:>8}  {interval:<16}{check['n']:>8,}  {check['verdict']} ({check['note']})"
        )
    return "\n".join(lines)
