"""`persona eval subtlety`: do answers recite the persona, and do they more after reasoning? (paper, section 5.2)

The same questions for the same personas in both arms, the persona alone (output_only) and with reasoning (chain_of_thought), so that each
item is its own control and McNemar's exact test applies. Two measures: a judge who is asked for recitation alone, and the values of the
profile that stand literally in the answer. Beside both: answers written without a persona, and answers written for another one.
"""

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import InputError
from builder.judge.critique import Critique, CritiqueVerdict, criticise
from builder.judge.judge import Judge
from builder.llm.budget import Budget
from builder.llm.templates import load_template
from builder.randomness import rng_for
from eval.bench.answers import ANSWER_COLUMNS, write_answers
from eval.bench.modes import form_for, template_names
from eval.calls import MODEL_ROLE, check_all_answered, open_calls, spent
from eval.figures import points_figure
from eval.items import Item, Persona, draw_items, load_personas
from eval.judging import EvaluationJudge, find_judges, judge_facts, judge_identity, todays_facts
from eval.language_models import LanguageModel, file_name, find_language_model
from eval.page import Cell, Example, Figure, Section, Table
from eval.paired_test import paired_p_values
from eval.printing import percent_with_interval
from eval.provenance import dataset_identity, provenance
from eval.results import (
    SCHEMA_VERSION,
    Result,
    as_estimate,
    digest,
    is_finished,
    read_result,
    result_path,
    row_counts,
    too_many_unscored,
    write_result,
)
from eval.rows import content_hash, read_build
from eval.tables import read_table, write_table
from eval.transcripts import TRANSCRIPT_COLUMNS, reread, transcript_rows
from eval.value_matching import matcher, names_value, said_attributes
from training.estimates import estimate_columns
from training.profiles import stated_attributes

EVALUATION = "subtlety"
PLAIN, REASONED = "output_only", "chain_of_thought"
MODES = (PLAIN, REASONED)
ANSWERS, TRANSCRIPTS = "answers.parquet", "transcripts.parquet"
COLUMNS = {**ANSWER_COLUMNS, "profile": "string", "other_profile": "string"}
# Kinds of answers, and how the tables call them: (mode, condition) -> words. The last two are the controls of both arms.
KINDS = {
    (PLAIN, "true"): "persona alone",
    (REASONED, "true"): "with reasoning",
    (PLAIN, "wrong"): "for another persona",
    (REASONED, "wrong"): "for another persona, with reasoning",
    ("baseline", "none"): "without a persona",
}
LEXICAL = "words of the profile"

Row = dict[str, Any]


def run_subtlety(
    dataset: Path,
    given: Sequence[str],
    judges: Sequence[str],
    out: Path,
    *,
    limit: int | None = 200,
    base_model: str | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    dry_run: bool = False,
    command: str | None = None,
) -> str:
    """One result for each model of `given`. Returns the tables to print, of a dry run what it would cost.

    Raises InputError for a model or judge that does not exist, and for profiles that are not written in lines.
    """
    models = [find_language_model(word) for word in given]
    asked = find_judges(judges, ("critique",), seed)
    items, personas = draw_items(dataset, limit, seed), load_personas(dataset)
    said = []
    for model in models:
        name = _result_name(model, asked)
        form = form_for(model)
        templates = [*template_names(form, MODES), *sorted({judge.judge.template for judge in asked})]
        calls = open_calls(out, asked, model, base_model=base_model, budget=budget, dry_run=dry_run)
        fingerprint = {
            "schema": SCHEMA_VERSION,
            "dataset": content_hash(dataset),
            "model": [model.facts, calls.client(MODEL_ROLE).identity],
            "judges": [judge_identity(judge, calls) for judge in asked],
            "templates": [load_template(template).label for template in templates],
            "limit": limit,
            "seed": seed,
        }
        if not dry_run and is_finished(out, name, fingerprint):
            said.append(subtlety_table(read_result(result_path(out, name))))
            continue
        answers = _with_profiles(
            write_answers(calls, model, items, personas, MODES, form, 1, 0.0, seed), items, personas
        )
        transcripts, verdicts = _judge(asked, calls, answers)
        if dry_run:
            said.append(spent(calls))
            continue
        check_all_answered(calls)
        files = write_table(out, f"{name}-{ANSWERS}", answers, COLUMNS)
        files |= write_table(out, f"{name}-{TRANSCRIPTS}", transcripts, TRANSCRIPT_COLUMNS)
        subject = {"name": model.name, **model.facts}
        result = Result(
            evaluation=EVALUATION,
            name=name,
            description=f"Whether answers of {model.name} recite the persona",
            fingerprint=fingerprint,
            dataset=dataset_identity(dataset, {"items": len(items)}),
            subject=subject,
            judges=[judge_facts(judge, read_build(dataset), subject) for judge in asked],
            settings={"limit": limit, "form": form, "scripted": model.scripted},
            seed=seed,
            provenance=provenance(command, templates, calls),
            rows=_row_counts(answers, verdicts),
            files=files,
            content=content_of(answers, verdicts, seed),
        )
        write_result(out, result)
        said.append(subtlety_table(result))
    return "\n\n".join(said)


