"""Every figure anew from the kept replies of judges and models, read with today's parsers. No model is called."""

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.judge.judge import Judge
from builder.judge.judge_file import JUDGE_FOLDER, load_judge
from builder.llm.model_recipe import ModelRecipe
from eval.results import Result, check_files, load_results, write_result

# Each is given a result whose files have just been checked.
Rescored = Callable[[Result, Path, Mapping[str, Judge]], Result]
KEPT_AS = "kept_as"  # in a judge's facts, where rereading has changed its label
# The evaluations whose figures follow from kept replies, and where their `rescored` is, imported when needed. Of `models` scores are kept,
# and nothing can be read anew.
EVALUATIONS_READ_ANEW = {
    "agreement": "eval.agreement.run",
    "attributes": "eval.attributes.run",
    "bench": "eval.bench.run",
    "calibration": "eval.calibration.calibrate",
    "elicitation": "eval.elicitation.run",
    "generations": "eval.generations",
    "human_study": "eval.human.analysis",
    "side_effects": "eval.side_effects.run",
    "subtlety": "eval.subtlety.run",
    "summaries": "eval.summaries.run",
}
NAMED_FIGURES = 5  # of a result; of the others the number


def rescore_results(folder: Path, judge_files: Sequence[str]) -> str:
    """Rewrite the results of the folder whose figures change; what changed, as text.

    judge_files: of judges that are not packaged. A judge is found by its name (the file's stem), whatever stands in the file today.

    Raises InputError for a folder without results, a judge that is neither packaged nor given, a given file that no result needs, and
    kept files that are missing or altered; then nothing is written.
    """
    results = load_results(folder)
    given = _by_name(judge_files)
    replied = [result for result in results if result.evaluation in EVALUATIONS_READ_ANEW]
    names = {judge["name"] for result in replied for judge in result.judges}
    if superfluous := sorted(given.keys() - names):
        raise InputError(
            f"No result in {folder} was judged by {', '.join(superfluous)}; judges of these results: {', '.join(sorted(names)) or 'none'}. "
            "A judge is found by its file's name: give the file under the name that it had."
        )
    pairs = []
    for result in replied:
        check_files(folder, result)
        judges = {kept_as(facts): _judge_of_today(result, facts, given) for facts in result.judges}
        pairs.append(
            (result, _with_kept_labels(result, _rescored(result.evaluation)(_as_kept(result), folder, judges)))
        )
    lines = []
    for before, after in pairs:
        if after != before:
            write_result(folder, after)
            lines += [f"{before.name}: {line}" for line in changes(before, after)]
    counted = f"{len(pairs)} of {len(results)} results have kept replies to read again"
    changed = sum(after != before for before, after in pairs)
    return "\n".join([*lines, f"{counted}; {changed} changed." if changed else f"{counted}; nothing changed."])


def kept_as(facts: Mapping[str, Any]) -> str:
    """The label under which the judge's replies lie in the files: the one that it had when it replied."""
    return str(facts.get(KEPT_AS, facts["label"]))


def changes(before: Result, after: Result) -> list[str]:
    """What differs between two results: rows scored and unscored, judges, and the first few figures with the number of the others."""
    said = []
    if before.rows != after.rows:
        said.append(f"{_rows_in_words(before)} -> {_rows_in_words(after)}")
    for old, new in zip(before.judges, after.judges, strict=True):
        if old != new:
            said.append(f"judge {old['label']} -> {new['label']}")
    old_figures, new_figures = dict(_leaves(before.content)), dict(_leaves(after.content))
    names = list(dict.fromkeys([*old_figures, *new_figures]))
    differing = [name for name in names if old_figures.get(name, _ABSENT) != new_figures.get(name, _ABSENT)]
    for name in differing[:NAMED_FIGURES]:
        said.append(f"{name} {_shown(old_figures.get(name, _ABSENT))} -> {_shown(new_figures.get(name, _ABSENT))}")
    if len(differing) > NAMED_FIGURES:
        said.append(f"and {len(differing) - NAMED_FIGURES} more figures")
    return said or ["rewritten"]


_ABSENT = object()


def _as_kept(result: Result) -> Result:
    """With the labels that stand in the files, whatever an earlier rereading made of them."""
    return replace(result, judges=[facts | {"label": kept_as(facts)} for facts in result.judges])


def _with_kept_labels(before: Result, after: Result) -> Result:
    judges = []
    for old, new in zip(before.judges, after.judges, strict=True):
        facts = {key: value for key, value in new.items() if key != KEPT_AS}
        judges.append(facts if facts["label"] == kept_as(old) else facts | {KEPT_AS: kept_as(old)})
    # As it will be read again: a tuple that comes back as a list is no change.
    return Result(**json.loads(json.dumps(asdict(replace(after, judges=judges)))))


def _rescored(evaluation: str) -> Rescored:
    found: Rescored = importlib.import_module(EVALUATIONS_READ_ANEW[evaluation]).rescored
    return found


def _by_name(files: Sequence[str]) -> dict[str, str]:
    """Name of the judge -> its file."""
    found: dict[str, str] = {}
    for file in files:
        path = Path(file)
        if path.suffix != ".yaml" or not path.is_file():
            raise InputError(
                f"{file} is no judge file. Give a .yaml file that exists; packaged judges are found by themselves."
            )
        if path.stem in found:
            raise InputError(f"Two judge files are called {path.stem}. Give one: a judge is found by its file's name.")
        found[path.stem] = file
    return found


def _judge_of_today(result: Result, facts: Mapping[str, Any], given: Mapping[str, str]) -> Judge:
    """The judge of that name as its file says today, with the model that replied then."""
    name = facts["name"]
    if name not in given and not (JUDGE_FOLDER / f"{name}.yaml").is_file():
        raise InputError(
            f"{result.name} was judged by {name}, which is not packaged. Give its file: persona eval rescore RESULTS --judge {name}.yaml"
        )
    model = ModelRecipe(provider=facts["provider"], model=facts["model"], revision=facts["revision"])
    judge = load_judge(given.get(name, name), model, result.seed)
    if judge.kind != facts["kind"]:
        raise InputError(
            f"{result.name} was judged by {name} as a {facts['kind']} judge, and its file now describes a {judge.kind} judge, which cannot "
            "read these replies. Give the file that fits, or evaluate again."
        )
    return judge


def _rows_in_words(result: Result) -> str:
    unscored = ", ".join(f"{count:,} {reason}" for reason, count in result.rows["unscored"].items())
    return f"{result.rows['scored']:,} rows scored" + (f", unscored: {unscored}" if unscored else "")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of every plain value in a nested one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{index}]")
    else:
        yield name, value


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "(absent)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
