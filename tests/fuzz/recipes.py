"""Settings in YAML: recipes of a build, judges, templates, models, studies, sweeps, training, and --set."""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from trl import DPOConfig

from builder.judge.judge_file import JUDGE_FOLDER, load_judge
from builder.llm.model_recipe import ModelRecipe, load_model_file
from builder.llm.templates import TEMPLATE_FOLDER, check_renders, load_template
from builder.recipe import RECIPE_FOLDER, BuildRecipe, as_dict, fingerprint, load_recipe
from eval.human.study import fingerprint_of, load_study
from tests.fuzz.mutations import (
    TOKENS,
    Files,
    byte_edit,
    edited_bytes,
    edited_lines,
    edited_value,
    encoded,
    encodings,
    line_edit,
    some,
    value_edit,
)
from training.arguments import parse_arguments
from training.launch import saves_adapter
from training.packaged import SWEEP_FOLDER
from training.sweep_recipe import all_cells, load_sweep

TRAINING_FOLDER = SWEEP_FOLDER.parent / "recipes"
STUDY = """\
title: A small study
dataset: data
completion_code: DONE-1234
personas: 2
raters_per_persona: 2
questions_per_persona: 4
questions_per_rater: 3
attributes: 5
pairs: {contrast: 2, dpf: 2}
exclusions: {same_place_share_above: null}
consent: &consent
  who: The authors.
  purpose: To see.
  payment: None.
  data: Your answers.
  contact: tests@example.org
"""
MODEL = "provider: openai\nmodel: org/name\nbase_url: http://127.0.0.1:8000/v1\napi_key_env: OPENAI_API_KEY\ntimeout_seconds: 60\n"
JUDGE = """\
kind: pairwise
template: judge_roleplay
sampling: {max_tokens: 300, temperature: 0.0}
max_retries: 2
model: {provider: scripted}
"""
OVERRIDES = (
    "personas.count=3",
    "models.judge.provider=scripted",
    "configs=[dpf]",
    "census.adults_only=false",
    "pairs.answer={max_tokens: 3}",
)
# YAML that is short and holds a great deal, or is never done.
BOMBS = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{n}: &{n} [{', '.join([f'*{before}'] * 9)}]\n" for before, n in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "a: &a\n  b: *a\n",
    "&a [*a]\n",
    "a: &a {x: 1}\nb:\n  <<: [*a, *a]\n",
    "a: &a {x: 1}\n"
    + "".join(
        f"{n}: &{n}\n  <<: [{', '.join([f'*{before}'] * 9)}]\n"
        for before, n in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "a: " + "[" * 3000,
    "a: " + "{b: " * 3000,
    "- " * 3000,
    "? " * 3000,
    "name: " + "9" * 5000,
    "seed: 0x" + "f" * 5000,
)


@functools.cache
def valid_texts() -> dict[str, tuple[str, ...]]:
    """Name of the file -> texts that are read under it."""

    def texts(folder: Path, pattern: str = "*.yaml") -> tuple[str, ...]:
        # Shortest first, which is what a smaller input is made of. Long ones would only take the parser's time.
        found = [path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern))]
        return tuple(sorted((text for text in found if len(text) < 6000), key=len))

    small = "name: a\nseed: 1\n"
    return {
        "recipe.yaml": (small, *texts(RECIPE_FOLDER)),
        "judge.yaml": (JUDGE, *texts(JUDGE_FOLDER)),
        "template.yaml": texts(TEMPLATE_FOLDER),
        "study.yaml": (STUDY,),
        "sweep.yaml": texts(SWEEP_FOLDER),
        "training.yaml": texts(TRAINING_FOLDER),
        "model.yaml": (MODEL,),
    }


@functools.cache
def parsed(text: str) -> Any:
    return yaml.safe_load(text)


@st.composite
def yaml_files(draw: st.DrawFn) -> Files:
    name = draw(st.sampled_from(sorted(valid_texts())))
    text = draw(st.sampled_from(valid_texts()[name]))
    how = draw(st.sampled_from(("values", "values", "lines", "bytes", "bomb")))
    if how == "values":
        changed = edited_value(copy.deepcopy(parsed(text)), draw(some(value_edit)))
        text = yaml.safe_dump(changed, sort_keys=False, width=draw(st.sampled_from((80, 10_000))))
    elif how == "lines":
        text = edited_lines(text, draw(some(line_edit)))
    elif how == "bomb":
        text = draw(st.sampled_from(BOMBS)) + draw(st.sampled_from(("", text)))
    content = encoded(text, draw(encodings))
    return {name: edited_bytes(content, draw(some(byte_edit, 2))) if how == "bytes" else content}


@st.composite
def overrides(draw: st.DrawFn) -> Files:
    """Lines, each of them one --set. As arguments of a command they hold no NUL."""
    keys = st.sampled_from(
        ("name", "seed", "personas", "pairs.answer", "models.judge.model", "a.b.c", "", ".", "configs", "configs.0")
    )
    values = st.sampled_from([token.decode("utf-8", "replace") for token in TOKENS]) | st.text(max_size=8)
    odd = st.tuples(keys, st.sampled_from(("=", "", "==", ":")), values).map("".join)
    lines = draw(st.lists(st.sampled_from(OVERRIDES) | odd, min_size=1, max_size=3))
    text = "\n".join(line.replace("\x00", "").replace("\n", " ") for line in lines)
    return {"overrides": text.encode("utf-8", "surrogatepass")}


def inputs() -> st.SearchStrategy[Files]:
    return st.one_of(yaml_files(), yaml_files(), yaml_files(), yaml_files(), overrides())


def check(folder: Path, files: Files) -> None:
    """Raises InputError as the reader of that kind of file does."""
    name = next(iter(files))
    path = folder / name
    if name == "recipe.yaml":
        check_recipe(load_recipe(path), folder)
    elif name == "overrides":
        check_recipe(load_recipe("baselines", files[name].decode("utf-8", "surrogatepass").split("\n")), folder)
    elif name == "judge.yaml":
        judge = load_judge(str(path), ModelRecipe(), 0, prefer_own_model=True)
        assert judge.kind in ("likelihood", "pairwise", "critique")
        assert judge.label
    elif name == "template.yaml":
        template = load_template(str(path))
        check_renders(template, ("profile", "question", "answer"))
        template.read("REASON: x\nVERDICT: A")
    elif name == "study.yaml":
        assert len(fingerprint_of(load_study(path))) == 16
    elif name == "sweep.yaml":
        assert all(cell.stem for cell in all_cells(load_sweep(str(path))))
    elif name == "training.yaml":
        saves_adapter(path, [])
        check_training(path, folder)
    else:
        assert load_model_file(path).provider in ("transformers", "openai", "scripted", "none")


def check_recipe(recipe: BuildRecipe, folder: Path) -> None:
    """A recipe says the same when it is written out and read again, as build.json does with it."""
    again = folder / "again.yaml"
    again.write_text(yaml.safe_dump(as_dict(recipe)), encoding="utf-8")
    assert load_recipe(again) == recipe
    assert fingerprint(load_recipe(again)) == fingerprint(recipe)


def check_training(path: Path, folder: Path) -> None:
    run = parse_arguments(["--config", str(path), "--dataset", "data", "--output_dir", str(folder / "out")], DPOConfig)
    assert run.data.dataset == "data"
