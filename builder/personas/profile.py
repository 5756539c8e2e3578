"""A persona as text: what a model is shown."""

from collections.abc import Callable, Sequence
from typing import Any

from builder.errors import InputError
from builder.schema import ATTRIBUTES, BIG_FIVE, paper_key

HEADER = "About the person asking:"


NULL_WORDS = {"missing": "Not known", "not_applicable": "Not applicable", "none": "None"}


def profile_lines(
    values: dict[str, Any], order: Sequence[str] = ATTRIBUTES, null_reasons: dict[str, str | None] | None = None
) -> list[str]:
    """`Key: value` for every attribute of `order` that has a value, in that order; with `null_reasons` also for those that have none.

    The paper prints its nulls (as nan, whatever the reason); to a reader they are noise, so they are left out unless asked for.
    """
    lines = []
    for name in order:
        if values[name] is not None:
            lines.append(f"{label(name)}: {shown(name, values[name])}")
        elif null_reasons is not None:
            lines.append(f"{label(name)}: {NULL_WORDS[null_reasons[name] or 'missing']}")
    return lines


def label(attribute: str) -> str:
    """`ability_to_speak_english` -> `Ability to speak English`."""
    key = paper_key(attribute).replace("english", "English")
    return key[0].upper() + key[1:]


def shown(attribute: str, value: Any) -> str:
    if attribute == "big_five_scores":
        return ", ".join(f"{trait.capitalize()}: {value[trait]}" for trait in BIG_FIVE)
    if attribute == "income" and value == 0:
        return "No personal income"
    if attribute == "income":
        return f"-${-value:,} a year (a loss)" if value < 0 else f"${value:,} a year"
    # One line per attribute, whatever a language model may have written.
    return " ".join(str(value).split())


def profile_text(lines: Sequence[str]) -> str:
    return "\n".join([HEADER, *lines])


def fit_profiles(
    personas: Sequence[Sequence[str]], max_tokens: int, count_tokens: Callable[[list[str]], list[int]]
) -> tuple[list[str], list[int]]:
    """The profile of each persona within `max_tokens` tokens, and how many of its lines were left out.

    personas: the profile lines of each, most important first. Lines are left out whole and from the end. count_tokens: texts -> tokens.
    Raises InputError where not even one line fits.
    """
    kept = [len(lines) for lines in personas]
    texts = [profile_text(lines) for lines in personas]
    counts = count_tokens(texts)
    # Bisection over the number of lines, all personas together: a handful of batches instead of one text per line.
    fits = [0 if count > max_tokens else len(lines) for count, lines in zip(counts, personas, strict=True)]
    too_many = kept.copy()
    open_rows = [row for row, count in enumerate(counts) if count > max_tokens]
    while open_rows:
        tried = {row: (fits[row] + too_many[row]) // 2 for row in open_rows}
        counts = count_tokens([profile_text(personas[row][: tried[row]]) for row in open_rows])
        for row, count in zip(open_rows, counts, strict=True):
            if count <= max_tokens:
                fits[row] = tried[row]
            else:
                too_many[row] = tried[row]
        open_rows = [row for row in open_rows if too_many[row] - fits[row] > 1]
    for row, lines in enumerate(personas):
        if lines and fits[row] == 0:
            raise InputError(
                f"personas.profile_max_tokens is {max_tokens}, too little for even the first attribute ({lines[0]!r}). Raise it."
            )
        texts[row] = profile_text(lines[: fits[row]])
    return texts, [len(lines) - fits[row] for row, lines in enumerate(personas)]
