"""The verbs of `persona annotate`: a human study from its file to its figures, no logic. Heavy imports stand inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from eval.commands import BaseModel, DryRun, Judges, MaxCalls, MaxCost, Out, common, then

app = typer.Typer(
    no_args_is_help=True,
    help="A study in which people choose as a persona would: plan it, serve it, export and analyse what they said.",
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study: see docs/human_study.md.")]
Database = Annotated[
    Path | None, typer.Option(help="The study's SQLite file; beside the study file, with its name, if left out.")
]
Simulated = Annotated[bool, typer.Option("--simulated", help="The answers of simulated raters instead of people's.")]


@app.command()
def plan(study: StudyFile) -> None:
    """What the study asks whom, what it will cost the raters in time, and how sure its kappas will be."""
    from eval.human.plan import plan_text

    typer.echo(plan_text(study))


@app.command()
def tokens(
    study: StudyFile,
    count: Annotated[int | None, typer.Option(help="So many; one a rater of the study if left out.")] = None,
    address: Annotated[str, typer.Option(help="Where the study will be served.")] = "http://127.0.0.1:7860",
    out: Annotated[Path | None, typer.Option(help="The CSV file; beside the study file if left out.")] = None,
    database: Database = None,
) -> None:
    """Issue tokens and write the raters' links to a CSV file, the only place that has them."""
    from eval.human.tokens import write_tokens

    typer.echo(write_tokens(study, count, address, out, database))


@app.command()
def raters(
    study: StudyFile,
    panel_ids: Annotated[
        Path, typer.Argument(metavar="PANEL_IDS.txt", help="Ids of the panel's participants, one a line.")
    ],
    out: Annotated[Path | None, typer.Option(help="A CSV file; printed if left out.")] = None,
    database: Database = None,
) -> None:
    """Whom of a panel to pay: the rater behind each id, and whether the answers count. For `recruiting: open`."""
    from eval.human.tokens import panel_raters

    typer.echo(panel_raters(study, panel_ids, out, database))


@app.command()
def serve(
    study: StudyFile,
    host: Annotated[str, typer.Option(help="0.0.0.0 for everybody who reaches this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    proxies: Annotated[
        int, typer.Option(help="Proxies of yours before it, whose X-Forwarded-For says who asks; 0 believes none.")
    ] = 0,
    database: Database = None,
) -> None:
    """Serve the study to its raters. PERSONA_STUDY_PASSWORD opens the export at /export."""
    from eval.human.app import serve as serve_study

    serve_study(study, database, host, port, proxies)


@app.command()
def status(study: StudyFile, database: Database = None, simulated: Simulated = False) -> None:
    """Places, raters and answers so far."""
    from eval.human.status import status_text

    typer.echo(status_text(study, database, simulated))


@app.command()
def simulate(
    study: StudyFile,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE[=MODEL]", help="Who answers for the raters; the data's own labels answer if left out."
        ),
    ] = None,
    noise: Annotated[
        float, typer.Option(help="Share of answers turned round at random, of raters who pay attention.")
    ] = 0.1,
    careless: Annotated[
        float, typer.Option(help="Share of raters who click at random, at once, with pasted text.")
    ] = 0.1,
    dropouts: Annotated[float, typer.Option(help="Share of raters who give up half way.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    base_model: BaseModel = None,
    database: Database = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Simulated raters take the whole study, to try it before people do. Everything that is made of them is labelled so."""
    from eval.human.simulated import simulate as run

    options = common(seed, max_calls, max_cost, dry_run)
    typer.echo(run(study, database, judge, noise, careless, dropouts, base_model=base_model, **options))


@app.command()
def export(
    study: StudyFile,
    out: Annotated[Path, typer.Argument(help="A folder for the tables.")],
    database: Database = None,
    simulated: Simulated = False,
) -> None:
    """Answers, raters and judgements as Parquet, and a file of choices for `persona eval agreement`."""
    from eval.human.export import export as write

    typer.echo(write(study, out, database, simulated))


@app.command()
def analyse(
    study: StudyFile,
    judge: Judges = None,
    out: Out = Path("results"),
    database: Database = None,
    simulated: Simulated = False,
    base_model: BaseModel = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Exclusions, majorities, kappa between people and with judges, alpha, controls, power: a result for `persona report`."""
    from eval.human.analysis import analyse as run

    options = common(seed, max_calls, max_cost, dry_run)
    typer.echo(run(study, judge or [], out, database, simulated, base_model=base_model, **options))
    then(out, f"persona report {out}", dry_run)


@app.command()
def space(
    study: StudyFile,
    out: Annotated[Path, typer.Argument(help="A folder for the Space; it must not exist.")],
    database: Database = None,
) -> None:
    """Write the study as a folder that runs as a Hugging Face Space."""
    from eval.human.space import write_space

    typer.echo(write_space(study, out, database))
