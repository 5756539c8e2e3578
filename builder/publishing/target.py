"""Where a version goes: an address on the Hub, or a folder that is not there yet, is empty, or holds this very version."""

import re
from pathlib import Path
from typing import Any

from builder.errors import InputError, few
from builder.files import sha256_file
from builder.hub.client import ADDRESS, PREFIX, HubAddress, parse_address
from builder.published import build_in, is_published


def parse_target(text: str) -> HubAddress | Path:
    """The address that `--to` gives, or the folder. Raises InputError for any other place, with the right form where it can be guessed."""
    if not text.strip():
        raise InputError("--to is empty. Give a folder, or hub:org/name.")
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    if scheme is None and not text.lower().startswith(PREFIX):
        return Path(text)
    named = re.sub(r"(?i)^(hub:|hf://|https?://(www\.)?(huggingface\.co|hf\.co)/)/*(datasets/)?", PREFIX, text).rstrip(
        "/"
    )
    if text != named and ADDRESS.fullmatch(named):
        raise InputError(f"--to {text} is not how a dataset on the Hub is addressed here. Write {named}.")
    if scheme is not None and not text.lower().startswith(PREFIX):
        raise InputError(
            f"--to {text}: nothing is published to {scheme[0]}. Give a folder on this machine, which you may then copy there, or "
            "hub:org/name."
        )
    return parse_address(text)


def refuse_target(target: Path, run: Path, build: dict[str, Any], version: str) -> None:
    """Raises InputError for a folder that cannot become this version of this build, as far as it shows before the version is written."""
    place = target.resolve()
    if place.is_relative_to(run.resolve()):
        raise InputError(f"{target} is in the build's own folder {run}. Give a folder beside it.")
    for parent in place.parents:
        if is_published(build_in(parent)):
            raise InputError(
                f"{target} is in {parent}, which is a published version and is never changed. Give a folder beside it."
            )
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target} is a file. Give a folder.")
    if left_by_a_publish(target) or not any(target.iterdir()):
        return
    there = build_in(target)
    if not is_published(there):
        shown = few(sorted(path.name for path in target.iterdir()))
        raise InputError(
            f"{target} is not empty and holds no published version ({shown}). Give a folder that is empty or does not exist yet."
        )
    held = there.get("version")
    if (held, there.get("fingerprint")) != (version, build["fingerprint"]):
        what = f"version {held}" + (" of another build" if held == version else "")
        raise InputError(
            f"{target} already holds {what}. A published version is never overwritten: give another folder, or remove this one yourself "
            "if nobody uses it."
        )


def unfinished_name(name: str) -> str:
    return f".{name}.unfinished"


def left_by_a_publish(target: Path) -> bool:
    """A publish into this folder, which was empty, did not come to its end."""
    return (target / unfinished_name(target.resolve().name)).is_dir()


def sizes(folder: Path) -> dict[str, int]:
    """{path in the folder: bytes} of everything in it but a version that is being written."""
    unfinished = unfinished_name(folder.resolve().name)
    found = {p.relative_to(folder): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    return {path.as_posix(): size for path, size in found.items() if path.parts[0] != unfinished}


def holds_this(target: Path, folder: Path) -> bool:
    """False where there is nothing under `target` yet or not all of it, True if it holds exactly this.

    Raises InputError if it holds anything else.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    there, made = sizes(target), sizes(folder)
    absent, extra = sorted(made.keys() - there.keys()), sorted(there.keys() - made.keys())
    other = sorted(n for n in made.keys() & there.keys() if sha256_file(target / n) != sha256_file(folder / n))
    begun = left_by_a_publish(target)
    kinds = [("differing", other), ("absent", [] if begun else absent), ("extra", extra)]
    said = "; ".join(f"{kind}: {few(names)}" for kind, names in kinds if names)
    if not said:
        return not absent
    if extra and not other and not absent:
        raise InputError(
            f"{target} holds this version and something else ({said}). Remove that, or give another folder."
        )
    raise InputError(
        f"{target} already holds something else ({said}). A published version is never overwritten: give another folder, or remove this "
        "one yourself if nobody uses it."
    )


def move_into(target: Path, folder: Path) -> None:
    """`folder` becomes `target`. One that exists stays the folder that it is: a shell may stand in it, or a disk be mounted there."""
    if not target.exists():
        folder.rename(target)
        return
    # build.json last: without it nobody takes the folder for a version.
    for name in sorted(sizes(folder), key=lambda name: (name == "build.json", name)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(target / name)


def mistaken_for_hub(text: str) -> list[str]:
    """What to say of a folder whose name is one of a repository, where not even the folder around it exists yet."""
    looks = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) and not Path(text).parent.exists()
    return [f"{text} is a folder; for the Hub write hub:{text}."] if looks else []
