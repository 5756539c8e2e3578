"""Versions are major.minor.patch. What changed decides the smallest step: content of rows = patch, rows added = minor, else major."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import InputError
from builder.files import read_json
from builder.published import VERSION, parse_version, published_version

if TYPE_CHECKING:
    from builder.publishing.diff import Difference

RESPONSES = "responses.parquet"  # the recorded replies, which one version may have and another not
STEPS = ("none", "patch", "minor", "major")
# What can be the matter with a row, and the step that it asks for.
STEP_OF = {"added": "minor", "removed": "major", "changed": "patch", "moved": "major"}


def tag_of(version: str) -> str:
    return f"v{version}"


def version_of(tag: str) -> str | None:
    """The version that a tag names, None for a tag that names none."""
    return tag[1:] if tag.startswith("v") and VERSION.fullmatch(tag[1:]) else None


def next_version(version: str, step: str) -> str:
    """The least version that is `step` above `version`. Without a differing row (`none`) it is a patch: a version is never said twice."""
    major, minor, patch = parse_version(version)
    if step == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if step == "minor" else f"{major}.{minor}.{patch + 1}"


def step_between(before: str, after: str) -> str:
    """The step that the numbers take, `none` where `after` is not above `before`."""
    old, new = parse_version(before), parse_version(after)
    if new <= old:
        return "none"
    return "major" if new[0] > old[0] else "minor" if new[1] > old[1] else "patch"


def refuse_small_step(before: Path, version: str, difference: "Difference") -> None:
    """Raises InputError if `version` is not above the one published in `before`, or by less than `difference` asks. More is allowed."""
    earlier = published_version(before)
    taken, least = step_between(earlier, version), next_version(earlier, difference.step)
    if taken == "none":
        raise InputError(
            f"--version {version} is not above {earlier}, the version before. Give {least} or more, or compare with another version."
        )
    if STEPS.index(taken) < STEPS.index(difference.step):
        asking = [sentence for step, sentence in difference.reasons if STEPS.index(step) > STEPS.index(taken)]
        more = f"; and {len(asking) - 4} more" if len(asking) > 4 else ""
        raise InputError(
            f"--version {version} is a {taken} step from {earlier}, and what changed asks for a {difference.step} one: "
            f"{'; '.join(asking[:4])}{more}. Give {least} or more."
        )


def changelog_entry(before: Path, version: str, difference: "Difference") -> list[dict[str, Any]]:
    """The changelog of the version before (from its build.json) with this version's entry in front.

    An entry: version, previous, step (the one that the numbers take, which may be larger than asked), changes (sentences).
    """
    earlier = published_version(before)
    # Versions published before there was a changelog have none.
    entries = read_json(before / "build.json").get("changelog", [])
    if not isinstance(entries, list):
        raise InputError(f"The changelog in {before / 'build.json'} is not a list. Get the version again.")
    changes = [sentence for _, sentence in difference.reasons]
    if not changes:
        changes = ["no row differs" if difference.notes else "no row differs: another card, recipe or code"]
    entry = {
        "version": version,
        "previous": earlier,
        "step": step_between(earlier, version),
        "changes": [*changes, *difference.notes],
    }
    return [entry, *entries]
