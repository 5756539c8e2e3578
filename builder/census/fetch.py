"""Fetches the Census Bureau's PUMS files of one survey year into a folder that `read_pums` reads. Can be killed and run again.

manifest.json in the folder holds every file's URL, size, SHA-256, and what the server said of its version (ETag, Last-Modified). The next
run compares size and SHA-256 and downloads nothing that agrees.
"""

import difflib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from builder.census.codebook import packaged_years
from builder.census.download import download_zip, forget, http_client
from builder.errors import InputError
from builder.files import locked, sha256_file, write_json

BUREAU_URL = "https://www2.census.gov/programs-surveys/acs/data/pums"
FIRST_YEAR = min(packaged_years())
TIMEOUT_S = 60.0
NATION, PUERTO_RICO = "us", "pr"
STATES = {
    **{"al": "Alabama", "ak": "Alaska", "az": "Arizona", "ar": "Arkansas", "ca": "California", "co": "Colorado"},
    **{"ct": "Connecticut", "de": "Delaware", "dc": "District of Columbia", "fl": "Florida", "ga": "Georgia"},
    **{"hi": "Hawaii", "id": "Idaho", "il": "Illinois", "in": "Indiana", "ia": "Iowa", "ks": "Kansas"},
    **{"ky": "Kentucky", "la": "Louisiana", "me": "Maine", "md": "Maryland", "ma": "Massachusetts", "mi": "Michigan"},
    **{"mn": "Minnesota", "ms": "Mississippi", "mo": "Missouri", "mt": "Montana", "ne": "Nebraska", "nv": "Nevada"},
    **{"nh": "New Hampshire", "nj": "New Jersey", "nm": "New Mexico", "ny": "New York", "nc": "North Carolina"},
    **{"nd": "North Dakota", "oh": "Ohio", "ok": "Oklahoma", "or": "Oregon", "pa": "Pennsylvania"},
    **{"ri": "Rhode Island", "sc": "South Carolina", "sd": "South Dakota", "tn": "Tennessee", "tx": "Texas"},
    **{"ut": "Utah", "vt": "Vermont", "va": "Virginia", "wa": "Washington", "wv": "West Virginia", "wi": "Wisconsin"},
    **{"wy": "Wyoming", PUERTO_RICO: "Puerto Rico", NATION: "United States"},
}


def fetch_pums(
    year: int,
    states: Sequence[str],
    folder: str | Path,
    five_year: bool = False,
    base_url: str = BUREAU_URL,
    progress: bool = True,
    wait: Callable[[float], None] = time.sleep,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, Any]:
    """Fetch the person and housing files of the states and return the manifest: {year, period, files: {name: what download_zip returns}}.

    states: two-letter postal codes, also `dc`, `pr`, and `us` for the whole nation. year: of a 5-year file its last year. wait: passes the
    seconds between two attempts. A file that no longer agrees with the manifest is fetched again, and replaced when the new one is whole.
    Raises InputError for an unknown state, a file that the server does not have, a server that keeps failing, a full disk, and a folder
    that holds another year, is in use by another fetch, or has a file of the same name that is not in its manifest.
    """
    codes = known_states(states)
    if year < FIRST_YEAR:
        raise InputError(
            f"--year is {year}; files before {FIRST_YEAR} have no codebook here, so nothing could be built from them."
        )
    folder = Path(folder)
    period = "5-Year" if five_year else "1-Year"
    names = [f"csv_{kind}{code}.zip" for code in codes for kind in ("p", "h")]
    with locked(folder, "fetch"), http_client(timeout_s) as client:
        manifest = read_manifest(folder, year, period)
        refuse_unlisted_files(folder, names, manifest)
        for number, name in enumerate(names, start=1):
            if is_here(folder, name, manifest, progress):
                continue
            url, part = f"{base_url.rstrip('/')}/{year}/{period}/{name}", part_of(folder / name)
            label = f"{name} ({number} of {len(names)})"
            with tqdm(desc=label, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
                entry = download_zip(client, url, part, bar, wait)
            manifest["files"] = dict(sorted({**manifest["files"], name: entry}.items()))
            # The manifest goes first: a kill between the two lines leaves a .part that the manifest knows, not an unlisted file.
            write_json(folder / "manifest.json", manifest)
            part.replace(folder / name)
            forget(part)
    return manifest


def known_states(states: Sequence[str]) -> list[str]:
    """Lower-case postal codes, each once, in the order given. Raises InputError for one that is none, and for the nation beside a state."""
    codes = list(dict.fromkeys(state.strip().lower() for state in states if state.strip()))
    if not codes:
        raise InputError(
            "--states names no state. Give postal codes, as in --states WY,CO, or us for the whole nation."
        )
    for code in codes:
        if code not in STATES:
            meant = ", ".join(f"{near.upper()} ({STATES[near]})" for near in close_states(code))
            raise InputError(
                f"--states names {code!r}, which is no state's postal code.{f' Did you mean {meant}?' if meant else ''} Give two letters, "
                "also dc, pr, or us for the whole nation."
            )
    # Puerto Rico is not in the national file.
    if NATION in codes and set(codes) - {NATION, PUERTO_RICO}:
        raise InputError(
            "--states names us and single states, so their persons would be there twice. Give one or the other."
        )
    return codes


def close_states(text: str) -> list[str]:
    by_name = {name.lower(): code for code, name in STATES.items()}
    close = [by_name[name] for name in difflib.get_close_matches(text, by_name, n=3, cutoff=0.6)]
    if len(text) <= 3:
        close += difflib.get_close_matches(text, STATES, n=4, cutoff=0.5)
    return list(dict.fromkeys(close))


def read_manifest(folder: Path, year: int, period: str) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        return {"year": year, "period": period, "files": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        held, files = (manifest["year"], manifest["period"]), dict(manifest["files"])
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"{path} is not the manifest of a fetch. Restore it, or give another --out folder.") from None
    if held != (year, period):
        raise InputError(
            f"{folder} holds {held[1]} files of {held[0]}, and the Bureau's files have the same names in every year. Give another --out "
            f"folder for the {period} files of {year}."
        )
    return {"year": year, "period": period, "files": files}


def refuse_unlisted_files(folder: Path, names: list[str], manifest: dict[str, Any]) -> None:
    for name in names:
        if (folder / name).exists() and name not in manifest["files"]:
            raise InputError(
                f"{folder / name} is there, but manifest.json does not list it, so nothing says of what year it is. Move it away, or give "
                "another --out folder."
            )


def is_here(folder: Path, name: str, manifest: dict[str, Any], progress: bool) -> bool:
    """Whether the file is there as the manifest has it, also when only a kill kept it from its own name."""
    path, part, entry = folder / name, part_of(folder / name), manifest["files"].get(name)
    if entry is None:
        return False
    if agrees(path, entry):
        return True
    if agrees(part, entry):
        part.replace(path)
        forget(part)
        return True
    if path.exists() and progress:
        tqdm.write(f"{name} is not what manifest.json says: it is fetched again.", file=sys.stderr)
    return False


def agrees(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry.get("bytes") and sha256_file(path) == entry.get("sha256")


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
