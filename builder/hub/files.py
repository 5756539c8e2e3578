"""Files here and in a repository of the Hub, compared by the ids that the Hub gives contents; a large one need not come to be compared."""

import hashlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.files import sha256_file
from builder.hub.client import HubAddress

# The Hub's own file, which says what it stores as large files.
KEPT = (".gitattributes",)


@dataclass(frozen=True)
class LocalFile:
    """source: its path here, or its bytes. size: in bytes. git: the id that git gives the content. sha256: the id that a large file has
    on the Hub."""

    source: Path | bytes
    size: int
    git: str
    sha256: str


@dataclass(frozen=True)
class Upload:
    """The files that a repository is to hold, by path in it.

    kind: dataset or model. name: in messages, such as `version 1.2.0`. title: of the commit and of the pull request. tag: set on the
    commit afterwards, "" without one.
    """

    kind: str
    repository: str
    files: Mapping[str, LocalFile]
    name: str
    title: str
    tag: str

    @property
    def address(self) -> HubAddress:
        return HubAddress(self.repository, None)

    @property
    def nothing(self) -> str:
        return f"Nothing of {self.name} is visible on the Hub."

    @property
    def cannot(self) -> str:
        return f"{self.name[:1].upper()}{self.name[1:]} cannot be published to {self.address}"

    def files_at(self, api: Any, revision: str) -> dict[str, Any]:
        """{path: its entry in the Hub's tree} at this revision."""
        return remote_files(api, self.kind, self.repository, revision)


def local_file(source: Path | bytes) -> LocalFile:
    """Read once in blocks for both ids."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    git, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            git.update(block)
            sha256.update(block)
    return LocalFile(source, size, git.hexdigest(), sha256.hexdigest())


def local_files(folder: Path) -> dict[str, LocalFile]:
    """{path in the folder: file} of everything in it."""
    return {p.relative_to(folder).as_posix(): local_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def remote_files(api: Any, kind: str, repository: str, revision: str) -> dict[str, Any]:
    """{path: its entry in the Hub's tree}, without the Hub's own files. kind: dataset or model."""
    from huggingface_hub import RepoFile

    entries = api.list_repo_tree(repository, repo_type=kind, revision=revision, recursive=True)
    return {e.path: e for e in entries if isinstance(e, RepoFile) and e.path not in KEPT}


def changes(ours: Mapping[str, LocalFile], theirs: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """(paths to add or to replace, paths to delete) to make theirs ours. Both empty: the same files."""

    def same(file: LocalFile, entry: Any) -> bool:
        return bool(file.sha256 == entry.lfs.sha256 if entry.lfs else file.git == entry.blob_id)

    added = [path for path, file in ours.items() if path not in theirs or not same(file, theirs[path])]
    return added, sorted(theirs.keys() - ours.keys())


def same_files(ours: Mapping[str, LocalFile], theirs: Mapping[str, Any]) -> bool:
    return changes(ours, theirs) == ([], [])


def differing_files(
    api: Any, upload: Upload, revision: str, commit: str, *, download_large: bool, beside: Path | None = None
) -> list[str]:
    """What is otherwise at `revision`, which should be at `commit`, than it should be: a few words for each file.

    Every file comes anew, past the user's cache, and is hashed; without `download_large` the Hub is asked for the SHA-256 of the large
    ones, which it has computed when they arrived. The disk holds one file at a time, in the folder `beside` or the temporary one.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    theirs = upload.files_at(api, revision)
    defects = [f"{path} should not be there" for path in sorted(theirs.keys() - upload.files.keys())]
    for path, file in upload.files.items():
        large = theirs[path].lfs if path in theirs else None
        if large and not download_large:
            if large.sha256 != file.sha256:
                defects.append(f"{path} has other content")
            continue
        # A cache of its own for each file: what the user's cache holds proves nothing.
        with tempfile.TemporaryDirectory(prefix=".readback.", dir=beside) as made:
            cache = Path(made).resolve()  # the client gives whole paths back, whatever it was given
            try:
                place = Path(
                    api.hf_hub_download(
                        upload.repository, path, repo_type=upload.kind, revision=revision, cache_dir=cache
                    )
                )
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the network's failure under another name
                    raise
                defects.append(f"{path} is not there")
                continue
            if commit not in place.relative_to(cache).parts:
                defects.append(f"{revision} is not at commit {commit}")
            if sha256_file(place) != file.sha256:
                defects.append(f"{path} has other content")
    return defects
