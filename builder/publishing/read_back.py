"""The proof that a version is on the Hub as it was written: its files by hash, and what `datasets` makes of them."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.hub.client import HubAddress, first_lines, hub_errors, status_of
from builder.hub.files import Upload, differing_files
from builder.publishing.versions import RESPONSES
from builder.schema import features

# What versions consist of, this and earlier ones.
OF_A_VERSION = re.compile(
    rf"README\.md|(build|audit|croissant|fidelity)\.json|{re.escape(RESPONSES)}|data/[^/]+/[^/]+\.parquet|figures/[^/]+\.png"
)


@dataclass(frozen=True)
class VersionUpload(Upload):
    """What is to be on the Hub: the files of `folder`, whose build.json is `published`.

    What else its owner keeps in the repository, such as a LICENSE, is no part of a version: it is neither compared nor deleted.
    """

    folder: Path
    published: dict[str, Any]

    def files_at(self, api: Any, revision: str) -> dict[str, Any]:
        """{path: its entry in the Hub's tree} of what is of a version at this revision."""
        return self.own(super().files_at(api, revision))

    def own(self, there: Mapping[str, Any]) -> dict[str, Any]:
        """Those of these files that are of a version."""
        return {path: entry for path, entry in there.items() if path in self.files or OF_A_VERSION.fullmatch(path)}


def read_back(api: Any, version: VersionUpload, revision: str, commit: str) -> None:
    """Load what the Hub has at `revision` as others will, and compare it with what was written.

    Every file comes anew, past the caches, and is hashed; then `datasets` says which configs, splits and columns it sees there.
    Raises InputError for any difference.
    """
    where = f"{HubAddress(version.repository, revision)}"
    there = f"On the Hub: commit {commit}, with {'tag ' if revision == version.tag else ''}{revision}"
    with hub_errors(
        f"{where} cannot be read back",
        f"{there}. It is not proved yet; the same command uploads nothing and reads it back.",
    ):
        defects = differing_files(api, version, revision, commit, download_large=True, beside=version.folder.parent)
        defects += differing_counts(version) + differing_tables(version, revision)
    if defects:
        raise InputError(
            f"{where} does not read back as it was written: {'; '.join(defects[:6])}. {there}. Nobody should rely on this version. Run the "
            "same command again: it uploads nothing and reads back once more. If it says the same, say so in the dataset's card, and "
            "publish under a higher --version."
        )


def differing_counts(version: VersionUpload) -> list[str]:
    """Files with other counts of rows than build.json says. Counted here, as every file there has been compared by its hash."""
    import pyarrow.parquet as parquet

    defects = []
    for splits in version.published["configs"].values():
        for entry in splits.values():
            if entry["file"]:
                found = parquet.read_metadata(version.folder / entry["file"]).num_rows
                if found != entry["rows"]:
                    defects.append(f"{entry['file']} has {found} rows, and build.json says {entry['rows']}")
    return defects


def differing_tables(version: VersionUpload, revision: str) -> list[str]:
    """What `datasets` finds at this revision against build.json and builder.schema; of the data it reads the footers only."""
    wanted = {
        config: sorted(split for split, entry in splits.items() if entry["rows"])
        for config, splits in version.published["configs"].items()
        if any(entry["rows"] for entry in splits.values())
    }
    with tempfile.TemporaryDirectory(prefix=".readback.", dir=version.folder.parent) as cache:
        try:
            return seen_otherwise(version.repository, revision, cache, wanted)
        except ValueError as error:  # of `datasets`, about the card or a file; the network's are others
            if status_of(error) is not None:
                raise
            return [f"datasets cannot load it: {first_lines(error)}"]


def seen_otherwise(repository: str, revision: str, cache: str, wanted: dict[str, list[str]]) -> list[str]:
    from datasets import load_dataset_builder

    default = load_dataset_builder(repository, revision=revision, cache_dir=cache)
    seen, defects = default.builder_configs, []
    if set(seen) != set(wanted):
        defects.append(f"datasets sees the configs {', '.join(seen)}, not {', '.join(wanted)}")
    if default.config.name != "dpf":
        defects.append(f"the default config is {default.config.name}, not dpf")
    for config in [config for config in wanted if config in seen]:
        builder = load_dataset_builder(repository, config, revision=revision, cache_dir=cache)
        splits: Any = builder.as_streaming_dataset()
        if sorted(splits) != wanted[config]:
            defects.append(f"{config} has the splits {', '.join(splits)}, not {', '.join(wanted[config])}")
        for split, table in splits.items():
            if table.features != features(config):
                defects.append(f"{config}/{split} has other columns: {', '.join(table.features or ['none'])}")
    return defects
