"""Questions from a dataset of the Hugging Face Hub: `hub:org/name@revision`, or `hub:org/name@revision:config/split`.

The revision is wanted, since a dataset may change under its name; the commit that it stands for is kept with the build. `datasets` reads
the table, so that any format and any layout of files that it knows will do.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from yaml import YAMLError

from builder.errors import InputError
from builder.prompts.rows import Row

PREFIX = "hub:"
FORM = "Write hub:org/name@revision, or hub:org/name@revision:config/split."
# org/name @ revision : config / split. Git allows no colon in the name of a branch or tag.
ADDRESS = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^:\s]+)(?::(?P<config>[^/\s]+)/(?P<split>[^/\s]+))?")


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

    address = _parts(source)
    repo, revision = address["repo"], address["revision"]
    commit = _commit(repo, revision)
    try:
        loaded: Any = load_dataset(repo, address["config"], revision=commit)
    except (OSError, ValueError) as error:
        raise InputError(f"{source} cannot be read: {_first_lines(error)}. {FORM}") from None
    except Exception as error:  # `datasets` has its own for damaged files, each a plain Exception
        raise InputError(f"{source} cannot be read ({type(error).__name__}): {_first_lines(error)}.") from None
    splits = list(loaded)
    split = address["split"] or (splits[0] if len(splits) == 1 else None)
    if split not in splits:
        problem = f"has no split {split}" if split else "has several splits"
        config = address["config"] or next(iter(loaded.values())).info.config_name or "default"
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
            "revision": revision,
            "commit": commit,
            "config": str(table.info.config_name or "default"),
            "split": str(split),
        },
        rows=[(number, row | dict.fromkeys(absent)) for number, row in enumerate(texts, start=1)],
        licence=_licence(repo, commit),
    )


def pinned(source: str) -> str:
    """The address with the commit in place of the branch or tag. Raises InputError as `read_hub` does."""
    address = _parts(source)
    part = f":{address['config']}/{address['split']}" if address["config"] else ""
    return f"{PREFIX}{address['repo']}@{_commit(address['repo'], address['revision'])}{part}"


def _parts(source: str) -> dict[str, Any]:
    found = ADDRESS.fullmatch(source)
    if found is None:
        if "@" not in source:
            raise InputError(
                f"prompts.source is {source}, without a revision: the dataset could change and the same recipe give other prompts. "
                "Pin one, a tag or a commit: hub:org/name@revision."
            )
        raise InputError(f"prompts.source is {source}, which is no address of a dataset. {FORM}")
    return found.groupdict()


@lru_cache(maxsize=8)  # once a run: a branch that moves meanwhile must not give two answers
def _commit(repo: str, revision: str) -> str:
    """The SHA of the commit. A SHA stands for itself, so that a table in the cache can be read without a network."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        sha = HfApi().dataset_info(repo, revision=revision, timeout=30).sha
    except RevisionNotFoundError:
        raise InputError(
            f"The Hub has dataset {repo}, but no revision {revision}. See its branches, tags and commits under Files, and name one."
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"The Hub has no dataset {repo} that you may read. Check the name; for a private or gated one accept "
            "its terms and set HF_TOKEN."
        ) from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise InputError(
            f"The Hub could not be asked about dataset {repo}: {_first_lines(error)}. Check the network, or download the file and give "
            "its path. A table that was read before is read from the cache if the revision is the SHA of its commit."
        ) from None
    if sha is None:
        raise InputError(f"The Hub does not say which commit {revision} of {repo} is. Name the SHA of a commit.")
    return sha


def _licence(repo: str, commit: str) -> str | None:
    """As the card's metadata says; None where it says nothing."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hf_hub_download(repo, "README.md", repo_type="dataset", revision=commit)
        licence = DatasetCard.load(path).data.to_dict().get("license")
    except (EntryNotFoundError, OSError, ValueError, YAMLError):
        return None
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return str(licence) if licence else None


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300].rstrip(".") or type(error).__name__
