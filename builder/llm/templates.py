"""Prompt templates are files: what is sent, and how the reply is read.

A template is a YAML file with `messages` (role and Jinja text) and, where the reply has a form, `markers`: the labels that open its
sections, `end`, the word that closes it, and `choices`, the words of which a section must be one. Persona and question enter only as
Jinja values; Jinja does not render what a value contains, so a persona that holds `{{ ... }}` or a marker is just text.
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from builder.errors import InputError
from builder.llm.messages import Message

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class PromptTemplate:
    name: str
    version: str  # the first 12 hex digits of the file's SHA-256
    messages: tuple[Message, ...]
    markers: tuple[str, ...] = ()
    end: str | None = None
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    def render(self, **values: Any) -> tuple[Message, ...]:
        """The messages with `values` filled in. A value that the template names and `values` lacks is an error."""
        return tuple(
            {"role": m["role"], "content": _compiled(m["content"]).render(values).strip()} for m in self.messages
        )

    def read(self, reply: str) -> dict[str, str] | None:
        """The sections of a reply by marker, or None if one is absent, empty or off the menu. Without markers: {"text": reply}.

        A section opens at the last place where its marker begins a line, so that a text which quotes the marker earlier (a persona
        or question that contains it, or reasoning about it) is not taken for the section.
        """
        if not self.markers:
            text = reply.strip()
            return {"text": text} if text else None
        sections = self.read_present(reply)
        return sections if list(sections) == [section_name(marker) for marker in self.markers] else None

    def read_present(self, reply: str) -> dict[str, str]:
        """Those sections that the reply has, in its order: for a template that asks for some of its sections only."""
        starts = sorted(
            (place, marker) for marker in self.markers if (place := _last_marker(reply, marker)) is not None
        )
        sections = {}
        for number, ((_, begin), marker) in enumerate(starts):
            last = number == len(starts) - 1
            section = reply[begin : len(reply) if last else starts[number + 1][0][0]]
            if last and self.end:
                section = _before_end(section, self.end)
            section = section.strip().strip("*").strip()
            if marker in self.choices:
                section = _chosen(section, self.choices[marker])
            if section:
                sections[section_name(marker)] = section
        return sections


@lru_cache(maxsize=256)
def _compiled(content: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(content)


# What models put around a marker or the closing word: quotation, headings, bold type.
_DECORATION = " \t*#"


def _last_marker(reply: str, marker: str) -> tuple[int, int] | None:
    """(start of its line, end of the marker) at the last line that begins with it. Searched from the end: most replies need one look."""
    end = len(reply)
    while (place := reply.rfind(marker, 0, end)) >= 0:
        line = reply.rfind("\n", 0, place) + 1
        if not reply[line:place].strip(_DECORATION):
            return line, place + len(marker)
        end = place + len(marker) - 1
    return None


def _before_end(section: str, word: str) -> str:
    """The section up to the first line that is nothing but the closing word."""
    place = section.find(word)
    while place >= 0:
        line = section.rfind("\n", 0, place) + 1
        following = section.find("\n", place)
        rest = section[place + len(word) : len(section) if following < 0 else following]
        if not section[line:place].strip(_DECORATION) and not rest.strip(" \t\r*."):
            return section[:line]
        place = section.find(word, place + 1)
    return section


def section_name(marker: str) -> str:
    """`PERSONAL TIME:` -> `personal_time`."""
    return marker.rstrip(":").lower().replace(" ", "_")


def _chosen(section: str, choices: tuple[str, ...]) -> str:
    """The choice that stands alone on the section's first line, or "" if there is none.

    A reply that repeats the menu ("A, B or tie") has chosen nothing, and "A person like this ..." has not chosen A.
    """
    said = _WORD.findall(section.partition("\n")[0].lower())
    return next((choice for choice in choices if said == [choice.lower()]), "")


@lru_cache(maxsize=64)
def load_template(name: str) -> PromptTemplate:
    """A packaged template by name, or a template file by path."""
    path = Path(name) if name.endswith(".yaml") else TEMPLATE_FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in TEMPLATE_FOLDER.glob("*.yaml")))
        raise InputError(
            f"Prompt template {name} does not exist. Give a YAML file, or one of the packaged templates: {names}."
        )
    content = path.read_bytes()
    raw = yaml.safe_load(content)
    return PromptTemplate(
        name=path.stem,
        version=hashlib.sha256(content).hexdigest()[:12],
        messages=tuple({"role": m["role"], "content": m["content"]} for m in raw["messages"]),
        markers=tuple(raw.get("markers", ())),
        end=raw.get("end"),
        choices={marker: tuple(words) for marker, words in raw.get("choices", {}).items()},
    )
