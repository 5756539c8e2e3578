"""`persona eval agreement`: ask every annotator about the same pairs, keep what each said, and compute who agrees with whom."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from builder.errors import InputError
from builder.files import make_folder, sha256_file
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from builder.llm.templates import load_template
from eval.agreement.annotators import (
    LABEL,
    PUBLISHED,
    RATING_COLUMNS,
    Annotator,
    Asked,
    judge_annotators,
    lexical_annotators,
    parse_annotators,
)
from eval.agreement.choices import Choice, read_choices
from eval.agreement.content import content_of, judged_rows
from eval.agreement.pairs import PAIR_COLUMNS, draw_pairs
from eval.agreement.ratings import ask_judges, other_ratings, reread_ratings, templates_of, todays_annotators
from eval.agreement.section import printed
from eval.agreement.simulated import simulated_names
from eval.calls import check_all_answered, open_calls, spent
from eval.judging import judge_facts, todays_facts
from eval.language_models import file_name
from eval.provenance import dataset_identity, provenance, rows_by_split
from eval.results import SCHEMA_VERSION, Result, digest, finished_result, write_result
from eval.rows import content_hash, load_profiles, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS

EVALUATION = "agreement"
PAIRS, RATINGS, TRANSCRIPTS = "pairs.parquet", "ratings.parquet", "transcripts.parquet"
LONGEST_NAME = 60  # characters of the annotators in a file's name


def run_agreement(
    dataset: Path,
    given: Sequence[str],
    out: Path,
    *,
    limit: int | None = 400,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """`given`: the words of --annotator. Returns the table to print, of a dry run the sentence on what it would cost.

    Raises InputError for a word that names nobody, a file that cannot be read, or a dataset without test pairs.
    """
    asked = parse_annotators(given, seed)
    choices = read_choices(asked.files)
    annotators = _annotators(asked, choices)
    name = f"{EVALUATION}-{_name_of(given)}"
    calls = open_calls(out, asked.judges, budget=budget, dry_run=dry_run)
    fingerprint = {
        "schema": SCHEMA_VERSION,
        "dataset": content_hash(dataset),
        "annotators": [asdict(annotator) for annotator in annotators],
        "models": {judge.judge.label: calls.client(judge.judge.role).identity for judge in asked.judges},
        "templates": [load_template(template).label for template in templates_of(asked)],
        "files": {path.name: sha256_file(path) for path in asked.files},
        "limit": limit,
        "seed": seed,
    }
    if not dry_run and (kept := finished_result(out, name, fingerprint)):
        return printed(kept)
    pairs, unknown = draw_pairs(dataset, limit, seed, {choice.pair_id for choice in choices} if choices else None)
    profiles = load_profiles(dataset)
    transcripts, judged = ask_judges(asked, annotators, pairs, profiles, calls)
    if dry_run:
        return spent(calls)
    check_all_answered(calls)
    ratings = other_ratings(annotators, choices, pairs, profiles, seed)
    rows, described = [pair.as_row() for pair in pairs], [asdict(annotator) for annotator in annotators]
    make_folder(out)
    files = write_table(out, f"{name}-{PAIRS}", rows, PAIR_COLUMNS)
    files |= write_table(out, f"{name}-{RATINGS}", ratings, RATING_COLUMNS)
    files |= write_table(out, f"{name}-{TRANSCRIPTS}", transcripts, TRANSCRIPT_COLUMNS)
    build = read_build(dataset)
    result = Result(
        evaluation=EVALUATION,
        name=name,
        description=f"Agreement between {', '.join(dict.fromkeys(annotator.of for annotator in annotators))}",
        fingerprint=fingerprint,
        dataset=dataset_identity(dataset, rows_by_split((pair.row.config, pair.row.split) for pair in pairs)),
        subject=None,
        judges=[judge_facts(judge, build) for judge in asked.judges],
        settings={
            "annotators": [word.rsplit("/", 1)[-1] for word in given],
            "limit": limit,
            "rated_pairs_unknown": unknown,
            "rated_pairs_left_out": len({choice.pair_id for choice in choices}) - unknown - len(pairs)
            if choices
            else 0,
        },
        seed=seed,
        provenance=provenance(command, templates_of(asked), calls),
        rows=judged_rows([*judged, *ratings], described),
        files=files,
        content=content_of(rows, [*judged, *ratings], described, seed),
    )
    write_result(out, result)
    return printed(result)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result with the judges' kept replies read anew. judges: label in the result -> today's judge."""
    pairs, ratings, transcripts = (
        read_table(folder / f"{result.name}-{name}") for name in (PAIRS, RATINGS, TRANSCRIPTS)
    )
    annotators = [
        {key: value for key, value in annotator.items() if key != "items"}
        for annotator in result.fingerprint["annotators"]
    ]
    every = [*reread_ratings(annotators, transcripts, judges), *ratings]
    today = todays_annotators(annotators, judges)
    return replace(
        result,
        judges=todays_facts(result.judges, judges),
        rows=judged_rows(every, today),
        content=content_of(pairs, every, today, result.seed),
    )


def _annotators(asked: Asked, choices: Sequence[Choice]) -> list[Annotator]:
    people = {choice.annotator: choice.kind for choice in choices}
    found = [
        *judge_annotators(asked.judges),
        *lexical_annotators(asked.lexical),
        *(
            Annotator(name, "simulated", of=name, reliability=reliability)
            for name, reliability in simulated_names(asked.simulated).items()
        ),
        *(Annotator(name, kind, of=name) for name, kind in sorted(people.items())),
    ]
    names = [annotator.name for annotator in found] + [LABEL, PUBLISHED]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"Two annotators have the name {twice}. Rename the one in the file of choices.")
    return found


def _name_of(given: Sequence[str]) -> str:
    """Of the words, without folders and addresses; a long one is cut and made distinct by its hash."""
    words = [word.partition("@http")[0].rstrip("/").rsplit("/", 1)[-1] for word in given]
    name = file_name("-".join(words))
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME].rstrip('-.')}-{digest(list(words))[:8]}"
