"""A human study as a file: whom it asks about what, how often, and which answers count. Read strictly, and hashed.

The numbers that are taken where the file says nothing are the paper's (section 4.2): 20 personas, 4 raters each, 10 of 20 questions.
Two things differ: half of the pairs are contrast pairs, because on `dpf` "take the refined answer" needs no persona; and the rules of
exclusion stand in the file before the first answer, because chosen afterwards they could choose the result.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.hub.client import PREFIX
from builder.strict_yaml import build_dataclass, read_yaml, refuse_secrets
from eval.results import digest

EXTRAS = ("core_values", "entertainment_preferences")
RECRUITING = ("tokens", "open")
OUR_PARAMETERS = ("token", "n", "saved", "panel")  # of our own addresses and forms
LONGEST_ANSWER = 4000  # characters of a reasoning; more is refused, with the text kept on the page


@dataclass(frozen=True)
class Pairs:
    """How many of a persona's questions are pairs of which kind."""

    contrast: int = 10
    dpf: int = 10


@dataclass(frozen=True)
class Consent:
    """What a rater must know before the first question. Plain text, a paragraph each; shown as written."""

    who: str
    purpose: str
    payment: str
    data: str
    contact: str


@dataclass(frozen=True)
class Exclusions:
    """Which finished raters do not count. null switches a rule off.

    attention_checks_failed: so many or more. median_seconds_below: the median time on a question. pasted_share_above: of the reasonings,
    with PASTED characters or more pasted in. same_place_share_above: of the choices, on one side. repeated_reasoning_above: share of
    reasonings that the rater had written before, word for word.
    """

    attention_checks_failed: int | None = 1
    median_seconds_below: float | None = 8.0
    pasted_share_above: float | None = 0.5
    same_place_share_above: float | None = 0.95
    repeated_reasoning_above: float | None = 0.5


@dataclass(frozen=True)
class Study:
    """`dataset`: a published folder (from the study file's own folder) or `hub:org/name@version`.

    attributes: lines of a persona's card, the two EXTRAS among them. idle_minutes: after so long without an answer a rater's place is
    given to the next one; who comes back may still finish. recruiting: `tokens` lets in who has a token of `persona annotate tokens`;
    `open` gives one to whoever comes, once for each id that the panel puts into the address as panel_parameter. completion_code: what
    the panel wants back.
    """

    title: str
    dataset: str
    consent: Consent
    completion_code: str
    seed: int = 0
    personas: int = 20
    attributes: int = 10
    raters_per_persona: int = 4
    questions_per_persona: int = 20
    questions_per_rater: int = 10
    attention_checks: int = 1
    minimum_characters: int = 60
    idle_minutes: float = 90.0
    recruiting: str = "tokens"
    panel_parameter: str = "PROLIFIC_PID"
    requests_per_minute: int = 60
    pairs: Pairs = field(default_factory=Pairs)
    exclusions: Exclusions = field(default_factory=Exclusions)

    @property
    def raters(self) -> int:
        return self.personas * self.raters_per_persona


def load_study(path: Path) -> Study:
    """Raises InputError for a file that cannot be read, an unknown key, or numbers that contradict each other."""
    if not path.is_file():
        raise InputError(f"There is no study file {path}. Start from the one in docs/human_study.md.")
    raw = read_yaml(path)
    try:
        # A code is meant to be shown, and consent is prose: the address of a page about the study is no secret.
        refuse_secrets({key: value for key, value in raw.items() if key not in ("completion_code", "consent")})
        study = build_dataclass(Study, raw)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    problems = contradictions(study)
    if problems:
        raise InputError(f"{path.name}: {' '.join(problems)}")
    return study


