"""What the Hub on 127.0.0.1 holds: repositories with commits, branches, tags and pull requests, and every content once, on disk.

Nothing here knows of HTTP; `tests/hub_server.py` speaks it. What the Hub refuses is a `HubError` with the status that it would answer.
"""

import hashlib
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

CHUNK = 1 << 20  # bytes that are in memory at once, however large a file is
LARGEST_REGULAR_FILE = 10 * 2**20  # bytes; what is larger must go through LFS, as on the Hub
LFS_ENDINGS = ("arrow", "bin", "gz", "npz", "parquet", "png", "jpg", "pt", "safetensors", "tar", "zip")
ATTRIBUTES = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()


class HubError(Exception):
    """status: of the answer. code: what the client reads from `X-Error-Code`. message: what the Hub says."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


@dataclass(frozen=True)
class Content:
    """sha256 and git_sha1: of the bytes. size: in bytes."""

    sha256: str
    git_sha1: str
    size: int


@dataclass(frozen=True)
class File:
    """A content at a path. lfs: it went through LFS, so git holds a pointer to it only."""

    content: Content
    lfs: bool

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.content.sha256}\nsize {self.content.size}\n".encode()

    @property
    def oid(self) -> str:
        """The id that git gives what it holds."""
        return git_sha1(self.pointer) if self.lfs else self.content.git_sha1

    @property
    def etag(self) -> str:
        return self.content.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """parent: SHA, or None for the first. title, message: the two parts of what was said. date: ISO 8601, one minute per commit."""

    sha: str
    parent: str | None
    files: Mapping[str, File]
    title: str
    message: str
    date: str


@dataclass
class PullRequest:
    """base: the commit of `main` that it started from. head: its newest commit, `refs/pr/<number>`. status: open, draft, merged, closed.

    merged_as: the commit of `main` that the merge made.
    """

    number: int
    title: str
    base: str
    head: str
    status: str = "open"
    merged_as: str | None = None


class Contents:
    """Every content once, as a file named by its SHA-256 in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, Content] = {}
        self.taken = 0
        self.lock = threading.Lock()

    def keep(self, chunks: Iterable[bytes], size: int) -> Content:
        """Raises HubError where `chunks` do not have `size` bytes together."""
        with self.lock:
            self.taken += 1
            part = self.folder / f"incoming-{self.taken}"
        sha256, sha1, seen = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size), 0
        with part.open("wb") as file:
            for chunk in chunks:
                sha256.update(chunk)
                sha1.update(chunk)
                seen += len(chunk)
                file.write(chunk)
        if seen != size:
            part.unlink()
            raise HubError(400, f"The content has {seen} bytes and should have {size}")
        content = Content(sha256.hexdigest(), sha1.hexdigest(), size)
        with self.lock:
            part.rename(self.folder / content.sha256)
            self.known[content.sha256] = content
        return content

    def keep_bytes(self, content: bytes) -> Content:
        return self.keep([content], len(content))

    def keep_file(self, path: Path) -> Content:
        return self.keep(_chunks(path), path.stat().st_size)

    def read(self, content: Content, first: int = 0, length: int | None = None) -> Iterator[bytes]:
        left = content.size - first if length is None else length
        with (self.folder / content.sha256).open("rb") as file:
            file.seek(first)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk

    def bytes_of(self, content: Content) -> bytes:
        return (self.folder / content.sha256).read_bytes()

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Repository:
    """kind: dataset or model. name: `org/name`. uploaded: SHA-256 of what LFS has taken for this repository, committed or not."""

    kind: str
    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[int, PullRequest] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        """The path of its page."""
        return f"datasets/{self.name}" if self.kind == "dataset" else self.name

    def names(self) -> dict[str, str]:
        """Every name of a revision, and its commit."""
        pulls = {f"refs/pr/{number}": pull.head for number, pull in self.pull_requests.items()}
        return {
            **{sha: sha for sha in self.commits},
            **pulls,
            **{f"refs/tags/{name}": sha for name, sha in self.tags.items()},
            **{f"refs/heads/{name}": sha for name, sha in self.branches.items()},
            **self.tags,
            **self.branches,
        }

    def find(self, revision: str) -> Commit:
        sha = self.names().get(revision)
        if sha is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def split(self, text: str) -> tuple[Commit, str]:
        """A revision and, behind a slash, a path. A branch may contain slashes, so the longest known revision wins."""
        known = [name for name in self.names() if text == name or text.startswith(f"{name}/")]
        if not known:
            raise HubError(404, "Invalid rev id", "RevisionNotFound")
        revision = max(known, key=len)
        return self.find(revision), text[len(revision) + 1 :]

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        found = [self.find(revision)]
        while found[-1].parent is not None:
            found.append(self.commits[found[-1].parent])
        return found

    def add(self, parent: str | None, files: Mapping[str, File], title: str, message: str = "") -> str:
        """A commit that no branch points to yet. Its SHA follows from what was done before, so that a test sees the same again."""
        number = len(self.commits)
        told = repr((self.kind, self.name, number, parent, sorted((p, f.etag) for p, f in files.items()), title))
        sha = hashlib.sha1(told.encode()).hexdigest()
        date = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        self.commits[sha] = Commit(sha, parent, dict(files), title, message, date)
        return sha

    def open_pull_request(self, title: str, base: str, head: str, status: str = "open") -> PullRequest:
        number = len(self.pull_requests) + 1
        self.pull_requests[number] = PullRequest(number, title, base, head, status)
        return self.pull_requests[number]

    def merge(self, number: int) -> str:
        """As the Hub merges: one new commit on `main`, titled `<title> (#<number>)`. Raises HubError on a conflict."""
        pull = self.pull_requests[number]
        if pull.status not in ("open", "draft"):
            raise HubError(400, f"The pull request is {pull.status}")
        base, head, main = (self.commits[sha] for sha in (pull.base, pull.head, self.branches["main"]))
        files = dict(main.files)
        for path in {*base.files, *head.files}:
            before, after = base.files.get(path), head.files.get(path)
            if before == after or after == main.files.get(path):
                continue
            if main.files.get(path) != before:
                raise HubError(409, f"Conflict in {path}")
            files.pop(path, None)
            if after is not None:
                files[path] = after
        said = f"- {head.title} ({head.sha})\n"
        pull.merged_as = self.branches["main"] = self.add(main.sha, files, f"{pull.title} (#{number})", said)
        pull.status = "merged"
        return pull.merged_as


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub wants this file through LFS: by its size, by bytes that are no text, or by its ending."""
    return (
        size > LARGEST_REGULAR_FILE or b"\0" in sample or path.endswith(tuple(f".{ending}" for ending in LFS_ENDINGS))
    )


def git_sha1(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
