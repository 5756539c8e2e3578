"""`persona annotate analyse`: the raters who count, the judges asked about the same pairs and shown the same cards, and the result.

Files beside the result: pairs, ratings, transcripts (as `persona eval agreement` keeps them), and of the tables of an export, without their
times, items (what was drawn), answers (with the reasonings) and raters (who counts, and why not).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from builder.files import make_folder
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from eval.agreement.annotators import (
    LEXICAL,
    RATING_COLUMNS,
    SHORTER,
    Annotator,
    Asked,
    file_rating,
    judge_annotators,
    lexical_annotators,
    parse_annotators,
)
from eval.agreement.choices import Choice
from eval.agreement.content import judged_rows
from eval.agreement.pairs import PAIR_COLUMNS, AnnotatedPair, draw_pairs
from eval.agreement.ratings import ask_judges, other_ratings, reread_ratings, templates_of, todays_annotators
from eval.calls import check_all_answered, open_calls, spent
from eval.human.cards import card_text, read_cards
from eval.human.content import BLIND, blind_ratings, study_content
from eval.human.export import COLUMNS, tables_of
from eval.human.material import CHECK, Material
from eval.human.opening import dataset_folder, open_study
from eval.human.plan import personas_a_question, rules_in_words, shown_items
from eval.human.power import planned_study
from eval.human.section import printed
from eval.human.study import Study, fingerprint_of, settings_of
from eval.judging import judge_facts, judge_identity, todays_facts
from eval.language_models import file_name
from eval.provenance import dataset_identity, provenance, rows_by_split
from eval.results import SCHEMA_VERSION, Result, digest, finished_result, without_paths, write_result
from eval.rows import content_hash, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS

EVALUATION = "human_study"
PAIRS, RATINGS, TRANSCRIPTS = "pairs.parquet", "ratings.parquet", "transcripts.parquet"
ITEMS, ANSWERS, RATERS = "items.parquet", "answers.parquet", "raters.parquet"
LONGEST_TITLE = 60  # characters of it in a file's name
# The tables of an export, but for the times, by which a panel would know whose answers they are.
TIMES = {"items": (), "answers": ("shown", "answered"), "raters": ("began", "last_seen", "finished")}
TABLES = {
    name: {column: kind for column, kind in COLUMNS[name].items() if column not in times}
    for name, times in TIMES.items()
}


def analyse(
    study_path: Path,
    judges: Sequence[str],
    out: Path,
    database: Path | None = None,
    simulated: bool = False,
    *,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """judges: the words of --judge, judges with their models or lexical rules. Returns the table to print, of a dry run what it would cost.

    Raises InputError for a word that names nobody, a database that is not there, a study in which nobody counts yet, and a dataset that
    is no longer the one that was shown.
    """
    asked = _asked(judges, seed)
    study, store = open_study(study_path, database, simulated=simulated, create=False)
    try:
        material, kind, exported = store.material, store.kind, tables_of(store)
    finally:
        store.close()
    items, given, raters = (
        [{column: row[column] for column in columns} for row in exported[name]] for name, columns in TABLES.items()
    )
    _refuse_without_raters(raters, study_path, simulated)
    folder = _shown_dataset(study, study_path, material)
    pairs = shown_pairs(material, folder)
    annotators = _annotators(asked, raters, kind)
    ratings = _rater_ratings(given, raters, pairs)

    calls = open_calls(out, asked.judges, base_model=base_model, budget=budget, dry_run=dry_run)
    name = result_name(study, simulated)
    fingerprint = {
        "schema": SCHEMA_VERSION,
        "study": fingerprint_of(study),
        "answers": digest([raters, given]),
        "dataset": content_hash(folder),
        "annotators": [asdict(annotator) for annotator in annotators],
        "judges": [judge_identity(judge, calls) for judge in asked.judges],
        "seed": seed,
    }
    if not dry_run and (kept := finished_result(out, name, fingerprint)):
        return printed(kept)
    cards = _cards(study, folder, material, pairs)
    transcripts, judged = ask_judges(asked, annotators, pairs, cards, calls)
    if dry_run:
        return spent(calls)
    check_all_answered(calls)
    rows, described = [pair.as_row() for pair in pairs], [asdict(annotator) for annotator in annotators]
    ratings += [*other_ratings(annotators, (), pairs, cards, seed), *blind_ratings(rows, ratings)]
    make_folder(out)
    files: dict[str, str] = {}
    for file, table, columns in (
        (PAIRS, rows, PAIR_COLUMNS),
        (RATINGS, ratings, RATING_COLUMNS),
        (TRANSCRIPTS, transcripts, TRANSCRIPT_COLUMNS),
        (ITEMS, items, TABLES["items"]),
        (ANSWERS, given, TABLES["answers"]),
        (RATERS, raters, TABLES["raters"]),
    ):
        files |= write_table(out, f"{name}-{file}", table, columns)
    build = read_build(folder)
    result = Result(
        evaluation=EVALUATION,
        name=name,
        description=f"Human study {study.title!r}" + (", answered by simulated raters" if simulated else ""),
        fingerprint=fingerprint,
        dataset=dataset_identity(folder, rows_by_split((pair.row.config, pair.row.split) for pair in pairs)),
        subject=None,
        judges=[judge_facts(judge, build) for judge in asked.judges],
        settings={
            # The completion code is the panel's secret and no part of the design.
            "study": without_paths({k: v for k, v in settings_of(study).items() if k != "completion_code"}),
            "study_fingerprint": fingerprint_of(study),
            "rules": rules_in_words(study.exclusions),
            "raters": kind,
            "judges": [word.rsplit("/", 1)[-1] for word in judges],
            "planned": asdict(planned_study(study, personas_a_question(shown_items(material)))),
        },
        seed=seed,
        provenance=provenance(command, templates_of(asked), calls),
        rows=judged_rows([*judged, *ratings], described),
        files=files,
        content=study_content(rows, [*judged, *ratings], described, raters, given, seed),
    )
    write_result(out, result)
    return printed(result)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result with the judges' kept replies read anew. judges: label in the result -> today's judge."""
    pairs, ratings, transcripts, answers, raters = (
        read_table(folder / f"{result.name}-{file}") for file in (PAIRS, RATINGS, TRANSCRIPTS, ANSWERS, RATERS)
    )
    annotators = result.fingerprint["annotators"]
    every = [*reread_ratings(annotators, transcripts, judges), *ratings]
    today = todays_annotators(annotators, judges)
    return replace(
        result,
        judges=todays_facts(result.judges, judges),
        rows=judged_rows(every, today),
        content=study_content(pairs, every, today, raters, answers, result.seed),
    )


