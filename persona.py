"""The command line `persona`: one verb per stage, no logic. Heavy imports stand inside the verbs, so that --help answers at once."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from eval import commands as evaluation
from eval.human import commands as human_study
from training import commands as training
from training.commands import TrainingData

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Census personas -> preference pairs -> Hub splits -> persona-conditioned models, scored beside their controls.",
    epilog="Start with `persona demo`. Exit codes: 0 done, 2 bad input, 3 stopped by a budget, 1 anything else.",
)
app.add_typer(training.app, name="train")
app.add_typer(evaluation.app, name="eval")
app.add_typer(human_study.app, name="annotate")
census_app = typer.Typer(no_args_is_help=True, help="Get census files, and compare personas with the census.")
app.add_typer(census_app, name="census")
responses_app = typer.Typer(
    no_args_is_help=True, help="Hand recorded responses on, so that others rebuild without a model."
)
app.add_typer(responses_app, name="responses")
import_app = typer.Typer(no_args_is_help=True, help="Data of others in our tables.")
app.add_typer(import_app, name="import")

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key: personas.count=20.")
]
Census = Annotated[
    str | None,
    typer.Option(help="PUMS person file (.parquet, .csv, .csv.gz, .zip), or a folder that `census fetch` filled."),
]
Household = Annotated[str | None, typer.Option(help="The matching PUMS household file.")]
Prompts = Annotated[
    str | None,
    typer.Option(help="Questions instead of the recipe's: a JSONL, CSV or TSV file, or hub:org/name@revision."),
]
Recipe = Annotated[str, typer.Argument(help="A recipe file, or the name of a packaged one: demo, small, paper.")]


def recipe_from(
    source: str, census: str | None, household: str | None, prompts: str | None, settings: list[str] | None
):
    import json

    from builder.recipe import load_recipe

    named = {"census.source": census, "census.household_source": household, "prompts.source": prompts}
    return load_recipe(
        source,
        [*(f"{key}={json.dumps(value)}" for key, value in named.items() if value is not None), *(settings or [])],
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("runs/demo"),
) -> None:
    """The whole road on the embedded model: build, audit, compare with the census, publish, train, evaluate, report. Again: replay."""
    import time

    from builder.summary import run_costs

    started = time.monotonic()
    published, models = out / "published", [out / "models" / "dpo", out / "models" / "reward"]
    build("demo", out=out / "build")
    audit(out / "build")
    census_compare(str(out / "build"))
    publish(out / "build", to=str(published))
    training.train("dpo", str(published), models[0])
    training.train("reward", str(published), models[1])
    evaluation.models(published, model=models, out=out / "results")
    report(out / "results", dataset=published, run=out / "build", output=out / "report.html")
    typer.echo(f"The demo took {run_costs(started)}. Next: persona preview small")


@app.command()
def build(
    recipe: Recipe,
    census: Census = None,
    household: Household = None,
    prompts: Prompts = None,
    out: Annotated[Path | None, typer.Option(help="The build's folder (default runs/<recipe name>).")] = None,
    until: Annotated[
        str, typer.Option(help="Stop after a stage: personas, prompts, pairs, matched or contrast.")
    ] = "contrast",
    settings: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate calls, tokens, cost and time; call and write nothing.")
    ] = False,
    pilot: Annotated[
        int | None, typer.Option(help="Only ask for what so many pairs need: their lengths make --dry-run exact.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(help="Stop (exit code 3) after so many model calls.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="Stop (exit code 3) at so many USD.")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again where a recorded attempt failed.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="local, or ray: shards on a Ray cluster (RAY_ADDRESS), else on this machine.")
    ] = "local",
    extend: Annotated[
        str | None, typer.Option(help="A published version to extend: a folder, or hub:org/name@v1.0.0.")
    ] = None,
) -> None:
    """Personas, prompts, pairs and contrast pairs from a recipe. Running again goes on from what is recorded."""
    from builder.llm.budget import Budget
    from builder.pipeline import run_build
    from builder.summary import build_summary

    parsed = recipe_from(recipe, census, household, prompts, settings)
    folder = out or Path("runs") / parsed.name
    budget = Budget(max_calls, max_cost)
    result = run_build(parsed, folder, until, budget, dry_run, retry_failed, engine=engine, pilot=pilot, extend=extend)
    typer.echo(build_summary(result.build))
    if dry_run:
        typer.echo("Nothing was called or written.")
    elif pilot is not None:
        typer.echo(f"Replies in {folder}. Next: persona build {recipe} --out {folder} --dry-run")
    else:
        typer.echo(f"Build in {folder}. Next: persona publish {folder} --to {folder}-published")


@app.command()
def audit(run: Annotated[Path, typer.Argument(help="A build's folder.")]) -> None:
    """Can the pairs be won without the persona, and do the splits hold? Writes RUN/audit.json; exit code 1 if a check fails."""
    from builder.audit.audit import audit_build, failures
    from builder.audit.table import audit_table

    checks = audit_build(run)
    typer.echo(audit_table(checks))
    if failures(checks):
        raise typer.Exit(1)
    typer.echo(f"Audit in {run / 'audit.json'}. Next: persona publish {run} --to {run}-published")


@app.command()
def publish(
    run: Annotated[Path, typer.Argument(help="A build's folder.")],
    to: Annotated[str, typer.Option(help="A folder to write, or a dataset on the Hub: hub:org/name.")],
    version: Annotated[str, typer.Option(help="Version of the dataset: major.minor.patch.")] = "0.1.0",
    previous: Annotated[
        str | None, typer.Option(help="For a folder: the version before, a folder or hub:org/name@v1.0.0.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose the version as a pull request.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and compare all; write nothing.")] = False,
    responses: Annotated[
        bool,
        typer.Option("--responses", help="Add every recorded model response, so that others rebuild without a model."),
    ] = False,
    for_own_use: Annotated[
        bool, typer.Option("--for-own-use", help="Write a folder also from imported data that may not be passed on.")
    ] = False,
) -> None:
    """Audit a build and publish it as a version with its card, to a folder or the Hub, whole or not at all."""
    from builder.publishing.publish import publish as publish_build
    from builder.publishing.summary import publishing_summary

    published = publish_build(
        run,
        to,
        version,
        previous=previous,
        for_own_use=for_own_use,
        private=private,
        create_pr=create_pr,
        dry_run=dry_run,
        responses=responses,
    )
    typer.echo(publishing_summary(published, to, dry_run))


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A published folder, or hub:org/name@v1.0.0.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    out: Annotated[
        Path | None, typer.Option(help="A Parquet file for every id that differs, with both hashes.")
    ] = None,
) -> None:
    """What changed between two published versions, row by row, and the step of the version number that follows."""
    from builder.published import version_folder
    from builder.publishing.diff import diff_versions, refuse_unwritable
    from builder.publishing.difference_text import difference_text

    if out is not None:
        refuse_unwritable(out)
    difference = diff_versions(version_folder(before), version_folder(after), out=out)
    typer.echo(difference_text(difference))
    if out is not None:
        typer.echo(f"Every id that differs in {out}.")


@app.command()
def answer(
    model: Annotated[str, typer.Argument(help="The folder of a trained DPO model, or `embedded`.")],
    dataset: TrainingData,
    persona: Annotated[
        list[str], typer.Option(metavar="ID", help="A persona of the dataset, or `none`; may be repeated.")
    ],
    question: Annotated[str, typer.Option(help="What each is asked.")],
    base_model: Annotated[
        str | None, typer.Option(help="Where the model's base is, if it was trained from a folder.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="The longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the most likely answer. Above: a draw.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """What a DPO model answers as each persona, shown as in its training; `none`: as nobody in particular."""
    from training.generation import answer_question

    written = answer_question(model, dataset, persona, question, base_model, max_new_tokens, temperature, seed)
    for name, said in zip(persona, written, strict=True):
        typer.echo(f"{name}: {said.text}{'' if said.finished else f' ... (cut at {max_new_tokens} tokens)'}\n")
    typer.echo("Next: the same with another --persona; what answers are worth, persona eval models shows")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="A folder of results.")],
    dataset: Annotated[
        Path | None, typer.Option(help="The published folder they were computed on: adds the data and its figures.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The build's folder: adds an audit or a comparison with the census made since.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The page to write (default RESULTS/report.html).")] = None,
) -> None:
    """One self-contained HTML page: every result beside its controls, the figures of the paper, samples, provenance."""
    from eval.report.write import write_report

    page = write_report(results, output or results / "report.html", dataset, run)
    typer.echo(f"Report in {page}. Open it in a browser.")


@app.command()
def explore(
    dataset: Annotated[
        str, typer.Argument(metavar="FOLDER|hub:org/name", help="A published folder, or one on the Hub.")
    ],
    results: Annotated[Path | None, typer.Option(help="A folder of results, to walk through beside the data.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 for everybody who reaches this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7861,
) -> None:
    """Walk through a dataset in the browser: personas, pairs side by side with their differences, verdicts, results."""
    from eval.explore.app import serve

    serve(dataset, results, host, port)


@app.command()
def check(
    recipe: Recipe,
    census: Census = None,
    household: Household = None,
    prompts: Prompts = None,
    out: Annotated[Path | None, typer.Option(help="The build's folder (default runs/<recipe name>).")] = None,
    settings: Settings = None,
) -> None:
    """Find what would fail before anything is spent: files, endpoint, key, model, template, lengths, disk."""
    from builder.check import check_recipe

    parsed = recipe_from(recipe, census, household, prompts, settings)
    problems = 0
    for name, problem in check_recipe(parsed, out or Path("runs") / parsed.name):
        typer.echo(f"{'ok     ' if problem is None else 'PROBLEM'}  {name}{'' if problem is None else f': {problem}'}")
        problems += problem is not None
    if problems:
        typer.echo(f"{problems} problem{'s' if problems > 1 else ''} to mend before building.")
        raise typer.Exit(2)
    typer.echo(f"Nothing stands in the way. Next: persona preview {recipe}")


@census_app.command("fetch")
def census_fetch(
    year: Annotated[int, typer.Option(help="Survey year, the last one of a 5-year file.")],
    states: Annotated[str, typer.Option(help="Postal codes: WY,CO. `us` for the whole nation in one file.")],
    out: Annotated[Path | None, typer.Option(help="The folder for the files (default census/<year>).")] = None,
    five_year: Annotated[
        bool, typer.Option("--five-year", help="The 5-year files instead of the 1-year ones.")
    ] = False,
    base_url: Annotated[str | None, typer.Option(help="A mirror of the Bureau's PUMS folder.")] = None,
) -> None:
    """Download PUMS person and housing files from the Census Bureau. Running again goes on where it stopped."""
    from builder.census.fetch import BUREAU_URL, fetch_pums

    folder = out or Path("census") / (f"{year}-5-year" if five_year else str(year))
    codes = [code.strip() for code in states.split(",") if code.strip()]
    manifest = fetch_pums(year, codes, folder, five_year=five_year, base_url=base_url or BUREAU_URL)
    total = sum(entry["bytes"] for entry in manifest["files"].values())
    typer.echo(
        f"{len(manifest['files'])} files, {total / 1e6:,.1f} MB in {folder}, hashes in {folder / 'manifest.json'}."
    )
    typer.echo(f"Next: persona build small --census {folder}")


@census_app.command("compare")
def census_compare(
    what: Annotated[str, typer.Argument(help="A build's folder; or `packaged` or a PUMS file, with --census.")],
    census: Annotated[str | None, typer.Option(help="Compare with this PUMS file instead of the build's own.")] = None,
    household: Household = None,
    draws: Annotated[int, typer.Option(help="Simulated draws for the distance that chance alone gives.")] = 1000,
    adults: Annotated[bool, typer.Option("--adults", help="Compare the adults of two PUMS files.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the report goes (default: the build's folder; runs/fidelity for two files)."),
    ] = None,
) -> None:
    """How far the personas are from the census, attribute by attribute and pair by pair, beside what chance alone gives."""
    from builder.fidelity.compare import compare
    from builder.fidelity.figures import figures
    from builder.fidelity.page import write_fidelity
    from builder.fidelity.table import fidelity_table
    from builder.files import make_folder

    is_build = Path(what, "build.json").is_file()
    folder = make_folder(out or (Path(what) if is_build else Path("runs") / "fidelity"))
    result = compare(what, census, household, draws, adults)
    typer.echo(fidelity_table(result))
    page, picture = write_fidelity(result, folder), figures(result, folder)
    following = (
        f"Next: the other stages, persona build RECIPE --out {what}" if is_build else "Next: persona census compare RUN"
    )
    typer.echo(f"Histograms in {page} and {picture}. {following}")


@responses_app.command("export")
def responses_export(
    run: Annotated[Path, typer.Argument(help="A build's folder.")],
    file: Annotated[Path, typer.Argument(help="The Parquet file to write.")],
) -> None:
    """Every recorded response in one file, without what only this machine knows."""
    from builder.llm.transfer import export_responses

    said = export_responses(run, file)
    typer.echo(f"{said['answers']:,} answers and {said['failed_attempts']:,} failed attempts in {file}.")
    typer.echo(
        f"Next, wherever it is wanted: persona responses import {file} NEW_RUN, then persona build RECIPE --out NEW_RUN"
    )


@responses_app.command("import")
def responses_import(
    file: Annotated[Path, typer.Argument(help="A file that `responses export` wrote.")],
    run: Annotated[Path, typer.Argument(help="A new or an existing build's folder.")],
) -> None:
    """Add recorded responses to a build's record; what is there already stays as it is."""
    from builder.llm.transfer import import_responses

    said = import_responses(file, run)
    typer.echo(", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in said.items()) + ".")
    typer.echo(f"Next: persona build RECIPE --out {run}")


@import_app.command("authors")
def import_authors_command(
    source: Annotated[str, typer.Argument(help="The release's file (Parquet, JSONL, CSV), or hub:org/name@revision.")],
    out: Annotated[Path, typer.Option(help="The build folder to write.")],
    seed: Annotated[int, typer.Option(help="Of the draw of seen personas and of the splits.")] = 20240724,
    seen: Annotated[int | None, typer.Option(help="Seen personas (default: the paper's share).")] = None,
) -> None:
    """The pairs that the paper's authors released, with our ids and splits."""
    from builder.imports.authors import import_authors
    from builder.summary import build_summary

    typer.echo(build_summary(import_authors(source, out, seed, seen)))
    typer.echo(f"Build in {out}. Next: persona audit {out}")


@app.command()
def contamination(
    data: Annotated[Path, typer.Argument(help="A build's folder, or a published one.")],
    texts: Annotated[Path, typer.Option(help="The texts to look in: .txt, .jsonl, .csv or .parquet.")],
    text_column: Annotated[str | None, typer.Option(help="The column with the text.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the hits go (default: with the data).")] = None,
) -> None:
    """Does a list of texts (somebody's training data) hold these questions and answers?"""
    from builder.contamination import contamination_table, find_contamination

    found = find_contamination(data, texts, text_column, out)
    typer.echo(contamination_table(found))
    typer.echo(f"Every hit with its ids in {found.path}.")


@app.command()
def preview(
    recipe: Recipe,
    census: Census = None,
    household: Household = None,
    prompts: Prompts = None,
    settings: Settings = None,
) -> None:
    """One finished persona and pair."""
    from builder.preview import preview as preview_recipe
    from builder.summary import pair_text

    persona, pair = preview_recipe(recipe_from(recipe, census, household, prompts, settings))
    typer.echo(pair_text(persona, pair))
    typer.echo(f"Next: persona build {recipe}")


def main() -> None:
    """Turns the two deliberate stops into their exit codes; anything else keeps its traceback and exit code 1."""
    import logging

    from builder.errors import BudgetStop, InputError

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except (InputError, BudgetStop) as stop:
        # What a budget says begins with "Stopped".
        print(f"{'Error: ' if isinstance(stop, InputError) else ''}{stop}", file=sys.stderr)
        sys.exit(stop.exit_code)


if __name__ == "__main__":
    main()
