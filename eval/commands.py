"""The verbs of `persona eval`: one for each evaluation, no logic. Heavy imports stand inside the verbs, so that --help answers at once."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Judges, models, agreement, side effects, each beside its controls. Results go to one folder, for `persona report`.",
)

Dataset = Annotated[Path, typer.Argument(help="A published folder.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="embedded, scripted, a trained DPO model's folder, a model folder, NAME@http://endpoint/v1, or a YAML file; may be repeated.",
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        "--judge", metavar="JUDGE[=MODEL]", help="A judge file or packaged judge, and its model; may be repeated."
    ),
]
Out = Annotated[Path, typer.Option(help="The folder for the results.")]
Limit = Annotated[int | None, typer.Option(help="At most so many items, drawn by seed.")]
Seed = Annotated[int, typer.Option(help="Of every draw.")]
BaseModel = Annotated[str | None, typer.Option(help="Where the models' base is, if they were trained from a folder.")]
MaxCalls = Annotated[int | None, typer.Option(help="Stop (exit code 3) after so many model calls.")]
MaxCost = Annotated[float | None, typer.Option(help="Stop (exit code 3) at so many USD.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count calls, tokens and cost; call and write nothing.")]
RESULTS = Path("results")


@app.command()
def models(
    dataset: Dataset,
    model: Annotated[list[Path] | None, typer.Option(help="A trained model's folder; may be repeated.")] = None,
    out: Out = RESULTS,
    limit: Annotated[int | None, typer.Option(help="At most so many rows of each config and split.")] = None,
    judge: Judges = None,
    generations: Annotated[
        int, typer.Option(help="With --judge: so many answers of each DPO model, judged against its base model's.")
    ] = 100,
    best_of: Annotated[
        int, typer.Option(help="With --judge: candidates of which each reward model takes the best.")
    ] = 4,
    base_model: BaseModel = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Models and baselines on the test pairs, under the true, no and a wrong persona; with a judge also what they write."""
    from eval.models import evaluate_models
    from eval.models_table import result_table

    folders = model or []
    if judge:
        from eval.generations import check_request

        check_request(judge, best_of, seed)  # before the scoring, which can take hours
    if not dry_run:
        evaluate_models(dataset, folders, out, limit, seed=seed, base_model=base_model, command=said())
        typer.echo(result_table(out))
    elif not judge:
        typer.echo("Dry run: without --judge no model is called. Nothing was written.")
    if judge:
        from eval.generations import evaluate_generations

        typer.echo(
            evaluate_generations(
                dataset,
                folders,
                judge,
                out,
                limit=generations,
                best_of=best_of,
                base_model=base_model,
                **common(seed, max_calls, max_cost, dry_run),
            )
        )
    if not dry_run:
        then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def bench(
    dataset: Dataset,
    model: Models = None,
    judge: Judges = None,
    evaluation: Annotated[str, typer.Option(help="main, pass_at_k, intersectionality or comparison.")] = "main",
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="baseline, output_only, chain_of_thought or demographic_summary; may be repeated. Without it all in main, "
            "chain_of_thought elsewhere; baseline is always there."
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ATTRIBUTE=VALUE",
            help="Intersectionality: the group with this value, against all others; may be repeated (and).",
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Answers a question, for pass_at_k: 16 without it.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of the answers: 0.7 without it; pass_at_k needs one above 0.")
    ] = None,
    form: Annotated[
        str, typer.Option(help="How models are asked: marked (endpoints), plain (models in this process) or auto.")
    ] = "auto",
    out: Out = RESULTS,
    limit: Limit = 700,
    base_model: BaseModel = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """PERSONA Bench: does what a model writes for a persona need revision? (paper, section 5)"""
    from eval.bench.run import run_bench

    typer.echo(
        run_bench(
            dataset,
            model or ["embedded"],
            judge or [],
            out,
            evaluation=evaluation,
            modes=mode,
            where=where or [],
            samples=samples,
            temperature=temperature,
            form=form,
            limit=limit,
            base_model=base_model,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def calibrate(
    judge: Judges = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines of profile, question, answers (two) and expected (0 or 1); without it the packaged contrasts."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often each comparison is asked, for test-retest.")] = 2,
    out: Out = RESULTS,
    limit: Limit = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """A judge's calibration card: accuracy, biases, consistency, reliability, anchors; beside no and a wrong persona."""
    from eval.calibration.calibrate import calibrate as calibrate_judges

    typer.echo(
        calibrate_judges(
            judge or ["likelihood"],
            items,
            out,
            repeats=repeats,
            limit=limit,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out}", dry_run)


@app.command()
def attributes(
    dataset: Dataset,
    judge: Judges = None,
    model: Annotated[
        str, typer.Option(help="Who critiques and refines the answers, as --model elsewhere.")
    ] = "embedded",
    design: Annotated[
        list[str] | None,
        typer.Option(help="add_one_in, leave_one_out, swap or corruption; all without it; may be repeated."),
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Only this of the 33 attributes; may be repeated.")
    ] = None,
    personas: Annotated[int, typer.Option(help="Personas an attribute.")] = 40,
    questions: Annotated[int, typer.Option(help="Questions a persona.")] = 20,
    pairs: Annotated[
        str,
        typer.Option(
            help="What is judged: twins (the refinements without and with the change), baseline (base answer and refinement) or own."
        ),
    ] = "twins",
    out: Out = RESULTS,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """How much one attribute changes what is preferred: the paper's add-one-in (section 4.1), leave-one-out, swap, and a null arm."""
    from eval.attributes.run import run_attributes

    typer.echo(
        run_attributes(
            dataset,
            judge or ["likelihood"],
            model,
            out,
            designs=design,
            attributes=attribute,
            personas=personas,
            questions=questions,
            pairs=pairs,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def agreement(
    dataset: Dataset,
    annotator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JUDGE[=MODEL]|FILE",
            help="A judge with its model, `simulated:N` for N simulated people, or a file of choices (.jsonl, .csv); may be repeated.",
        ),
    ] = None,
    out: Out = RESULTS,
    limit: Limit = 400,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Who agrees with whom, persona by persona: kappa matrices and histograms, Krippendorff's alpha (paper, section 4.2)."""
    from eval.agreement.run import run_agreement

    typer.echo(
        run_agreement(
            dataset,
            annotator or ["likelihood", "profile-overlap"],
            out,
            limit=limit,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def summaries(
    dataset: Dataset,
    model: Models = None,
    differ: Annotated[
        str | None, typer.Option(help="Also a model that lists what each summary leaves out; as --model.")
    ] = None,
    out: Out = RESULTS,
    limit: Limit = 200,
    base_model: BaseModel = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Which attributes a model's summary of a persona leaves out (paper, section 5.3)."""
    from eval.summaries.run import run_summaries

    typer.echo(
        run_summaries(
            dataset,
            model or ["embedded"],
            out,
            differ=differ,
            limit=limit,
            base_model=base_model,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def subtlety(
    dataset: Dataset,
    model: Models = None,
    judge: Judges = None,
    out: Out = RESULTS,
    limit: Limit = 200,
    base_model: BaseModel = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """Do answers recite the persona, and do they more after reasoning? The same questions in both arms, McNemar's test (section 5.2)."""
    from eval.subtlety.run import run_subtlety

    typer.echo(
        run_subtlety(
            dataset,
            model or ["embedded"],
            judge or ["subtlety_choice"],
            out,
            limit=limit,
            base_model=base_model,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command("side-effects")
def side_effects(
    dataset: Dataset,
    model: Models = None,
    out: Out = RESULTS,
    limit: Limit = 200,
    base_model: BaseModel = None,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """What personas cost: attributes named in answers, stereotypes, agreement-seeking, refusals, length."""
    from eval.side_effects.run import run_side_effects

    typer.echo(
        run_side_effects(
            dataset,
            model or ["embedded"],
            out,
            limit=limit,
            base_model=base_model,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def elicit(
    dataset: Dataset,
    model: Annotated[str, typer.Option(help="Who plays the personas, as --model elsewhere.")] = "scripted",
    learner: Annotated[
        list[str] | None, typer.Option(help="profile or pairs: what is learned from; both without it; may be repeated.")
    ] = None,
    order: Annotated[
        list[str] | None, typer.Option(help="random, fixed or uncertainty; all without it; may be repeated.")
    ] = None,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="profile-overlap|JUDGE[=MODEL]",
            help="Learner profile: what predicts preferences by a partial profile; a likelihood or pairwise judge.",
        ),
    ] = "likelihood",
    out: Out = RESULTS,
    limit: Annotated[int | None, typer.Option(help="At most so many personas.")] = 40,
    seed: Seed = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: DryRun = False,
) -> None:
    """What asking a persona a few questions is worth: accuracy on its held-out pairs after 0, 1, 2, 4 and 8 answers (paper, section 1)."""
    from eval.elicitation.run import run_elicitation

    typer.echo(
        run_elicitation(
            dataset,
            model,
            out,
            learners=learner,
            orders=order,
            scorer=scorer,
            limit=limit,
            **common(seed, max_calls, max_cost, dry_run),
        )
    )
    then(out, f"persona report {out} --dataset {dataset}", dry_run)


@app.command()
def rescore(
    results: Annotated[Path, typer.Argument(help="A folder of results.")],
    judge: Annotated[
        list[str] | None, typer.Option("--judge", help="A judge file that is not packaged; may be repeated.")
    ] = None,
) -> None:
    """Read the kept replies of judges again, with today's parsers, and compute every figure anew. Calls no model."""
    from eval.rescore import rescore_results

    typer.echo(rescore_results(results, judge or []))
    then(results, f"persona report {results}")


def common(seed: int, max_calls: int | None, max_cost: float | None, dry_run: bool) -> dict[str, Any]:
    """What every evaluation that asks models takes."""
    from builder.llm.budget import Budget

    return {"seed": seed, "budget": Budget(max_calls, max_cost), "dry_run": dry_run, "command": said()}


def said() -> str:
    """The command as a result carries it: folders by their last part, no address."""
    words = [word if "://" in word else word.rstrip("/").rsplit("/", 1)[-1] for word in sys.argv[1:]]
    return shlex.join(["persona", *(word.partition("@http")[0] for word in words)])


def then(out: Path, following: str, dry_run: bool = False) -> None:
    if not dry_run:  # which has said that nothing was written
        typer.echo(f"Results in {out}. Next: {following}")