def result_name(study: Study, simulated: bool) -> str:
    title = file_name(study.title.lower())[:LONGEST_TITLE].rstrip("-.")
    return f"{EVALUATION}-{title}{'-simulated' if simulated else ''}"


def shown_pairs(material: Material, folder: Path) -> list[AnnotatedPair]:
    """The pairs about which raters were asked, as the dataset has them. Raises InputError for one that it lacks."""
    items = [item for persona in material.personas for item in persona.items if item.item_id in persona.shown]
    wanted = {item.pair_id for item in items if item.kind != CHECK}
    pairs, _ = draw_pairs(folder, None, 0, wanted)
    if missing := sorted(wanted - {pair.pair_id for pair in pairs}):
        raise InputError(
            f"{folder} lacks {len(missing)} of the pairs that were shown: {few(missing)}. Put the dataset there from which it was drawn."
        )
    return pairs


def _asked(judges: Sequence[str], seed: int) -> Asked:
    for word in judges:
        if word.partition(":")[0] == "simulated" or word.endswith((".jsonl", ".csv")):
            raise InputError(
                f"--judge {word} is no judge. Raters are those of the study (`--simulated` for simulated ones); give a judge, as "
                f"roleplay=MODEL, or {' or '.join(LEXICAL)}."
            )
    # The shorter answer stands beside every figure, so who names it asks for nothing new.
    asked = parse_annotators(judges, seed)
    return replace(asked, lexical=[*(word for word in asked.lexical if word != SHORTER), SHORTER])


def _annotators(asked: Asked, raters: Sequence[Mapping[str, Any]], kind: str) -> list[Annotator]:
    names = sorted({rater["annotator"] for rater in raters if rater["counted"]}, key=lambda name: (len(name), name))
    return [
        *judge_annotators(asked.judges),
        *lexical_annotators(asked.lexical),
        Annotator(BLIND, "rule", of=BLIND),
        *(Annotator(name, kind, of=name) for name in names),
    ]


def _rater_ratings(
    answers: Sequence[Mapping[str, Any]],
    raters: Sequence[Mapping[str, Any]],
    pairs: Sequence[AnnotatedPair],
) -> list[dict[str, Any]]:
    """Of those who count, without the checks."""
    names = {rater["rater_id"]: rater["annotator"] for rater in raters}
    by_id = {pair.pair_id: pair for pair in pairs}
    return [
        file_rating(
            Choice(names[row["rater_id"]], "human", row["pair_id"], row["persona_id"], row["preferred"]),
            by_id[row["pair_id"]],
        )
        for row in answers
        if row["counted"] and row["kind"] != CHECK
    ]


def _cards(study: Study, folder: Path, material: Material, pairs: Sequence[AnnotatedPair]) -> dict[str, str]:
    """Persona id -> the lines of its card: as shown, and of the personas that the pairs name as wrong ones, drawn in the same way."""
    shown = {persona.persona_id: persona.card for persona in material.personas}
    wrong = {pair.row.published["wrong_persona_id"] for pair in pairs} - shown.keys()
    cards = (read_cards(study, folder, wrong) if wrong else {}) | shown
    return {name: card_text(card) for name, card in cards.items()}


def _shown_dataset(study: Study, study_path: Path, material: Material) -> Path:
    folder = dataset_folder(study, study_path)
    if content_hash(folder) != material.dataset_hash:
        raise InputError(
            f"{study.dataset} is not the dataset that the raters were shown: its content hash is {content_hash(folder)[:12]}, theirs "
            f"{material.dataset_hash[:12]}"
            + (f" (version {material.version})" if material.version else "")
            + ". Put that version there: the wrong personas and the splits of the pairs are read from it."
        )
    return folder


def _refuse_without_raters(raters: Sequence[Mapping[str, Any]], study_path: Path, simulated: bool) -> None:
    if any(rater["counted"] for rater in raters):
        return
    finished = sum(rater["state"] == "finished" for rater in raters)
    raise InputError(
        f"Nobody counts yet: {len(raters)} raters have a token, {finished} finished, {sum(rater['excluded'] for rater in raters)} are "
        f"excluded. See `persona annotate status {study_path.name}{' --simulated' if simulated else ''}`."
    )
