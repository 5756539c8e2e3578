"""Valid content made wrong: bytes, lines, cells and values. Few edits each, so that most of the content still says what it said."""

import csv
import datetime
import io
import math
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Files = dict[str, bytes]  # name -> content; the first is the one that is read, the others lie beside it
Table = list[list[str]]  # with its header

MOST_EDITS = 4

# What has broken readers before: encodings, line ends, quotation, numbers, dates, and the signs of CSV, JSON, YAML and Jinja.
TOKENS = (
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
    ),
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\n\n",
        b"\t",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x1f",
        b"\x7f",
        b" ",
        b"\xc2\xa0",
        b"\xe2\x80\x8b",
        b"\xe2\x80\xae",
    ),
    *(
        b'"',
        b"'",
        b'""',
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b'"\\ud800"',
        b",",
        b";",
        b":",
        b": ",
        b"-",
        b"- ",
        b"#",
        b"|",
        b">",
        b"?",
        b"? ",
    ),
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b"{}",
        b"[]",
        b"*",
        b"&",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!",
        b"!!",
        b"%",
        b"@",
        b"`",
        b"---",
        b"--- ",
        b"...",
        b"~",
    ),
    *(
        b"0",
        b"-1",
        b"-0",
        b"1.5",
        b"1e999",
        b"-1e999",
        b"1e400",
        b".nan",
        b".inf",
        b"-.inf",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"nan",
        b"inf",
    ),
    *(
        b"2147483647",
        b"2147483648",
        b"9223372036854775808",
        b"1" + b"0" * 30,
        b"9" * 400,
        b"9" * 5000,
        b"0x1F",
        b"0o17",
        b"017",
        b"1_000",
        b"1,000",
    ),
    *(
        b"2024-01-01",
        b"2024-13-45",
        b"2024-01-01T99:99:99Z",
        b"190:20:30",
        b"0x",
        b"0b",
        b"yes",
        b"no",
        b"null",
        b"true",
        b"None",
        b"=",
        b"<<",
    ),
    *(
        b"!!binary x",
        b"!!int x",
        b"!!float x",
        b"!!set {a}",
        b"!!omap []",
        b"!!python/object:os.system x",
        b"!!timestamp x",
        b"!!bool x",
    ),
    *(
        b"{{",
        b"}}",
        b"{% for a in b %}",
        b"{{ profile }}",
        b"%s",
        b"$HOME",
        b"../../x",
        b"\xd9\xa3",
        b"\xc2\xb2",
        b"\xef\xbc\x91",
        b"\xe2\x85\xa7",
    ),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, math.nan, math.inf, -math.inf, 1e308),
    *(
        "",
        " ",
        "x",
        "\x00",
        "\ud800",
        "é",
        "x" * 300,
        "1",
        "nan",
        "no",
        "\u2028",
        "a: b",
        "{{ x }}",
        "hub:",
        "a.yaml",
        "sk-0123456789abcdef",
    ),
    *(
        datetime.date(2024, 1, 1),
        datetime.datetime(2024, 1, 1, 12),
        b"\xff",
        [],
        {},
        [None],
        [[]],
        ["x"],
        [1, "x"],
        {"x": None},
        {1: 2},
        {None: 1},
    ),
)
ODD_CELLS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "16.0",
        "1.5",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "1e3",
        "1e999",
        "x",
        "2147483648",
        "9" * 30,
        "9" * 400,
        "9" * 5000,
        "null",
    ),
    *(
        "None",
        "NA",
        "-",
        "+5",
        "1,000",
        "0x10",
        "2024-01-01",
        '"',
        "'",
        "\x00",
        "\n",
        "\r\n",
        "\t",
        ",",
        ";",
        "\u2028",
        "\u00a0",
        "\ufeff",
        "x" * 500,
    ),
    *(
        "²",
        "٣",
        "１",
        "1_000",
        "[1]",
        "{}",
        "True",
        "no",
        "unseen",
        "seen",
        "Openness: High",
        "$1",
        "-$5 a year (a loss)",
        "é",
        "😀",
    ),
)

places = st.integers(0, 1 << 20)  # taken modulo what there is: small numbers shrink to the beginning


def some(edit: st.SearchStrategy[Any], most: int = MOST_EDITS) -> st.SearchStrategy[list[Any]]:
    """None in some inputs: other edits, or the packing, may then be what is wrong."""
    return st.lists(edit, max_size=most)


