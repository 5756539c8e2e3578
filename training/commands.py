"""The verbs of `persona train`: one for each method, the sweep and scoring; no logic. Heavy imports stand inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer

from training.kinds import HELP, OWN_KINDS, TRL_KINDS
from training.packaged import RECIPE_FOLDER

app = typer.Typer(no_args_is_help=True, help="Train on a published folder through accelerate.")

ModelFolder = Annotated[Path, typer.Option(help="The folder for the trained model.")]
TrainingRecipe = Annotated[
    str | None, typer.Option("--recipe", help="A training recipe: a file or a packaged name (named below).")
]
Accelerate = Annotated[
    str, typer.Option("--accelerate", help="An accelerate configuration: a file or a packaged name.")
]
TrainingData = Annotated[str, typer.Argument(metavar="DATASET", help="A published folder, or hub:org/name@v1.0.0.")]
Merge = Annotated[bool, typer.Option("--merge", help="Save the whole model with the adapter merged in.")]
Push = Annotated[
    str | None, typer.Option("--push", metavar="ORG/NAME", help="Then put the model on the Hub, in one commit.")
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository on the Hub private.")]
# What follows the options goes to the training script as it is.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def keys_of(method: str) -> str:
    """Which recipes there are for a training script, and where its keys are listed."""
    stems = sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))
    own = [stem for stem in stems if stem.removeprefix("demo_").removeprefix("qlora_").startswith(method)]
    return (
        f"Without --recipe: demo_{method}. Packaged, in training/recipes/: {', '.join(own)}. "
        f"What follows the options overrides the recipe's keys (--key value); all keys: python -m training.{method} --help"
    )


def add_on_trl(method: str) -> None:
    """The verb of a method on TRL's trainers; typer takes its options from the function's signature."""

    def verb(
        dataset: TrainingData,
        out: ModelFolder,
        recipe: TrainingRecipe = None,
        accelerate: Accelerate = "cpu",
        merge: Merge = False,
        push: Push = None,
        private: Private = False,
        context: typer.Context = None,  # type: ignore[assignment]
    ) -> None:
        train(method, dataset, out, recipe, accelerate, merge, push, private, context)

    app.command(method, context_settings=PASSED_ON, epilog=keys_of(method), help=HELP[method])(verb)


def add_own_loop(method: str) -> None:
    """The verb of a method that saves neither a merged model nor one for the Hub."""

    def verb(
        dataset: TrainingData,
        out: ModelFolder,
        recipe: TrainingRecipe = None,
        accelerate: Accelerate = "cpu",
        context: typer.Context = None,  # type: ignore[assignment]
    ) -> None:
        train(method, dataset, out, recipe, accelerate, context=context)

    app.command(method.replace("_", "-"), context_settings=PASSED_ON, epilog=keys_of(method), help=HELP[method])(verb)


for method in TRL_KINDS:
    add_on_trl(method)
for method in OWN_KINDS:
    add_own_loop(method)


def train(
    method: str,
    dataset: str,
    out: Path,
    recipe: str | None = None,
    accelerate: str = "cpu",
    merge: bool = False,
    push: str | None = None,
    private: bool = False,
    context: typer.Context | None = None,
) -> None:
    """Train, or find it trained, and say what to run next."""
    from training.launch import train as launch

    trained, pushed = launch(
        method, dataset, out, recipe, accelerate, context.args if context else (), merge, push, private
    )
    if dataset.startswith("hub:"):
        repository, _, revision = dataset.removeprefix("hub:").partition("@")
        typer.echo(
            f"To evaluate it: hf download {repository} --repo-type dataset --revision {revision or 'main'} --local-dir DATASET_FOLDER"
        )
        dataset = "DATASET_FOLDER"
    typer.echo(
        f"{'Trained' if trained else 'Already trained'}: {out}. Next: persona eval models {dataset} --model {out} --out RESULTS_FOLDER"
    )
    for line in pushed:
        typer.echo(line)


@app.command("sweep")
def sweep(
    recipe: Annotated[
        str, typer.Argument(help="A sweep: a file, or a packaged one: baselines_cpu, baselines (in training/sweeps/).")
    ],
    dataset: TrainingData,
    out: Annotated[Path, typer.Option(help="The folder for models, results and the table.")],
    seeds: Annotated[int | None, typer.Option(help="Only the first so many seeds of the sweep.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this method, by its id; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    accelerate: Accelerate = "cpu",
) -> None:
    """Baselines x seeds on the same rows, and one table of them. Running again goes on; exit code 1 if a run failed."""
    from training.sweep import run_sweep

    said, failures = run_sweep(recipe, dataset, out, seeds, only or (), jobs, accelerate)
    typer.echo(said)
    if failures:
        raise typer.Exit(1)


@app.command("score", context_settings=PASSED_ON)
def score(
    dataset: TrainingData,
    out: Annotated[Path, typer.Option(help="The JSON file for the result; the margins stand beside it.")],
    model: Annotated[
        Path | None, typer.Option(help="A trained model's folder; without it: --rule, --prompted ...")
    ] = None,
    context: typer.Context = None,  # type: ignore[assignment]
) -> None:
    """Test rows under the true, no and a wrong persona: --few_shot_pairs 8, --persona_corruption 0.5; untrained: --rule length."""
    from training.launch import run_module

    given = ["--model", str(model)] if model else []
    run_module("training.score", ["--dataset", dataset, "--out", str(out), *given, *(context.args if context else ())])
    following = (
        "the same model with --few_shot_pairs or --persona_corruption"
        if model
        else "the same rows with a trained --model"
    )
    typer.echo(f"Result in {out}, margins in {out.with_suffix('.parquet')}. Next: {following}")
