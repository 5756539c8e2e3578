"""Settings files read strictly: an unknown key, a key given twice, a value of the wrong type or a literal secret is an error.

Error texts never repeat a value that may be a secret, nor quote the file: they end up in logs.
"""

import dataclasses
import difflib
import json
import re
import sys
import types
import typing
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from builder.errors import InputError

# A settings file has some hundreds of values. Aliases can make a short file stand for more than fits into memory.
MOST_VALUES = 100_000
LONGEST_NUMBER = 4096  # bits, about 1,200 digits; Python prints no number of more than 4,300
SECRET_PATTERN = re.compile(r"^(sk-|hf_|key-|Bearer\s|ghp_|xai-|gsk_|AIza)\S{8,}|^[A-Za-z0-9+/_\-]{40,}={0,2}$")
VARIABLE_NAME = re.compile(r"^[A-Z_][A-Z0-9_]*$")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, as plain JSON types."""
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"), _StrictLoader)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from None
    except yaml.YAMLError as error:
        # Only what is wrong and where: the parser's own text quotes the line, which may hold a key.
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path} cannot be read as YAML{place}: {problem or 'not valid'}. Mend the file.") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds {type(raw).__name__} instead of keys and values. Start from a packaged file.")
    try:
        # Through JSON: YAML anchors make several sections share one object, and an override of one must not reach the others.
        return json.loads(json.dumps(raw, default=str))
    except TypeError:
        raise InputError(
            f"{path} has a key that is a date, bytes or a list. Keys are words; put it between quotes."
        ) from None


def parse_yaml(content: str | bytes, loader: "type[_BoundedLoader] | None" = None) -> Any:
    """What the YAML says. Raises yaml.YAMLError, whose `problem` says what is wrong, for everything that cannot be used.

    PyYAML's own errors are not all of that kind: of a date that is none, `!!int x`, a number of thousands of digits and brackets nested
    beyond Python's stack others come out. Aliases that refer to themselves or stand for more than MOST_VALUES values are refused here.
    """
    try:
        value = yaml.load(content, Loader=loader or _BoundedLoader)
        _refuse_unusable(value, {}, set())
    except (InputError, yaml.YAMLError):
        raise
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="brackets or indentation nested too deeply") from None
    except Exception:  # whatever the reader of one kind of value raises; its text would quote the value
        raise yaml.MarkedYAMLError(
            problem="a value is not what its form says (a date that does not exist, a tag that does not fit, a number too long)"
        ) from None
    return value


def _refuse_unusable(value: Any, sizes: dict[int, int], open_ones: set[int]) -> int:
    """How many values `value` stands for, each alias counted as often as it is used. sizes: by id, of what was counted already."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise yaml.MarkedYAMLError(problem="a text with half a surrogate pair, which is no character") from None
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        raise yaml.MarkedYAMLError(problem="a number of more than a thousand digits")
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) in open_ones:
        raise yaml.MarkedYAMLError(problem="an alias inside of what it stands for")
    if id(value) not in sizes:
        open_ones.add(id(value))
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_refuse_unusable(one, sizes, open_ones) for one in inner)
        open_ones.discard(id(value))
        if sizes[id(value)] > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"aliases that stand for more than {MOST_VALUES:,} values")
    return sizes[id(value)]


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader that refuses merges (`<<`) of merges which multiply: they are written out before anything could count their values."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"merges that stand for more than {MOST_VALUES:,} values")