def rescored(result: Result, folder: Path, judges: Mapping[str, Judge]) -> Result:
    """The same result with the judges' kept replies read anew. judges: label in the result -> today's judge."""
    answers, transcripts = (read_table(folder / f"{result.name}-{name}") for name in (ANSWERS, TRANSCRIPTS))
    verdicts = {
        facts["name"]: _critiques(
            reread(judges[facts["label"]], [row for row in transcripts if row["judge"] == facts["label"]])
        )
        for facts in result.judges
    }
    return replace(
        result,
        judges=todays_facts(result.judges, judges),
        rows=_row_counts(answers, verdicts),
        content=content_of(answers, verdicts, result.seed),
    )


def content_of(
    answers: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Mapping[str, CritiqueVerdict]], seed: int
) -> dict[str, Any]:
    """All figures. answers: rows of COLUMNS. verdicts: judge -> item_id of an answer -> verdict.

    `measures`: a block for each judge and one for the words of the profile; of each the share that recites by kind of answer, its gap to
    both controls, and of reasoning against none McNemar's test and one that takes personas and questions whole. `judge_and_words`: of the
    judged answers under their own persona, how many both measures call reciting, one of them, and none.
    """
    by_kind: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {kind: {} for kind in KINDS}
    for row in answers:
        by_kind[row["mode"], row["condition"]][f"{row['persona_id']}/{row['prompt_id']}"] = row
    keys = sorted(by_kind["baseline", "none"])
    rows = [by_kind["baseline", "none"][key] for key in keys]
    named = {row["item_id"]: _names_profile(row) for row in answers}
    measures = {}
    for name in (*verdicts, LEXICAL):
        recites = named if name == LEXICAL else {item: _recites(v) for item, v in verdicts[name].items()}
        values = {
            kind: np.array([recites.get(own[key]["item_id"], math.nan) if key in own else math.nan for key in keys])
            for kind, own in by_kind.items()
        }
        reasons = [] if name == LEXICAL else [_reason(row, verdicts[name]) for row in answers]
        measures[name] = _measure(values, rows, seed, name, too_many_unscored(row_counts(reasons)) if reasons else None)
    return {
        "items": len(keys),
        "personas": len({row["persona_id"] for row in rows}),
        "words": {KINDS[kind]: _mean_words(own.values()) for kind, own in by_kind.items()},
        "measures": measures,
        "judge_and_words": {name: _crossed(own, named, answers) for name, own in verdicts.items()},
    }


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test on paired 0/1 values (NaN: not counted): do the discordant pairs fall to both sides alike?

    only_first, only_second: pairs with 1 in one alone. p is two-sided, None without a discordant pair.
    """
    from scipy.stats import binomtest

    counted = ~(np.isnan(first) | np.isnan(second))
    one, other = first[counted], second[counted]
    only_first, only_second = int(((one == 1) & (other == 0)).sum()), int(((one == 0) & (other == 1)).sum())
    discordant = only_first + only_second
    return {
        "pairs": int(counted.sum()),
        "only_first": only_first,
        "only_second": only_second,
        "discordant": discordant,
        "p": float(binomtest(only_second, discordant, 0.5).pvalue) if discordant else None,
    }


def _measure(
    values: Mapping[tuple[str, str], np.ndarray],
    rows: Sequence[Mapping[str, Any]],
    seed: int,
    name: str,
    withheld: str | None,
) -> dict[str, Any]:
    """Arms, gaps to the controls, and the test. Gaps: an arm minus the same arm for another persona, and minus no persona."""
    if withheld:
        return {"withheld": withheld, "shares": {}, "gaps": {}, "reasoning": None, "reasoning_for_another": None}
    gaps = {
        f"{KINDS[mode, 'true']} minus {KINDS[control]}": values[mode, "true"] - values[control]
        for mode in MODES
        for control in ((mode, "wrong"), ("baseline", "none"))
    }
    gaps[f"{KINDS[REASONED, 'true']} minus {KINDS[PLAIN, 'true']}"] = values[REASONED, "true"] - values[PLAIN, "true"]
    estimates = estimate_columns(
        np.stack([*values.values(), *gaps.values()], axis=1),
        [(row["persona_id"],) for row in rows],
        rng_for(seed, "subtlety", name),
        differences=len(gaps),
        prompts=[row["prompt_id"] for row in rows],
    )
    plain = [dataclasses.asdict(estimate) for estimate in estimates]
    return {
        "withheld": None,
        "shares": dict(zip(KINDS.values(), plain, strict=False)),
        "gaps": dict(zip(gaps, plain[len(KINDS) :], strict=True)),
        "reasoning": _tested(values[PLAIN, "true"], values[REASONED, "true"], rows, seed, name),
        "reasoning_for_another": _tested(
            values[PLAIN, "wrong"], values[REASONED, "wrong"], rows, seed, f"{name}/wrong"
        ),
    }


def _tested(
    first: np.ndarray, second: np.ndarray, rows: Sequence[Mapping[str, Any]], seed: int, key: str
) -> dict[str, Any]:
    """McNemar's test, which takes items for independent, and beside it `clustered_p`: the answers of a persona, and those to a question,
    are alike, and an effect on a few personas is then no effect on all.
    """
    found = mcnemar(first, second)
    (p,) = paired_p_values(
        (second - first)[:, None],
        [(row["persona_id"],) for row in rows],
        [row["prompt_id"] for row in rows],
        rng_for(seed, "subtlety/clustered", key),
    )
    return found | {"clustered_p": p if found["discordant"] else None}


def _names_profile(row: Mapping[str, Any]) -> float:
    """1 where the answer names a value of its persona's profile that the question does not name; NaN where there is no answer.

    Values that the other persona shares are left out, so that answers for that one are a control of the same values.
    """
    if row["failure"]:
        return math.nan
    other = said_attributes(row["other_profile"])
    matchers = [
        matcher(name, value) for name, value in said_attributes(row["profile"]).items() if other.get(name) != value
    ]
    return float(any(names_value(one, row["text"]) and not names_value(one, row["question"]) for one in matchers))


def _recites(verdict: CritiqueVerdict) -> float:
    return {"pass": 0.0, "needs_revision": 1.0}.get(verdict.verdict, math.nan)


def _reason(row: Mapping[str, Any], verdicts: Mapping[str, CritiqueVerdict]) -> str | None:
    """Why an answer is not scored by a judge."""
    if row["failure"]:
        return f"answer {row['failure']}"
    verdict = verdicts.get(row["item_id"])
    if verdict is None:
        return "not judged"
    return (verdict.reason or "unscored") if verdict.verdict == "unscored" else None


def _row_counts(
    answers: Sequence[Mapping[str, Any]], verdicts: Mapping[str, Mapping[str, CritiqueVerdict]]
) -> dict[str, Any]:
    return row_counts(_reason(row, own) for own in verdicts.values() for row in answers)


def _crossed(
    verdicts: Mapping[str, CritiqueVerdict], named: Mapping[str, float], answers: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    pairs = [
        (_recites(verdicts[row["item_id"]]), named[row["item_id"]])
        for row in answers
        if row["condition"] == "true" and row["item_id"] in verdicts
    ]
    return {
        "both": sum(pair == (1.0, 1.0) for pair in pairs),
        "judge_only": sum(pair == (1.0, 0.0) for pair in pairs),
        "words_only": sum(pair == (0.0, 1.0) for pair in pairs),
        "neither": sum(pair == (0.0, 0.0) for pair in pairs),
    }


def _mean_words(rows: Any) -> float | None:
    lengths = [len(row["text"].split()) for row in rows if not row["failure"]]
    return float(np.mean(lengths)) if lengths else None


def _with_profiles(answers: Sequence[Row], items: Sequence[Item], personas: Mapping[str, Persona]) -> list[Row]:
    """Raises InputError where a profile is no profile of lines."""
    other = {(item.persona_id, item.prompt_id): item.wrong_persona_id for item in items}
    for persona in sorted({item.persona_id for item in items} | set(other.values())):
        stated_attributes(personas[persona].profile)
    return [
        {
            **row,
            "profile": personas[row["persona_id"]].profile,
            "other_profile": personas[other[row["persona_id"], row["prompt_id"]]].profile,
        }
        for row in answers
    ]


def _judge(
    judges: Sequence[EvaluationJudge], calls: Any, answers: Sequence[Row]
) -> tuple[list[Row], dict[str, dict[str, CritiqueVerdict]]]:
    """(rows of the transcripts, judge -> item_id -> verdict). Each answer is judged against the profile of the item's own persona."""
    whole = [row for row in answers if not row["failure"]]
    ids = [row["item_id"] for row in whole]
    transcripts: list[Row] = []
    found = {}
    for judge in judges:
        critiques = [Critique(row["profile"], row["question"], row["text"]) for row in whole]
        verdicts = criticise(judge.judge, calls, critiques, judge.judge.name)
        transcripts += transcript_rows(judge.judge, ids, verdicts)
        found[judge.judge.name] = dict(zip(ids, verdicts, strict=True))
    return transcripts, found