def contradictions(study: Study) -> list[str]:
    """A sentence each; empty where the numbers fit together."""
    found = []
    for name in ("personas", "raters_per_persona", "questions_per_rater", "requests_per_minute"):
        if getattr(study, name) < 1:
            found.append(f"{name} is {getattr(study, name)}; give at least 1.")
    for name in ("attention_checks", "minimum_characters"):
        if getattr(study, name) < 0:
            found.append(f"{name} is {getattr(study, name)}; give 0 or more.")
    if study.minimum_characters > LONGEST_ANSWER // 2:
        found.append(f"minimum_characters is {study.minimum_characters}; give at most {LONGEST_ANSWER // 2}.")
    if study.attributes < len(EXTRAS) + 1:
        found.append(f"attributes is {study.attributes}; give at least {len(EXTRAS) + 1}, the two extras among them.")
    if min(study.pairs.contrast, study.pairs.dpf) < 0:
        found.append("pairs.contrast or pairs.dpf is below 0; give 0 or more.")
    if study.pairs.contrast + study.pairs.dpf != study.questions_per_persona:
        found.append(
            f"pairs.contrast and pairs.dpf are {study.pairs.contrast + study.pairs.dpf} together, but questions_per_persona is "
            f"{study.questions_per_persona}; make them equal."
        )
    if study.questions_per_rater > study.questions_per_persona:
        found.append(
            f"questions_per_rater is {study.questions_per_rater}, more than the {study.questions_per_persona} questions_per_persona; "
            "lower it."
        )
    if not 0 < study.idle_minutes < math.inf:
        found.append(f"idle_minutes is {study.idle_minutes}; give more than 0.")
    if study.recruiting not in RECRUITING:
        found.append(f"recruiting is {study.recruiting!r}; it takes {' or '.join(RECRUITING)}.")
    if not study.panel_parameter.strip():
        found.append(
            "panel_parameter is empty; give the name under which the panel adds its participant's id to the address."
        )
    elif study.panel_parameter in OUR_PARAMETERS:
        found.append(
            f"panel_parameter is {study.panel_parameter!r}, a name that the study's own pages use; have the panel add its id under another."
        )
    for name, what in (("title", "a line that raters see"), ("completion_code", "the code that the panel expects")):
        if not getattr(study, name).strip():
            found.append(f"{name} is empty; give {what}.")
    for key in ("who", "purpose", "payment", "data", "contact"):
        if not getattr(study.consent, key).strip():
            found.append(f"consent.{key} is empty; raters must know it before they agree.")
    for name in ("pasted_share_above", "same_place_share_above", "repeated_reasoning_above"):
        value = getattr(study.exclusions, name)
        if value is not None and not 0 <= value < 1:
            found.append(f"exclusions.{name} is {value}; give a share from 0 to below 1, or null.")
    failed = study.exclusions.attention_checks_failed
    if failed is not None and failed < 1:
        found.append(f"exclusions.attention_checks_failed is {failed}; give at least 1, or null.")
    elif failed is not None and failed > study.attention_checks > 0:
        found.append(
            f"exclusions.attention_checks_failed is {failed}, but attention_checks is {study.attention_checks}: nobody could be excluded. "
            "Raise attention_checks, or give null."
        )
    seconds = study.exclusions.median_seconds_below
    if seconds is not None and not 0 < seconds < math.inf:
        found.append(f"exclusions.median_seconds_below is {seconds}; give seconds above 0, or null.")
    return found


def dataset_name(dataset: str) -> str:
    """A repository as it is; of a folder its name, for where it lies is nobody's business."""
    return dataset if dataset.startswith(PREFIX) else Path(dataset).name


def settings_of(study: Study) -> dict[str, Any]:
    """As nested plain values: what is hashed, kept in the database and published with the results.

    Of the dataset its name only: a folder that was moved is the same study, and its content is hashed with the material.
    """
    return dataclasses.asdict(study) | {"dataset": dataset_name(study.dataset)}


def fingerprint_of(study: Study) -> str:
    """Of everything in the file but the place of the dataset: 16 hex digits."""
    return digest(settings_of(study))[:16]


def changed_keys(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """Dotted names of the keys whose values differ, in sorted order."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        name, old, new = f"{where}{key}", before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changed_keys(old, new, f"{name}.")
        elif old != new:
            found.append(name)
    return found