class _StrictLoader(_BoundedLoader):
    """Refuses a key given twice, of which YAML would silently take the last."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self.looked_at: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Once, and before merged keys are written into the node, which may override keys of their own.
        if id(node) not in self.looked_at:
            self.looked_at.add(id(node))
            counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice = next((name for name, count in counts.items() if count > 1), None)
            if twice is not None:
                raise InputError(
                    f"The file gives {twice} twice (line {node.start_mark.line + 1} ff.). Keep one of them."
                )
        super().flatten_mapping(node)


def apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError(
            f"--set {override!r} is not of the form dotted.key=value, for example --set personas.count=20."
        )
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {key}: {text!r} is not a YAML value: {error}") from None
    *parents, last = key.strip().split(".")
    target = raw
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise InputError(f"--set {key}: {parent} is a value, not a section. Compare with `persona check RECIPE`.")
    target[last] = value


def refuse_secrets(value: Any, where: str = "") -> None:
    """Never repeats the offending value: an error text ends up in logs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = f"{where}.{key}" if where else str(key)
            if str(key) in ("api_key", "key", "token", "password", "secret"):
                raise InputError(
                    f"{path} holds a literal secret. Recipes are published with the data, so they never carry one. "
                    "Put it in an environment variable and give the variable's name as api_key_env."
                )
            refuse_secrets(inner, path)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            refuse_secrets(inner, f"{where}[{index}]")
    elif isinstance(value, str):
        if where.endswith("api_key_env"):
            if not VARIABLE_NAME.match(value):
                raise InputError(
                    f"{where} must be the NAME of an environment variable (capital letters, digits, _), and what it holds is "
                    "not one. If it is the key itself, revoke it if the file was shared, put it in a variable and name that."
                )
            return
        if "://" in value:
            try:
                address = urlsplit(value)
            except ValueError:
                raise InputError(f"{where} holds `://` and cannot be read as an address. Mend it.") from None
            if "@" in address.netloc or re.search(r"(key|token|secret|password|sig)=", address.query, re.IGNORECASE):
                raise InputError(
                    f"{where} is an address that carries credentials. Remove them from the address; a key is read from the "
                    "environment variable named by api_key_env."
                )
        elif SECRET_PATTERN.match(value) and "/" not in value:
            raise InputError(
                f"{where} holds something that looks like a literal API key. Put it in an environment variable and give the "
                "variable's name as api_key_env."
            )


def build_dataclass(kind: Any, raw: Any, where: str = "") -> Any:
    """A dataclass from nested dicts, refusing what does not fit."""
    if not isinstance(raw, dict):
        raise InputError(f"{where or 'the file'} is {raw!r}, but it is a section with keys {_names(kind)}.")
    hints = typing.get_type_hints(kind)
    for key in raw:
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.0)[0]
            raise InputError(
                f"Unknown key {_join(where, key)}. The closest valid key is {_join(where, close)}; "
                f"valid here: {_names(kind)}."
            )
    values = {}
    for name, hint in hints.items():
        if name in raw:
            path = _join(where, name)
            values[name] = (
                build_dataclass(hint, raw[name], path)
                if dataclasses.is_dataclass(hint)
                else _typed(hint, raw[name], path)
            )
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"The file lacks {', '.join(_join(where, m) for m in missing)}. Add it.")
    return kind(**values)


def _typed(hint: Any, value: Any, where: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for option in options:
        if option is type(None) and value is None:
            return None
        if option is float and _is_number(value):
            return float(value)
        if typing.get_origin(option) is tuple and isinstance(value, list):
            inner = typing.get_args(option)[0]
            if inner is str and all(isinstance(v, str) for v in value):
                return tuple(value)
            if inner is float and all(map(_is_number, value)):
                return tuple(float(v) for v in value)
        if option in (str, int, bool) and type(value) is option:
            return value
    wanted = " or ".join(_plain_type(option) for option in options)
    raise InputError(f"{where} is {value!r} ({type(value).__name__}); it takes {wanted}.")


def _is_number(value: Any) -> bool:
    """Also a whole number, as long as it is no larger than a real one can be."""
    return isinstance(value, float) or (type(value) is int and abs(value) <= sys.float_info.max)


def _plain_type(option: Any) -> str:
    if typing.get_origin(option) is tuple:
        return "a list of strings" if typing.get_args(option)[0] is str else "a list of numbers"
    return {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}[option]


def _join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _names(kind: Any) -> str:
    return ", ".join(f.name for f in dataclasses.fields(kind))