def _critiques(verdicts: Mapping[str, Any]) -> dict[str, CritiqueVerdict]:
    return {item: verdict for item, verdict in verdicts.items() if isinstance(verdict, CritiqueVerdict)}


def _result_name(model: LanguageModel, judges: Sequence[EvaluationJudge]) -> str:
    names = [judge.judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise InputError("Two judges have one name. Give each judge file a name of its own.")
    marks = "-".join(f"{judge.judge.name}-{digest(judge.judge.model)[:4]}" for judge in judges)
    return file_name(f"{EVALUATION}-{model.name}-{marks}")


def subtlety_table(result: Result) -> str:
    """For a terminal, at most 110 columns."""
    content = result.content
    lines = [
        f"{result.subject['name'] if result.subject else ''}: {content['items']:,} questions of {content['personas']:,} personas; "
        f"share of answers that recite the persona{_mark(result)}"
    ]
    measures = list(content["measures"])
    lines.append((f"{'answers':<38}" + "".join(f"{name[:23]:<24}" for name in measures)).rstrip())
    for kind in KINDS.values():
        blocks = [content["measures"][name] for name in measures]
        lines.append(
            f"{kind:<38}"
            + "".join(f"{_share(block['shares'].get(kind), block['withheld']):<24}" for block in blocks).rstrip()
        )
    lines += [textwrap.fill(f"{name}: {said}", 110, subsequent_indent="  ") for name, said in _tests(content)]
    return "\n".join([*lines, *(textwrap.fill(note, 110) for note in _notes(result))])


def section(results: Sequence[Result], folder: Path) -> Section | None:
    """None without a result."""
    if not results:
        return None
    tables, figures, examples = [], [], []
    text = [
        "Do answers recite the persona, and do they more after reasoning? The same questions for the same personas in both arms. Answers "
        "that were written without a persona, and for another one, are held against the same profile: what they seem to recite is "
        "chance, or the judge's error."
    ]
    for result in results:
        content = result.content
        said = [f"{result.description}{_mark(result)}.", *(f"{name}: {test}." for name, test in _tests(content))]
        text.append(" ".join([*said, *_notes(result)]))
        for name, block in content["measures"].items():
            if block["withheld"]:
                text.append(f"{name}: figures withheld, {block['withheld']}.")
                continue
            tables.append(_table(result, name, block))
            estimates = {kind: as_estimate(raw) for kind, raw in block["shares"].items()}
            figures.append(
                Figure(
                    f"Answers that recite the persona, by {name}",
                    points_figure(estimates, "% of answers"),
                    "; ".join(f"{kind} {_share(raw)}" for kind, raw in block["shares"].items()),
                    None,
                    f"{result.name}. Section 5.2 of the paper has no figure.",
                )
            )
        examples += _examples(result, folder)
    return Section(
        anchor="subtlety",
        title="Subtlety",
        text=text,
        tables=tables,
        figures=figures,
        examples=examples,
        scripted=any(_is_scripted(result) for result in results),
    )


def _table(result: Result, name: str, block: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [[kind, as_estimate(raw), None] for kind, raw in block["shares"].items()]
    rows += [[gap, None, as_estimate(raw)] for gap, raw in block["gaps"].items()]
    return Table(
        f"Answers that recite the persona, by {name} ({result.name})",
        ["Answers", "share", "difference"],
        rows,
        signed=(2,),
    )


def _tests(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, block in content["measures"].items():
        for key, of in (("reasoning", ""), ("reasoning_for_another", " for another persona (control)")):
            test = block[key]
            if test is not None:
                p = (
                    "no discordant pair, no test"
                    if test["p"] is None
                    else f"McNemar's exact p = {test['p']:.3f} as if items were independent, which those of a persona are not; "
                    f"with personas and questions exchanged whole p = {test['clustered_p']:.3f}"
                )
                yield (
                    name,
                    f"reasoning against none{of}: {test['discordant']} of {test['pairs']} pairs discordant, "
                    f"{test['only_second']} recite only with reasoning, {test['only_first']} only without; {p}",
                )


def _notes(result: Result) -> list[str]:
    notes = []
    if unscored := sum(result.rows["unscored"].values()):
        notes.append(f"{unscored:,} of {unscored + result.rows['scored']:,} verdicts are missing; they count nowhere.")
    for judge in result.judges:
        if judge["also"]:
            notes.append(f"The model of {judge['name']} also {' and '.join(judge['also'])}: it judges its own work.")
    return notes


def _is_scripted(result: Result) -> bool:
    return bool(result.settings["scripted"]) or any(judge["scripted"] for judge in result.judges)


def _mark(result: Result) -> str:
    return " (scripted)" if _is_scripted(result) else ""


def _examples(result: Result, folder: Path, count: int = 2) -> list[Example]:
    path = folder / f"{result.name}-{ANSWERS}"
    if not path.is_file():
        return []
    by_item: dict[str, list[Mapping[str, Any]]] = {}
    for row in read_table(path):
        if row["condition"] == "true" and not row["failure"]:
            by_item.setdefault(f"{row['persona_id']}/{row['prompt_id']}", []).append(row)
    return [
        Example(
            f"{result.name}: {key}",
            [("Question", rows[0]["question"]), ("Profile", rows[0]["profile"])]
            + [(KINDS[row["mode"], "true"].capitalize(), row["text"]) for row in rows],
        )
        for key, rows in list(by_item.items())[:count]
    ]


def _share(estimate: Mapping[str, Any] | None, withheld: str | None = None) -> str:
    return f"withheld: {withheld}"[:23] if estimate is None else percent_with_interval(estimate)
