"""Prompt templates are files: what is sent, and how the reply is read.

A template is a YAML file with `messages` (role and Jinja text) and, where the reply has a form, `markers`: the labels that open its
sections, `end`, the word that closes it, and `choices`, the words of which a section must be one. Persona and question enter only as
Jinja values; Jinja does not render what a value contains, so a persona that holds `{{ ... }}` or a marker is just text. Where a template
sets values off by tags or lines of dashes, no value can hold one of these: see `_guards`.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml

from builder.errors import InputError
from builder.files import is_file
from builder.llm.messages import Message
from builder.strict_yaml import parse_yaml

TEMPLATE_FOLDER = Path(__file__).parent / "templates"
_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
)
_WORD = re.compile(r"\w+")
_CLOSING_TAG = re.compile(r"</\s*([A-Za-z][\w-]*)\s*>")
_BREAKS = "\n\r\v\f\x1c-\x1e\x85\u2028\u2029"  # whatever a reader may take for the end of a line
_LINE_OF_DASHES = re.compile(rf"(?:\A|(?<=[{_BREAKS}]))([^\S{_BREAKS}]*)(-{{3,}})(?=[^\S{_BREAKS}]*(?:[{_BREAKS}]|\Z))")

# By place in a build: the values that a template gets there, and those without which its replies would say nothing.
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "answer": (("question", "neutral_system_text"), ("question",)),
    "critique": (("profile", "question", "answer"), ("profile",)),
    "revision": (("question", "answer", "critique"), ("critique",)),
    "judge": (("profile", "question", "answer_a", "answer_b"), ("answer_a", "answer_b")),
    "critic": (("profile", "question", "answer"), ("profile", "answer")),
}


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
        for sign, pattern, instead in self._guards:
            values |= {n: pattern.sub(instead, v) for n, v in values.items() if isinstance(v, str) and sign in v}
        return tuple([{"role": m["role"], "content": _fill(m["content"], values).strip()} for m in self.messages])

    @cached_property
    def _guards(self) -> list[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
        """(what to look for first, pattern, replacement) of what a value may not hold, because it would forge the template's own form.

        A tag of the template loses its bracket: `</answer_a>` becomes `‹/answer_a>`. A line of dashes is set apart: `- - - - -`, which
        Markdown reads as the same rule. Other tags and dashes, and values of templates without either, stay as they are.
        """
        text = "\n".join(m["content"] for m in self.messages)
        guards: list[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]] = []
        if names := sorted(set(_CLOSING_TAG.findall(text))):
            tag = rf"<(?=\s*(?:/\s*)?(?:{'|'.join(map(re.escape, names))})(?!\w))"
            guards.append(("<", re.compile(tag, re.IGNORECASE), "‹"))
        if _LINE_OF_DASHES.search(text):
            guards.append(("---", _LINE_OF_DASHES, _set_apart))
        return guards

    def read(self, reply: str) -> dict[str, str] | None:
        """The sections of a reply by marker, or None if one is absent, empty or off the menu. Without markers: {"text": reply}.

        A section opens at the last place where its marker begins a line, so that a text which quotes the marker earlier (a persona
        or question that contains it, or reasoning about it) is not taken for the section. A template whose only section is a free text
        is read otherwise, see `_first_of_block`. The last section ends at the last line that is nothing but the closing word: such a
        line earlier on is part of the text (an item of a list), and a text cut there would look whole.
        """
        if not self.markers:
            text = reply.strip()
            return {"text": text} if text else None
        sections = self.read_present(reply)
        return sections if list(sections) == [section_name(marker) for marker in self.markers] else None

    def read_present(self, reply: str) -> dict[str, str]:
        """Those sections that the reply has, in its order: for a template that asks for some of its sections only."""
        if len(self.markers) == 1 and not self.choices:
            place = _first_of_block(reply, self.markers[0], self.end)
            starts = [] if place is None else [(place, self.markers[0])]
        else:
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


def _set_apart(line: re.Match[str]) -> str:
    return line[1] + " ".join(line[2])


def _fill(content: str, values: dict[str, Any]) -> str:
    plain = _plain_form(content)
    if plain is not None:
        form, names = plain
        try:
            return form % tuple([values[name] for name in names])
        except KeyError:
            pass  # a name to which Jinja gives a value of its own, or one that is missing, which it says
    return _compiled(content).render(values)


@lru_cache(maxsize=256)
def _plain_form(content: str) -> tuple[str, tuple[str, ...]] | None:
    """(text with %s for each value, their names) where Jinja itself finds only text and names: millions of prompts, five times as fast.

    None for anything more: a condition, a filter.
    """
    form, names = [], []
    for node in _ENVIRONMENT.parse(content).body:
        for piece in node.nodes if isinstance(node, jinja2.nodes.Output) else [node]:
            if isinstance(piece, jinja2.nodes.TemplateData):
                form.append(piece.data.replace("%", "%%"))
            elif isinstance(piece, jinja2.nodes.Name):
                form.append("%s")
                names.append(piece.name)
            else:
                return None
    return "".join(form), tuple(names)


@lru_cache(maxsize=256)
def _compiled(content: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(content)


# What models put around a marker or the closing word: quotation, headings, bold type.
_DECORATION = " \t*#"


def _first_of_block(reply: str, marker: str, end: str | None) -> tuple[int, int] | None:
    """(start of its line, end of the marker) at the marker line that opens the text.

    That is the first one: a later one is quoted by the text (about a form, or by order of the question), and to open there would lose
    what stands before it without a trace. A model may also write a draft, close it and write again: a marker line right after a closing
    line opens anew, and the last such text counts.
    """
    found, limit = None, len(reply)
    while (place := _last_marker(reply, marker, limit)) is not None:
        found, limit = place, place[0]
        if end and _is_closing(_line_before(reply, limit), end):
            break
    return found


def _line_before(reply: str, place: int) -> str:
    """The last line before the line that starts at `place` which is not blank."""
    while place > 0:
        start = reply.rfind("\n", 0, place - 1) + 1
        if line := reply[start:place].strip():
            return line
        place = start
    return ""


def _is_closing(line: str, word: str) -> bool:
    before, found, after = line.partition(word)
    return bool(found) and not before.strip(_DECORATION) and not after.strip(" \t\r*.")


def _last_marker(reply: str, marker: str, end: int | None = None) -> tuple[int, int] | None:
    """(start of its line, end of the marker) at the last line before `end` that begins with it. Most replies need one look."""
    end = len(reply) if end is None else end
    while (place := reply.rfind(marker, 0, end)) >= 0:
        line = reply.rfind("\n", 0, place) + 1
        if not reply[line:place].strip(_DECORATION):
            return line, place + len(marker)
        end = place + len(marker) - 1
    return None


def _before_end(section: str, word: str) -> str:
    """The section up to the last line that is nothing but the closing word."""
    place = section.rfind(word)
    while place >= 0:
        line = section.rfind("\n", 0, place) + 1
        following = section.find("\n", place)
        if _is_closing(section[line : len(section) if following < 0 else following], word):
            return section[:line]
        # An earlier word on the same line cannot make it a closing line.
        place = section.rfind(word, 0, line)
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
    if not is_file(path):
        names = ", ".join(sorted(p.stem for p in TEMPLATE_FOLDER.glob("*.yaml")))
        raise InputError(
            f"Prompt template {name} does not exist. Give a YAML file, or one of the packaged templates: {names}."
        )
    content, raw = read_mapping(path, ("messages", "markers", "end", "choices"))
    _check_messages(path.name, raw.get("messages"))
    _check_form(path.name, raw)
    return PromptTemplate(
        name=path.stem,
        version=hashlib.sha256(content).hexdigest()[:12],
        messages=tuple({"role": m["role"], "content": m["content"]} for m in raw["messages"]),
        markers=tuple(raw.get("markers", ())),
        end=raw.get("end"),
        choices={marker: tuple(words) for marker, words in raw.get("choices", {}).items()},
    )


def check_renders(template: PromptTemplate, names: Collection[str], needed: Collection[str] = ()) -> None:
    """Raises InputError if the template names a value other than `names`, does not name one that is `needed`, or cannot be filled in."""
    named = set().union(
        *(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(m["content"])) for m in template.messages)
    )
    file, given = f"{template.name}.yaml", ", ".join(names)
    if unknown := sorted(named - set(names) - set(_ENVIRONMENT.globals)):
        raise InputError(
            f"{file} asks for {{{{ {unknown[0]} }}}}, which has no value in its place. There it is given {given}."
        )
    if missing := [name for name in needed if name not in named]:
        raise InputError(
            f"{file} never shows {{{{ {missing[0]} }}}}, so no reply could depend on it. It is given {given}."
        )
    try:
        template.render(**{name: f"some {name}" for name in names})
    except Exception as error:  # whatever an expression of the file can raise
        raise InputError(
            f"{file} cannot be filled in: {error}. Mend its expressions; it is given {given}, all of them texts."
        ) from None


def read_mapping(path: Path, keys: Collection[str]) -> tuple[bytes, dict[str, Any]]:
    """The bytes and the mapping of a YAML file. Raises InputError for a file that is none, or has a key other than `keys`."""
    takes = f"It takes the keys {', '.join(keys)}."
    try:
        content = path.read_bytes()
        raw = parse_yaml(content)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path.name} is not YAML{place}: {getattr(error, 'problem', None) or error}. {takes}"
        ) from None
    if not isinstance(raw, dict):
        raise InputError(f"{path.name} holds {'nothing' if raw is None else type(raw).__name__}. {takes}")
    if unknown := sorted(str(key) for key in raw if key not in keys):
        raise InputError(f"{path.name} has the unknown key {unknown[0]}. {takes}")
    return content, raw


def _check_messages(file: str, messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{file}: messages is {messages!r}; it takes a list of messages, each with role and content.")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise InputError(f"{file}: message {number} is {message!r}; it takes role and content, and nothing else.")
        if message["role"] not in ("system", "user", "assistant"):
            raise InputError(
                f"{file}: message {number} has role {message['role']!r}; it takes system, user or assistant."
            )
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise InputError(f"{file}: message {number} has content {message['content']!r}; it takes a text.")
        try:
            _compiled(message["content"])
        except jinja2.TemplateSyntaxError as error:
            raise InputError(
                f"{file}: message {number}, line {error.lineno} is not Jinja: {error.message}. Write values as {{{{ name }}}}."
            ) from None


def _check_form(file: str, raw: dict[str, Any]) -> None:
    markers, end, choices = raw.get("markers", []), raw.get("end"), raw.get("choices", {})
    if not _texts(markers) or len({section_name(marker) for marker in markers}) < len(markers):
        raise InputError(f'{file}: markers is {markers!r}; it takes a list of different texts such as "VERDICT:".')
    if end is not None and not _texts([end]):
        raise InputError(f"{file}: end is {end!r}; it takes a word such as DONE.")
    if not isinstance(choices, dict) or not all(words and _texts(words) for words in choices.values()):
        raise InputError(
            f'{file}: choices is {choices!r}; it takes a list of words for a marker. Quote "yes" and "no": bare they are no words in YAML.'
        )
    if unknown := [marker for marker in choices if marker not in markers]:
        raise InputError(f"{file}: choices names {unknown[0]!r}, which is none of the markers {markers!r}.")


def _texts(items: Any) -> bool:
    """A list of texts, each of one line and not blank."""
    return isinstance(items, list) and all(isinstance(t, str) and t.strip() and "\n" not in t for t in items)
