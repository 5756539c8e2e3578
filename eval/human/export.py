"""The answers of a study as files that anybody can read: Parquet tables, choices for `persona eval agreement`, and what the study was.

The files are made in memory, a few hundred kilobytes at most, so that the command and the served page give out the same bytes.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from builder.errors import InputError
from builder.files import make_folder, read_json, write_bytes
from builder.schema import features
from eval.human.cards import card_text
from eval.human.exclusion import PASTED, Standing
from eval.human.material import CHECK, Item
from eval.human.opening import open_study
from eval.human.records import Answer
from eval.human.simulation import read_simulation
from eval.human.store import Store
from eval.human.study import fingerprint_of, settings_of

STUDY_FILE, CHOICES_FILE = "study.json", "choices.jsonl"
# Column -> Arrow type. `source` is `human` or `simulated`, in every row, so that a table taken out of its folder still says it. `counted`:
# whether the rater's answers are in the figures. `annotator`: the name of one who is counted, in an analysis and in `eval agreement`.
COLUMNS: dict[str, dict[str, str]] = {
    "answers": {
        "source": "string",
        "rater_id": "string",
        "counted": "bool",
        "persona_id": "string",
        "item_id": "string",
        "pair_id": "string",
        "kind": "string",
        "position": "int64",
        "first": "string",
        "choice": "string",
        "preferred": "string",
        "reason": "string",
        "pasted": "int64",
        "shown": "double",
        "answered": "double",
        "seconds": "double",
        "changes": "int64",
    },
    "raters": {
        "source": "string",
        "rater_id": "string",
        "state": "string",
        "persona_id": "string",
        "began": "double",
        "last_seen": "double",
        "finished": "double",
        "answers": "int64",
        "checks_failed": "int64",
        "median_seconds": "double",
        "minutes": "double",
        "pasted_answers": "int64",
        "counted": "bool",
        "annotator": "string",
        "excluded": "bool",
        "reason": "string",
    },
    "versions": {
        "source": "string",
        "rater_id": "string",
        "item_id": "string",
        "saved": "double",
        "choice": "string",
        "reason": "string",
        "pasted": "int64",
    },
    "items": {
        "source": "string",
        "item_id": "string",
        "kind": "string",
        "persona_id": "string",
        "pair_id": "string",
        "card": "string",
        "question": "string",
        "chosen": "string",
        "rejected": "string",
        "shown": "bool",
    },
}

Row = dict[str, Any]


def export(study_path: Path, out: Path, database: Path | None = None, simulated: bool = False) -> str:
    """Write the files into `out` and say what is in them.

    The files of an earlier export of the same study are replaced, one at a time, `study.json` with everybody's SHA-256 last. Raises
    InputError where `out` holds anything else, so that no two studies are mixed, and as open_study does.
    """
    _, store = open_study(study_path, database, simulated=simulated, create=False)
    try:
        _refuse_foreign(out, store)
        tables = tables_of(store)
        files = export_files(store, tables)
    finally:
        store.close()
    make_folder(out)
    for name, content in files.items():
        write_bytes(out / name, content)
    raters, who = tables["raters"], "simulated raters" if simulated else "raters"
    counted, excluded = (sum(rater[column] for rater in raters) for column in ("counted", "excluded"))
    return (
        f"{len(tables['answers']):,} answers of {sum(rater['state'] != 'new' for rater in raters):,} {who} in {out}: {counted:,} raters "
        f"count, {excluded:,} are excluded. {len(tables['judgements']):,} judgements; choices for "
        f"`persona eval agreement --annotator {out / CHOICES_FILE}`."
    )


def tables_of(store: Store) -> dict[str, list[Row]]:
    """`answers`, `raters`, `versions`, `items` (COLUMNS) and `judgements` (builder.schema), each sorted by its ids.

    `versions`: everything that was ever saved as an answer, of one answer in the order in which it was saved. `judgements`: of raters who
    count, without the attention checks: a simulated rater's judge is `simulated:ID`, a person's `human:ID`.
    """
    standings, answers = store.standings(), store.answers()
    items = {item.item_id: item for persona in store.material.personas for item in persona.items}
    counting = {standing.rater.rater_id for standing in standings if standing.counts}
    names = annotator_names(standings, store.kind)
    by_rater: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_rater[answer.rater_id].append(answer)
    judged = [
        (answer, items[answer.item_id])
        for answer in answers
        if answer.rater_id in counting and items[answer.item_id].kind != CHECK
    ]
    return {
        "answers": [_answer_row(store.kind, answer, items[answer.item_id], counting) for answer in answers],
        "raters": [
            _rater_row(store, standing, by_rater[standing.rater.rater_id], names.get(standing.rater.rater_id))
            for standing in standings
        ],
        "versions": sorted(
            ({"source": store.kind, **version} for version in store.versions()),
            key=lambda row: (row["rater_id"], row["item_id"]),
        ),
        "items": _item_rows(store),
        "judgements": sorted(
            (_judgement_row(store.kind, *pair) for pair in judged), key=lambda row: (row["pair_id"], row["judge"])
        ),
    }


def annotator_names(standings: Sequence[Standing], kind: str) -> dict[str, str]:
    """Id of a rater who counts -> `human rater 1` and so on, numbered within each persona by id, as eval.agreement.choices numbers them."""
    numbers: Counter[str | None] = Counter()
    names = {}
    for rater in sorted((standing.rater for standing in standings if standing.counts), key=lambda r: r.rater_id):
        numbers[rater.persona_id] += 1
        names[rater.rater_id] = f"{kind} rater {numbers[rater.persona_id]}"
    return names


def choice_rows(tables: Mapping[str, Sequence[Row]], kind: str) -> list[Row]:
    """A line each of the file of choices: what the raters who count prefer, without the checks."""
    persona = {row["pair_id"]: row["persona_id"] for row in tables["items"]}
    return [
        {
            "annotator": row["judge"],
            "kind": kind,
            "persona_id": persona[row["pair_id"]],
            "pair_id": row["pair_id"],
            "choice": row["verdict"],
        }
        for row in sorted(tables["judgements"], key=lambda row: (row["judge"], row["pair_id"]))
    ]


def export_files(store: Store, tables: Mapping[str, Sequence[Row]] | None = None) -> dict[str, bytes]:
    """File name -> content, `study.json` last. The same database gives the same bytes. tables: those of tables_of, if they are at hand."""
    tables = tables or tables_of(store)
    files = {f"{name}.parquet": _parquet(name, rows) for name, rows in tables.items()}
    lines = [json.dumps(row, ensure_ascii=False) for row in choice_rows(tables, store.kind)]
    files[CHOICES_FILE] = "".join(f"{line}\n" for line in lines).encode()
    facts = study_facts(store, tables) | {
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    }
    return files | {STUDY_FILE: (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()}


def study_facts(store: Store, tables: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """What `study.json` says but the hashes: the settings without the completion code, with which somebody could ask to be paid, and
    without the dataset's place on this machine."""
    study, raters = store.study, tables["raters"]
    settings = settings_of(study)
    del settings["completion_code"]
    facts: dict[str, Any] = {
        "title": study.title,
        "source": store.kind,
        "fingerprint": fingerprint_of(study),
        "settings": settings,
        "dataset": {
            "name": settings["dataset"],
            "version": store.material.version,
            "content_sha256": store.material.dataset_hash,
        },
        "pasted_characters": PASTED,
        "counts": {
            "places": study.raters,
            "tokens": len(raters),
            **{state: sum(rater["state"] == state for rater in raters) for state in ("new", "open", "finished")},
            "counting": sum(rater["counted"] for rater in raters),
            "excluded": sum(rater["excluded"] for rater in raters),
            "answers": len(tables["answers"]),
            "judgements": len(tables["judgements"]),
            "raters_who_count_by_persona": {
                persona.persona_id: sum(
                    rater["counted"] and rater["persona_id"] == persona.persona_id for rater in raters
                )
                for persona in store.material.personas
            },
        },
    }
    if store.kind == "simulated":
        facts["note"] = "Simulated raters: made to try the study on. They say nothing about people."
        facts["simulation"] = read_simulation(store.path)
    return facts


