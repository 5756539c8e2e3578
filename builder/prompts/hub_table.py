"""Questions from a dataset of the Hugging Face Hub: `hub:org/name@revision`, or `hub:org/name@revision:config/split`.

The revision is wanted, since a dataset may change under its name; the commit that it stands for is kept with the build. `datasets` reads
the table, so that any format and any layout of files that it knows will do.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml import YAMLError

from builder.errors import InputError
from builder.hub.client import PREFIX, HubAddress, commit_of, file_of, first_lines, parse_address
from builder.prompts.rows import Row

FORM = "Write hub:org/name@revision, or hub:org/name@revision:config/split."
# An address with a revision, and the table in it.
ADDRESS = re.compile(r"(?P<address>hub:[^:@\s]+@[^:\s]+)(?::(?P<part>[^/\s]+/[^/\s]+))?")


@dataclass(frozen=True)
class HubTable:
    name: str  # hub:org/name
    identity: dict[str, str]  # revision, commit, config, split
    rows: list[tuple[int, Row]]  # numbered from 1
    licence: str | None  # as the dataset's card says


def is_hub(source: str) -> bool:
    return source.startswith(PREFIX)


def read_hub(source: str) -> HubTable:
    """Raises InputError for an address without a revision, for what is not on the Hub, and where a config or split must be named."""
    from datasets import load_dataset

    address, part = _parts(source)
    repo, revision = address.repository, address.revision
    wanted_config, wanted_split = part.split("/") if part else (None, None)
    commit = commit_of(address)
    try:
        loaded: Any = load_dataset(repo, wanted_config, revision=commit)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be read: {first_lines(error)}. {FORM}") from None
    except Exception as error:  # `datasets` has its own for damaged files, each a plain Exception
        raise InputError(f"{source} cannot be read ({type(error).__name__}): {first_lines(error)}.") from None
    splits = list(loaded)
    split = wanted_split or (splits[0] if len(splits) == 1 else None)
    if split not in splits:
        problem = f"has no split {split}" if split else "has several splits"
        config = wanted_config or next(iter(loaded.values())).info.config_name or "default"
        raise InputError(
            f"{source} {problem}: {', '.join(splits)}. Name one, e.g. hub:{repo}@{revision}:{config}/{splits[0]}."
        )
    table = loaded[split]
    # Where the Hub cannot be reached `datasets` takes the newest table of that name in its cache, whatever its commit.
    if not all(commit in Path(file["filename"]).parts for file in table.cache_files):
        raise InputError(
            f"The Hub could not be reached for {source}, and the cache of `datasets` holds another commit than {commit}. Check the "
            "network and try again."
        )
    # Only columns of text and numbers: pictures and sound would be decoded for nothing.
    plain = [
        name
        for name, kind in table.features.items()
        if getattr(kind, "dtype", None) in ("string", "large_string", "int64", "int32")
    ]
    absent = [name for name in table.column_names if name not in plain]
    texts = table.select_columns(plain).to_list() if plain else [{} for _ in range(len(table))]
    return HubTable(
        name=f"{PREFIX}{repo}",
        identity={
            "revision": str(revision),
            "commit": commit,
            "config": str(table.info.config_name or "default"),
            "split": str(split),
        },
        rows=[(number, row | dict.fromkeys(absent)) for number, row in enumerate(texts, start=1)],
        licence=_licence(HubAddress(repo, commit)),
    )


def pinned(source: str) -> str:
    """The address with the commit in place of the branch or tag. Raises InputError as `read_hub` does."""
    address, part = _parts(source)
    return f"{PREFIX}{address.repository}@{commit_of(address)}" + (f":{part}" if part else "")


def _parts(source: str) -> tuple[HubAddress, str]:
    """The address, and what stands behind it: `config/split`, or nothing."""
    found = ADDRESS.fullmatch(source)
    if found is None:
        if "@" not in source:
            raise InputError(
                f"prompts.source is {source}, without a revision: the dataset could change and the same recipe give other prompts. "
                "Pin one, a tag or a commit: hub:org/name@revision."
            )
        raise InputError(f"prompts.source is {source}, which is no address of a dataset. {FORM}")
    return parse_address(found["address"]), found["part"] or ""


def _licence(pinned_address: HubAddress) -> str | None:
    """As the card's metadata says; None where it says nothing."""
    from huggingface_hub import DatasetCard

    card = file_of(pinned_address, "README.md")
    if card is None:
        return None
    try:
        licence = DatasetCard.load(card).data.to_dict().get("license")
    except (OSError, ValueError, YAMLError):
        return None
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return str(licence) if licence else None
