"""Pairs of the dataset to read, with what every scorer preferred under each persona condition."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.randomness import seed_for
from eval.page import Example, Section
from eval.report.published import Tables
from eval.report.render import number
from eval.results import Result
from eval.rows import EVALUATED_SPLITS, EvaluatedRow, evaluated_row
from training.conditioning import CONDITIONS

DRAWN = {"dpf": 6, "contrast": 3}  # pairs


def pairs_section(tables: Tables, results: Sequence[Result], folder: Path) -> Section | None:
    """Drawn by a hash of their id from the test splits, of different personas and topics as far as they go. None without any."""
    from eval.pair_results import EVALUATION, in_order, label, read_scores

    profiles: dict[str, str] = {}
    if "personas" in tables:
        everyone = tables["personas"]["all"]
        profiles = dict(zip(everyone["persona_id"], everyone["profile"], strict=True))
    drawn = [row for config, count in DRAWN.items() for row in _draw(_test_rows(tables, config), count)]
    preferred: dict[str, dict[str, dict[str, str]]] = {row.pair_id: {} for row in drawn}
    for result in in_order(result for result in results if result.evaluation == EVALUATION):
        for line in read_scores(folder, result, list(preferred)):
            preferred[line["pair_id"]].setdefault(label(result), {})[line["condition"]] = line["verdict"]
    examples = [_example(row, profiles, preferred[row.pair_id]) for row in drawn]
    return Section("pairs", "Pairs of the dataset", examples=examples) if examples else None


def _example(row: EvaluatedRow, profiles: Mapping[str, str], preferred: Mapping[str, Mapping[str, str]]) -> Example:
    published, contrast = row.published, row.config == "contrast"
    partner = published.get("partner_persona_id") or ""
    topic = f", topic {published['topic']}" if published.get("topic") else ""
    own, other = (
        ("this persona's revision", "the partner's revision") if contrast else ("the revision", "the base answer")
    )
    parts = [
        (f"Chosen: {own}", row.chosen or "(missing)"),
        (f"Rejected: {other}", row.rejected or "(missing)"),
        (f"Profile of {row.persona_id}", profiles.get(row.persona_id) or published["prompt"][0]["content"]),
    ]
    if partner in profiles:
        parts.append((f"Profile of the contrast partner {partner}", profiles[partner]))
    score = published.get("judge_score")
    said = f"prefers: {row.judge_verdict}" + ("" if score is None else f" (score {number(score)})")
    if row.flip is not None:
        said += f"; {'prefers' if row.flip else 'does not prefer'} each persona's own revision under that persona"
    parts.append(("The judge", said))
    # A row limit leaves examples without verdicts; they still show the data.
    lines = [f"{name}: {' / '.join(verdicts.get(c, '–') for c in CONDITIONS)}" for name, verdicts in preferred.items()]
    parts.append(
        ("Scorers prefer, under the true / no / a wrong persona", "\n".join(lines) or "not among the evaluated rows")
    )
    return Example(f"{row.question} ({row.pair_id}, {row.cell}{topic})", parts)


def _test_rows(tables: Tables, config: str) -> list[EvaluatedRow]:
    parts = tables.get(config, {})
    return [evaluated_row(config, split, row) for split in EVALUATED_SPLITS if split in parts for row in parts[split]]


def _draw(rows: Sequence[EvaluatedRow], count: int) -> list[EvaluatedRow]:
    """At most `count` rows in the order of a hash, new personas and topics first; of two mirrors only one."""
    waiting = sorted(rows, key=lambda row: seed_for(0, "report/examples", row.pair_id))
    drawn: list[EvaluatedRow] = []
    while waiting and len(drawn) < count:
        personas = {row.persona_id for row in drawn}
        topics = {row.published["topic"] for row in drawn}
        best = min(waiting, key=lambda row: (row.persona_id in personas) + (row.published["topic"] in topics))
        drawn.append(best)
        waiting = [row for row in waiting if row.pair_id not in (best.pair_id, best.mirror_pair_id)]
    return drawn