def _answer_row(source: str, answer: Answer, item: Item, counting: Collection[str]) -> Row:
    return {
        "source": source,
        "counted": answer.rater_id in counting,
        "persona_id": item.persona_id,
        "pair_id": item.pair_id,
        "kind": item.kind,
        **asdict(answer),
    }


def _rater_row(store: Store, standing: Standing, answers: Sequence[Answer], annotator: str | None) -> Row:
    """minutes: from the first question to the last answer."""
    rater = standing.rater
    questions = [answer for answer in answers if answer.item_id not in store.checks]
    return {
        "source": store.kind,
        **asdict(rater),
        "answers": len(answers),
        "checks_failed": sum(a.preferred != "chosen" for a in answers if a.item_id in store.checks),
        "median_seconds": median(answer.seconds for answer in questions) if questions else None,
        "minutes": (max(a.answered for a in answers) - min(a.shown for a in answers)) / 60 if answers else None,
        "pasted_answers": sum(answer.pasted >= PASTED for answer in questions),
        "counted": standing.counts,
        "annotator": annotator,
        "excluded": standing.excluded,
        "reason": standing.reason,
    }


def _item_rows(store: Store) -> list[Row]:
    return [
        {
            "source": store.kind,
            "item_id": item.item_id,
            "kind": item.kind,
            "persona_id": item.persona_id,
            "pair_id": item.pair_id,
            "card": card_text(persona.card),
            "question": item.question,
            "chosen": item.answers[0],
            "rejected": item.answers[1],
            "shown": item.item_id in persona.shown,
        }
        for persona in store.material.personas
        for item in persona.items
    ]


def _judgement_row(source: str, answer: Answer, item: Item) -> Row:
    return {
        "pair_id": item.pair_id,
        "judge": f"{source}:{answer.rater_id}",
        "condition": "true",
        "order": "AB" if answer.first == "chosen" else "BA",
        "verdict": answer.preferred,
        "probability": None,
        "reason": answer.reason,
    }


def _parquet(name: str, rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    if name == "judgements":
        schema = features(name).arrow_schema
    else:
        schema = pyarrow.schema([(column, pyarrow.type_for_alias(kind)) for column, kind in COLUMNS[name].items()])
    table = pyarrow.table({column: [row[column] for row in rows] for column in schema.names}, schema=schema)
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content, compression="zstd")
    return content.getvalue()


def _refuse_foreign(out: Path, store: Store) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file, and the export is a folder. Give another place.")
    if not (out / STUDY_FILE).is_file():
        raise InputError(f"{out} holds files, but no export of a study. Give a folder that is new or empty.")
    there = read_json(out / STUDY_FILE)
    own = {"title": store.study.title, "source": store.kind, "fingerprint": fingerprint_of(store.study)}
    names = {"title": "the study", "source": "raters who are", "fingerprint": "the settings"}
    for key, value in own.items():
        found = there.get(key) if isinstance(there, dict) else None
        if found != value:
            raise InputError(
                f"{out} holds the export of another study ({names[key]} {found!r}, not {value!r}). Give a folder that is new or empty."
            )
