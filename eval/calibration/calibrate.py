"""Calibration cards: what a judge's verdicts are worth, measured on items of which the right answer is known.

Each judge gets a result of its own; all are asked through one record, so what was asked once is never asked again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from eval.calibration.anchors import ANCHORS
from eval.calibration.card import printed
from eval.calibration.content import content_of
from eval.calibration.items import draw, load_items
from eval.calibration.verdicts import COLUMNS, CONDITIONS, ask, questions_for, row_key, verdict_row
from eval.calls import check_all_answered, open_calls, spent
from eval.judging import EvaluationJudge, find_judges, judge_facts, todays_facts
from eval.language_models import file_name
from eval.provenance import provenance
from eval.results import Result, digest, finished_result, row_counts, write_result
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows

ANCHORED_ITEMS = 40  # items that meet the anchors; each costs a judge six questions more, an empty answer none
VERDICTS, TRANSCRIPT = "-verdicts.parquet", "-transcript.parquet"


def calibrate(
    judges: Sequence[str],
    items: Path | None,
    out: Path,
    *,
    repeats: int = 2,
    limit: int | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """Ask every judge, write one result each into `out`, and return the cards as text.

    judges: as eval.judging.find_judges takes them. items: a file of one's own, None for the packaged contrasts. repeats: how often an item
    is asked under its own profile. Raises InputError for judges or items that cannot be used, or an `out` with other results of this name.
    """
    if repeats < 1:
        raise InputError(f"--repeats is {repeats}; each item is asked at least once. Give 1, or 2 for test-retest.")
    known = load_items(items)
    drawn = draw(known, limit, seed)
    found = find_judges(judges, ("likelihood", "pairwise", "critique"), seed)
    names = _names(found, items)
    settings = {
        "items": "packaged contrasts" if items is None else items.name,
        "items_sha256": digest(
            [[item.key, item.expected, item.authors] for item in sorted(known, key=lambda i: i.key)]
        ),
        "item_count": len(drawn),
        "limit": limit,
        "repeats": repeats,
        "anchored_items": min(ANCHORED_ITEMS, len(drawn)),
        "conditions": list(CONDITIONS),
        "anchors": list(ANCHORS),
    }
    cards = []
    calls = open_calls(out, found, budget=budget, dry_run=dry_run)
    for judge, name in zip(found, names, strict=True):
        facts = judge_facts(judge)
        fingerprint = {"judge": facts, "settings": settings, "seed": seed}
        if not dry_run and (kept := finished_result(out, name, fingerprint)):
            cards.append(printed(kept))
            continue
        calls.begin_part()
        draws = repeats if _is_drawn(judge) else 1
        asked = questions_for(judge.judge, judge.recipe.model, drawn, known, ANCHORED_ITEMS, draws, seed)
        verdicts = ask(judge.judge, calls, asked)
        if dry_run:
            continue
        check_all_answered(calls)
        rows = [verdict_row(one.facts, verdicts[one.key]) for one in asked]
        transcript = transcript_rows(judge.judge, [one.key for one in asked], [verdicts[one.key] for one in asked])
        files = write_table(out, name + VERDICTS, rows, COLUMNS)
        files |= write_table(out, name + TRANSCRIPT, transcript, TRANSCRIPT_COLUMNS)
        result = Result(
            evaluation="calibration",
            name=name,
            description=f"Calibration card of {judge.judge.label} on {len(drawn)} items ({settings['items']})",
            fingerprint=fingerprint,
            dataset=None,
            subject=None,
            judges=[facts],
            settings={**settings, "draws": draws, "profiles": len({item.profile for item in drawn})},
            seed=seed,
            provenance=provenance(command, [judge.judge.template] if judge.judge.template else [], calls),
            rows=row_counts(row["reason"] for row in rows),
            files=files,
            content=content_of(rows, judge.judge.kind, repeats, draws, seed),
        )
        write_result(out, result)
        cards.append(printed(result))
    return "\n\n".join([*cards, spent(calls)])


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result from the kept replies, read with today's parsers. Raises InputError for a judge of another kind."""
    (facts,) = result.judges
    judge = judges[facts["label"]]
    if judge.kind != facts["kind"]:
        raise InputError(
            f"{result.name} was judged by a {facts['kind']} judge, and {judge.name} is of kind {judge.kind} today. Calibrate it anew."
        )
    verdicts = reread(judge, read_table(folder / f"{result.name}{TRANSCRIPT}"))
    kept = read_table(folder / f"{result.name}{VERDICTS}")
    if missing := [row_key(row) for row in kept if row_key(row) not in verdicts]:
        raise InputError(f"The transcript of {result.name} lacks {missing[0]} ({len(missing)} in all). Calibrate anew.")
    rows = [verdict_row(row, verdicts[row_key(row)]) for row in kept]
    return dataclasses.replace(
        result,
        judges=todays_facts(result.judges, judges),
        rows=row_counts(row["reason"] for row in rows),
        content=content_of(rows, judge.kind, result.settings["repeats"], result.settings["draws"], result.seed),
    )


def _is_drawn(judge: EvaluationJudge) -> bool:
    """Whether a second draw may say something else: a reply in words that is sampled, or that comes from an endpoint."""
    own = judge.judge
    if own.kind == "likelihood" or own.parser == "verdict_tokens":
        return False
    return own.sampling.temperature > 0 or judge.recipe.provider != "transformers"


def _names(judges: Sequence[EvaluationJudge], items: Path | None) -> list[str]:
    """`calibration-JUDGE-MODEL`, with the file's name for items of one's own; with the version where two would share it."""
    tail = "" if items is None else f"-{file_name(items.stem)}"
    names = [f"calibration-{file_name(j.judge.name)}-{file_name(j.recipe.model.rsplit('/', 1)[-1])}" for j in judges]
    return [
        (name if names.count(name) == 1 else f"{name}-{judge.judge.version}") + tail
        for name, judge in zip(names, judges, strict=True)
    ]
