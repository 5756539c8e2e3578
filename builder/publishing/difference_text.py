"""What is said of a difference between two versions: the sentences of the changelog, and what `persona diff` prints."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from builder.errors import few
from builder.publishing.licences import DEFAULT_LICENCE
from builder.publishing.versions import RESPONSES, STEP_OF, STEPS, next_version
from builder.schema import PAIR_CONFIGS

if TYPE_CHECKING:
    from builder.published import Version
    from builder.publishing.diff import ConfigDifference, Difference


def step_reasons(old: "Version", new: "Version", configs: Iterable["ConfigDifference"]) -> list[tuple[str, str]]:
    """(step, what asks for it, in a sentence), the largest step first.

    A changed licence is a major step: whoever takes any version up to the next major one relies on its terms. A split or config that
    was added is a minor one, as rows are: what loaded before loads as before. Code or recipe alone change no row and ask for nothing.
    """
    reasons = []
    terms = [version.build.get("licence") or DEFAULT_LICENCE for version in (old, new)]
    if terms[0] != terms[1]:
        reasons.append(("major", f"licence: {terms[0]} became {terms[1]}"))
    for config in configs:
        reasons += [(step, f"{config.config}: {said}") for step, said in config_reasons(config)]
    return sorted(reasons, key=lambda reason: -STEPS.index(reason[0]))


def change_notes(old: "Version", new: "Version") -> list[str]:
    """Sentences on the models, judges, templates and recorded replies that one version has and the other has not.

    They ask for no step, which follows from the rows alone, but say why so many rows changed. What an older version does not tell is
    not compared.
    """
    before, after = old.build, new.build
    notes = []
    if "judges" in before and "judges" in after:
        for place, judge in enumerate(("judge", "second judge")):
            labels = [[*build["judges"], "none", "none"][place] for build in (before, after)]
            notes += became(judge, *labels)
    judged_otherwise = bool(notes)
    if "models" in before and "models" in after:
        roles = dict.fromkeys((*before["models"], *after["models"]))
        for role in roles:
            if role not in ("judge", "second_judge") or not judged_otherwise:  # the label of a judge names its model
                notes += became(f"models: {role}", *model_names(before["models"].get(role), after["models"].get(role)))
    if "templates" in before and "templates" in after:
        for name in sorted(before["templates"].keys() | after["templates"].keys()):
            versions = before["templates"].get(name), after["templates"].get(name)
            if versions[0] != versions[1]:
                what = "added" if versions[0] is None else "no longer used" if versions[1] is None else "changed"
                notes.append(f"template {name} {what}")
    had, has = ((version.folder / RESPONSES).is_file() for version in (old, new))
    if had != has:
        notes.append(f"{RESPONSES} {'added' if has else 'removed, which the version before has'}")
    return notes


def became(what: str, before: str, after: str) -> list[str]:
    return [f"{what} {before} became {after}"] if before != after else []


def model_names(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    """Both by name and revision, and by what else tells them apart where these are the same."""
    names = []
    for model in (before, after):
        if model is None or model.get("provider") == "none":
            names.append("none")
        else:
            names.append(str(model.get("model")) + (f"@{model['revision']:.12}" if model.get("revision") else ""))
    if names[0] == names[1] != "none" and before is not None and after is not None:
        differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        for place, model in enumerate((before, after)):
            told = ", ".join(f"{key} {model.get(key)!s:.40}" for key in differing)
            names[place] += f" ({told})" if told else ""
    return names


def config_reasons(config: "ConfigDifference") -> Iterator[tuple[str, str]]:
    noun = config.config if config.config not in PAIR_CONFIGS else "pairs"
    if config.before is None:
        yield "minor", f"config added, {rows_said(config.after or 0, noun)}"
        return
    if config.after is None:
        yield "major", f"config removed, {rows_said(config.before, noun)}"
        return
    yield from (("major", sentence) for sentence in config.schema)
    yield from (("major", f"split {split} removed") for split in config.splits_removed)
    yield from (("minor", f"split {split} added") for split in config.splits_added)
    for kind, step in STEP_OF.items():
        if config.counts[kind]:
            said = f"{rows_said(config.count(kind), noun)} {'moved to another split' if kind == 'moved' else kind}"
            if kind == "changed":
                said += f" ({few(by_frequency(config), 6)})"
            elif noun == "pairs":  # tables of one split call it train, which says nothing there
                said += f" ({', '.join(f'{split} {number:,}' for split, number in config.counts[kind].items())})"
            yield step, said
    if config.regrouped:
        yield "major", f"{rows_said(config.regrouped, noun)} with another {config.group_column}"


def schema_sentences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [
        *(f"column {name} removed" for name in before if name not in after),
        *(f"column {name} added ({after[name]})" for name in after if name not in before),
        *(
            f"type of {name} changed from {before[name]} to {after[name]}"
            for name in before
            if name in after and after[name] != before[name]
        ),
    ]


def rows_said(number: int, noun: str) -> str:
    return f"{number:,} {noun if number != 1 else noun.removesuffix('s')}"


def by_frequency(config: "ConfigDifference") -> list[str]:
    """The columns that differ, those that differ in most rows first."""
    return sorted(config.columns, key=lambda name: (-config.columns[name], name))


def difference_text(difference: "Difference") -> str:
    """A table by config, what changed in the columns, some ids of each kind, and the step that follows."""
    before, after = difference.before.number, difference.after.number
    lines = [f"Version {before} -> {after}", "", *table_lines(difference.configs)]
    if difference.reasons:
        lines += ["", *(f"{step}  {sentence}" for step, sentence in difference.reasons)]
    if difference.notes:
        lines += ["", *difference.notes]
    for config in difference.configs:
        if config.columns:
            counts = few([f"{name} {config.columns[name]:,}" for name in by_frequency(config)], 12)
            lines.append(f"{config.config}, rows by changed column: {counts}")
        for kind, ids in config.examples.items():
            more = ", ..." if config.count(kind) > len(ids) else ""
            lines.append(f"{config.config}, {kind}: {', '.join(ids)}{more}")
    least = next_version(before, difference.step)
    if difference.step == "none":
        said = f"Step: none, no row differs. A version with another card or code is {least}."
    else:
        said = f"Step: {difference.step}. The next version after {before} is {least}."
    return "\n".join([*lines, "", said])


def table_lines(configs: Iterable["ConfigDifference"]) -> list[str]:
    """Rows by config and kind, in columns."""
    rows = [("config", "before", "after", *STEP_OF, "unchanged")]
    for config in configs:
        sizes = ["-" if number is None else f"{number:,}" for number in (config.before, config.after)]
        kinds = [f"{config.count(kind):,}" for kind in STEP_OF]
        rows.append((config.config, *sizes, *kinds, f"{config.unchanged:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