byte_edit = st.tuples(
    st.sampled_from(("insert", "replace", "delete", "double", "cut", "fill", "move")),
    places,
    st.integers(0, 80),
    st.sampled_from(TOKENS) | st.binary(max_size=6),
)
line_edit = st.tuples(
    st.sampled_from(("drop", "double", "exchange", "indent", "outdent", "join", "odd")),
    places,
    places,
    st.sampled_from(TOKENS),
)
cell_edit = st.tuples(
    st.sampled_from(
        (
            "set",
            "set",
            "set",
            "column",
            "drop_column",
            "double_column",
            "rename",
            "move_column",
            "long_row",
            "short_row",
            "drop_row",
            "double_row",
        )
    ),
    places,
    places,
    st.sampled_from(ODD_CELLS) | st.text(max_size=5),
)
value_edit = st.tuples(
    st.sampled_from(("set", "set", "set", "delete", "add", "wrap", "deep", "copy")),
    st.lists(places, min_size=1, max_size=4),
    st.sampled_from(ODD_VALUES) | st.integers() | st.floats() | st.text(max_size=5),
)
encodings = st.sampled_from(
    (
        None,
        None,
        None,
        None,
        None,
        None,
        "bom",
        "utf-16",
        "utf-16-le",
        "utf-32",
        "latin-1",
        "crlf",
        "cr",
        "no end",
        "upper",
        "twice",
        "empty",
    )
)


def edited_bytes(content: bytes, edits: Sequence[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, length, token in edits:
        at = place % (len(content) + 1)
        before, span, after = content[:at], content[at : at + length], content[at + length :]
        if kind == "insert":
            content = before + token + span + after
        elif kind == "replace":
            content = before + token + after
        elif kind == "delete":
            content = before + after
        elif kind == "double":
            content = before + span + span + after
        elif kind == "cut":
            content = before
        elif kind == "fill":
            content = before + token * min(3000, 60_000 // max(1, len(token))) + span + after
        else:
            content = before + after + span
    return content


def edited_lines(text: str, edits: Sequence[tuple[str, int, int, bytes]]) -> str:
    lines = text.split("\n")
    for kind, place, other, token in edits:
        at, to = place % len(lines), other % len(lines)
        if kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(to, lines[at])
        elif kind == "exchange":
            lines[at], lines[to] = lines[to], lines[at]
        elif kind == "indent":
            lines[at] = " " * (other % 9) + lines[at]
        elif kind == "outdent":
            lines[at] = lines[at].lstrip()
        elif kind == "join" and at + 1 < len(lines):
            lines[at] += " " + lines.pop(at + 1)
        elif kind == "odd":
            lines[at] = lines[at].partition(":")[0] + ": " + token.decode("utf-8", "replace")
    return "\n".join(lines)


def edited_table(table: Table, edits: Sequence[tuple[str, int, int, str]]) -> Table:
    table = [list(row) for row in table]
    for kind, row, column, cell in edits:
        own = table[row % len(table)]
        at = column % max(1, len(table[0]))
        if kind == "set" and at < len(own):
            own[at] = cell
        elif kind == "column":
            for other in table[1:]:
                other[at : at + 1] = [cell]
        elif kind == "drop_column":
            for other in table:
                del other[at : at + 1]
        elif kind == "double_column":
            for other in table:
                other.append(other[at] if at < len(other) else cell)
        elif kind == "rename" and at < len(table[0]):
            table[0][at] = cell
        elif kind == "move_column" and table[0]:
            for other in table:
                if at < len(other):
                    other.insert(row % len(other), other.pop(at))
        elif kind == "long_row":
            own.append(cell)
        elif kind == "short_row":
            del own[at:]
        elif kind == "drop_row" and len(table) > 1:
            table.remove(own)
        elif kind == "double_row":
            table.append(list(own))
    return table


def csv_bytes(table: Table, separator: str = ",") -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(table)
    return text.getvalue().encode("utf-8", "surrogatepass")


def edited_value(value: Any, edits: Sequence[tuple[str, Sequence[int], Any]]) -> Any:
    """A JSON-like value with something deep inside changed. The value itself stays as it is."""
    for kind, path, odd in edits:
        value = _changed(value, list(path), kind, odd)
    return value


def _changed(value: Any, path: list[int], kind: str, odd: Any) -> Any:
    if path and isinstance(value, (dict, list)) and value:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[path[0] % len(keys)]
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if kind == "delete" and (len(path) == 1 or not isinstance(value[key], (dict, list))):
            del copy[key]
        elif kind == "copy":
            copy[key] = value[keys[path[-1] % len(keys)]]
        else:
            copy[key] = _changed(value[key], path[1:], kind, odd)
        return copy
    if kind == "add" and isinstance(value, dict):
        return {**value, odd if _may_be_key(odd) else "odd": odd}
    if kind == "add" and isinstance(value, list):
        return [*value, odd]
    if kind == "wrap":
        return [value] if isinstance(odd, list) else {"x": value}
    if kind == "deep":
        return nested(value)
    return odd


def nested(value: Any, depth: int = 60) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _may_be_key(value: Any) -> bool:
    return not isinstance(value, (dict, list))


def encoded(text: str | bytes, how: str | None) -> bytes:
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    changed = {
        None: content,
        "bom": b"\xef\xbb\xbf" + content,
        "crlf": content.replace(b"\n", b"\r\n"),
        "cr": content.replace(b"\n", b"\r"),
        "no end": content.rstrip(b"\n"),
        "upper": content.upper(),
        "twice": content + content,
        "empty": b"",
    }
    if how in changed:
        return changed[how]
    return content.decode("utf-8", "replace").encode(str(how), "replace")
