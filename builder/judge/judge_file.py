"""Judge files: YAML that says of what kind a judge is, how it is asked and how its reply is read.

`kind`: `likelihood` (log-probabilities of given answers), `pairwise` (which of two answers) or `critique` (does this one need revision).
`template`: what it is asked. `parser`: `markers` reads the verdict that it writes, `verdict_tokens` scores the words of the menu, for
small models. `sampling`, `max_retries`: of its replies. `temperature`: of a likelihood judge's margin. `model`: the keys of a recipe's
model, for a judge that is always one model.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import is_file
from builder.judge.critique import PASSES
from builder.judge.critique import VERDICT_SECTION as CRITIQUE_SECTION
from builder.judge.judge import Judge
from builder.judge.pairwise import FIRST_PLACE
from builder.judge.pairwise import VERDICT_SECTION as PAIRWISE_SECTION
from builder.llm.messages import Sampling
from builder.llm.model_recipe import ModelRecipe, check_model
from builder.llm.templates import PLACES, check_renders, load_template, read_mapping, section_name
from builder.strict_yaml import build_dataclass, refuse_secrets

JUDGE_FOLDER = Path(__file__).parent / "judges"
ASKED = ("kind", "template", "parser", "sampling", "max_retries", "model")
JUDGE_KEYS = {"likelihood": ("kind", "temperature", "model"), "pairwise": ASKED, "critique": ASKED}
PARSERS = ("markers", "verdict_tokens")
# No end_sentence_after: it would cut a verdict off.
SAMPLING_KEYS = ("max_tokens", "temperature", "top_p")
# By kind: the place of its template, the section with the verdict, what that section's words count, and words that must be among them.
ASKED_FOR = {
    "pairwise": ("judge", PAIRWISE_SECTION, FIRST_PLACE, {"A", "B"}),
    "critique": ("critic", CRITIQUE_SECTION, PASSES, {"yes", "no"}),
}


def load_judge(name: str, model: ModelRecipe, seed: int, role: str = "judge", prefer_own_model: bool = False) -> Judge:
    """Read a judge file; raises InputError for one that could not judge.

    `auto` chooses by likelihood for a model in this process (or scripted), by role-play for an endpoint. prefer_own_model: where the file
    names a model, that one judges instead of `model`, and stands in `model_recipe`.
    """
    if name == "auto":
        name = "roleplay" if model.provider == "openai" else "likelihood"
    path = Path(name) if name.endswith(".yaml") else JUDGE_FOLDER / f"{name}.yaml"
    if not is_file(path):
        names = ", ".join(sorted(p.stem for p in JUDGE_FOLDER.glob("*.yaml")))
        raise InputError(f"Judge {name} does not exist. Give a YAML file, or one of the packaged judges: {names}.")
    content, raw = read_mapping(path, sorted({key for keys in JUDGE_KEYS.values() for key in keys}))
    kind = raw.get("kind")
    if kind not in tuple(JUDGE_KEYS):
        raise InputError(f"{path.name}: kind is {kind!r}; it takes likelihood, pairwise or critique.")
    if foreign := sorted(set(raw) - set(JUDGE_KEYS[kind])):
        raise InputError(
            f"{path.name}: {foreign[0]} is no key of a {kind} judge. It takes {', '.join(JUDGE_KEYS[kind])}."
        )
    own = _own_model(path.name, raw.pop("model", None)) if prefer_own_model else None
    raw.pop("model", None)
    model = own or model
    parser = raw.get("parser", "markers")
    if parser not in PARSERS:
        raise InputError(f"{path.name}: parser is {parser!r}; it takes {' or '.join(PARSERS)}.")
    if parser == "verdict_tokens" and (unread := sorted(set(raw) & {"sampling", "max_retries"})):
        raise InputError(
            f"{path.name}: {unread[0]} says how a reply is drawn, and with parser verdict_tokens none is: words are scored. Leave it out."
        )
    if (kind == "likelihood" or parser == "verdict_tokens") and model.provider == "openai":
        raise InputError(
            f"The judge {path.stem} needs the log-probabilities of a given text, which chat endpoints do not give. Choose roleplay or "
            "critique, or use a judge model in this process (provider: transformers)."
        )
    _check_numbers(path.name, raw)
    if kind in ASKED_FOR:
        _check_template(path.name, kind, raw.get("template"))
    sampling = {"max_tokens": 300, **_as_real(raw.pop("sampling", {}), ("temperature", "top_p"))}
    raw = _as_real(raw, ("temperature",))
    return Judge(
        name=path.stem,
        version=hashlib.sha256(content).hexdigest()[:12],
        model=model.model,
        seed=seed,
        role=role,
        sampling=Sampling(**sampling),
        model_recipe=own,
        **raw,
    )


def _own_model(file: str, raw: Any) -> ModelRecipe | None:
    if raw is None:
        return None
    refuse_secrets(raw, f"{file}: model")
    model: ModelRecipe = build_dataclass(ModelRecipe, raw, f"{file}: model")
    check_model(model, f"{file}: model")
    return model


def _check_numbers(file: str, raw: dict[str, Any]) -> None:
    sampling = raw.get("sampling", {})
    if not isinstance(sampling, dict) or set(sampling) - set(SAMPLING_KEYS):
        raise InputError(f"{file}: sampling is {sampling!r}; it takes the keys {', '.join(SAMPLING_KEYS)}.")
    values = {**raw, **{f"sampling.{key}": value for key, value in sampling.items()}}
    for key, takes, fits in (
        ("temperature", "a number above 0, by which the margin is divided", lambda v: v > 0),
        ("max_retries", "a whole number from 0 on", lambda v: v >= 0 and type(v) is int),
        ("sampling.max_tokens", "a whole number from 1 on", lambda v: v >= 1 and type(v) is int),
        ("sampling.temperature", "a number from 0 on (0: the likeliest token)", lambda v: v >= 0),
        ("sampling.top_p", "a number above 0 and at most 1", lambda v: 0 < v <= 1),
    ):
        value = values.get(key, 1)
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max or not fits(value):
            raise InputError(f"{file}: {key} is {value!r}; it takes {takes}.")


def _as_real(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """`temperature: 0` is `temperature: 0.0`: the key of a recorded reply tells the two apart."""
    return {key: float(value) if key in keys else value for key, value in values.items()}


def _check_template(file: str, kind: str, name: Any) -> None:
    """The template is given what its kind of judge has to show, and its reply holds one of the verdicts."""
    place, section, worth, needed = ASKED_FOR[kind]
    if not isinstance(name, str) or not name:
        raise InputError(f"{file}: template is {name!r}; a {kind} judge needs one, for example judge_roleplay.")
    try:
        template = load_template(name)
        check_renders(template, *PLACES[place])
    except InputError as error:
        raise InputError(f"The template of judge {file} cannot be used: {error}") from None
    verdicts = next((words for marker, words in template.choices.items() if section_name(marker) == section), ())
    if not needed <= set(verdicts) <= set(worth):
        raise InputError(
            f"The template {name} of judge {file} offers the verdicts {list(verdicts)}. Give it the marker "
            f"{section.replace('_', ' ').upper()}: with the choices {', '.join(worth)}."
        )
