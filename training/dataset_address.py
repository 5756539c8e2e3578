"""Which dataset a run is given: a published folder, or one on the Hub at one commit.

Nothing heavy is imported here, because the launcher asks too.
"""

from collections.abc import Sequence
from pathlib import Path

from builder.errors import InputError
from builder.hub.client import PREFIX, HubAddress, parse_address, snapshot


def dataset_address(source: str, revision: str | None = None) -> HubAddress | None:
    """None for a folder; `hub:org/name@v1.0.0`, or `org/name` with `revision`, is a Hub dataset.

    Raises InputError for what is neither, and for a revision that is given twice or with a folder.
    """
    if Path(source).expanduser().is_dir():
        if revision is not None:
            raise InputError(
                f"dataset_revision is {revision!r}, but {source} is a folder, which has none. Remove dataset_revision."
            )
        return None
    if not source.startswith(PREFIX):
        if source.count("/") != 1 or source.startswith((".", "/", "~")):
            raise InputError(
                f"dataset is {source!r}: no such folder, and no dataset on the Hub, which is written hub:org/name@v1.0.0. Check the path."
            )
        source = f"{PREFIX}{source}"
    address = parse_address(source)
    if revision is None:
        return address
    if address.revision not in (None, revision):
        raise InputError(
            f"dataset names revision {address.revision} and dataset_revision {revision}. Remove one of the two."
        )
    return HubAddress(address.repository, revision)


def dataset_snapshot(address: HubAddress, configs: Sequence[str]) -> Path:
    """The folder, named by its commit, with these pair configs and the personas. Raises InputError where the Hub does not give it."""
    # `datasets` looks at the files of the first config, `dpf`, whichever one it is asked for.
    tables = [f"*{config}/*.parquet" for config in dict.fromkeys(("dpf", *configs, "personas"))]
    return snapshot(address, ["README.md", "build.json", *tables])
