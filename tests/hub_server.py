"""A Hugging Face Hub on 127.0.0.1, for whoever reads or publishes with the real `huggingface_hub` and `datasets`. Ends with the test.

It speaks the HTTP interface as huggingface_hub 2.4 uses it, for dataset and model repositories:

* repositories: create (409 where it exists), delete, settings (private or public), information, refs, commits, who am I, auth-check;
* writing: preupload, LFS batch, upload in one or several parts, verify, commit with `parentCommit` (412 where it is not the head, as the
  Hub answers), tags and branches, pull requests (created by a commit or empty, listed, merged as one commit `<title> (#1)`, closed);
* reading: tree with pages, paths-info, resolve with ranges and HEAD, every revision by branch, tag, `refs/pr/1` or full SHA;
* tokens: one that may write, one that may only read (403 on writing), none (401 on writing and on what is private), any other (401).

Not covered: Xet, so every client must run with `HF_HUB_DISABLE_XET=1`, and what Xet does on the real Hub is untested here; the redirect
of LFS files to a content network (they come from `resolve` itself); spaces, buckets, gated repositories, comments, .gitignore, the
repository's own .gitattributes (LFS by ending, size and content), `expand=` of repository information, shortened SHAs, several users.

The libraries read the Hub's address when they are imported, so what uses the server runs in a process of its own with
`environment(server, folder, token)`, or in the test's process by the fixture `hub`, which points the imported clients here.
"""

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

from tests.hub_repository import (
    ATTRIBUTES,
    CHUNK,
    LARGEST_REGULAR_FILE,
    Commit,
    Contents,
    File,
    HubError,
    PullRequest,
    Repository,
    git_sha1,
    is_lfs,
)

# Put together here, so that no scan for secrets finds a token in this repository.
WRITE_TOKEN = "hf_" + "w" * 34
READ_TOKEN = "hf_" + "r" * 34
QUOTA_MESSAGE = (
    "Private repository storage limit reached, please upgrade your plan to increase your private storage limit."
)


@dataclass
class Fault:
    """Which requests go wrong, and how; see `HubServer.fail`. seen: matching requests so far. fired: how many went wrong."""

    how: str
    method: str | None
    path: str | None
    nth: int
    times: int | None
    seen: int = 0
    fired: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if (self.method or method) != method or not re.search(self.path or "", path):
            return False
        self.seen += 1
        struck = self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)
        self.fired += struck
        return struck


@dataclass
class HubServer:
    """`requests`: method and path of every request so far. `status`: if set, every answer is this error.

    `bytes_sent`, `bytes_received`: bytes of bodies by path, unquoted as in `requests`. `stale_status`: what a commit on a parent that is no
    longer the head is answered. `part_bytes`: LFS files above this size are uploaded in parts of it. `page_size`: entries per page.
    `released`: set, and slow answers come.
    """

    contents: Contents
    base_url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    status: int | None = None
    bytes_sent: Counter[str] = field(default_factory=Counter)
    bytes_received: Counter[str] = field(default_factory=Counter)
    stale_status: int = 412
    part_bytes: int = 64 * 2**20
    page_size: int = 1000
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)
    released: threading.Event = field(default_factory=threading.Event)

    def fail(
        self,
        *,
        how: int | str,
        nth: int = 1,
        times: int | None = 1,
        method: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """From now on, the `nth` request that has this method and whose path the pattern `path` finds goes wrong, and so do those after it,
        `times` in all; `times=None`: every one from there on.

        how, before the request has any effect: a status (429 says to try again at once), "reset" (the connection breaks), "quota" (403 with
        the Hub's words for a full storage). With "_after" ("reset_after", "500_after") the request takes effect and its answer is lost.
        "cut": the connection ends in the middle of the answer. "slow": the answer comes when the test sets `released`.
        """
        if not re.fullmatch(r"[45]\d\d(_after)?|quota(_after)?|reset(_after)?|cut|slow", str(how)):
            raise ValueError(f"{how} is no way in which the test Hub can fail")
        fault = Fault(str(how), method, path, nth, times)
        with self.lock:
            self.faults.append(fault)
        return fault

    def commit(
        self,
        repo: str,
        files: Path | Mapping[str, bytes | str],
        tags: tuple[str, ...] = (),
        *,
        kind: str = "dataset",
        title: str = "A commit",
        private: bool = False,
    ) -> str:
        """Put a folder, or {path: content}, on branch `main` as a new commit that also has these tags. Returns its SHA.

        The commit has these files and no others. A repository that does not exist is made, empty, `private` or not.
        """
        if isinstance(files, Path):
            found = sorted(p for p in files.rglob("*") if p.is_file())
            content = {p.relative_to(files).as_posix(): self.contents.keep_file(p) for p in found}
        else:
            content = {p: self.contents.keep_bytes(c.encode() if isinstance(c, str) else c) for p, c in files.items()}
        with self.lock:
            held = self.repositories.setdefault((kind, repo), Repository(kind, repo, private))
            kept = {path: File(c, is_lfs(path, c.size, self._sample(c))) for path, c in content.items()}
            sha = held.add(held.branches.get("main"), kept, title)
            held.branches["main"] = sha
            held.tags.update(dict.fromkeys(tags, sha))
            held.uploaded.update(file.content.sha256 for file in kept.values() if file.lfs)
        return sha

    def head(self, repo: str, kind: str = "dataset") -> str:
        """The SHA of `main`."""
        return self.repositories[kind, repo].branches["main"]

    def tags(self, repo: str, kind: str = "dataset") -> dict[str, str]:
        """Every tag and its commit."""
        return dict(self.repositories[kind, repo].tags)

    def files(self, repo: str, revision: str = "main", kind: str = "dataset") -> dict[str, bytes]:
        found = self.repositories[kind, repo].find(revision).files
        return {path: self.contents.bytes_of(file.content) for path, file in sorted(found.items())}

    def log(self, repo: str, revision: str = "main", kind: str = "dataset") -> list[Commit]:
        """Newest first."""
        return self.repositories[kind, repo].history(revision)

    def pull_requests(self, repo: str, kind: str = "dataset") -> list[PullRequest]:
        return list(self.repositories[kind, repo].pull_requests.values())

    def merge(self, repo: str, number: int, kind: str = "dataset") -> str:
        """What a maintainer does on the page of a pull request. Returns the new head of `main`."""
        with self.lock:
            return self.repositories[kind, repo].merge(number)

    def _sample(self, content: Any) -> bytes:
        return next(self.contents.read(content, 0, 512), b"")


@contextlib.contextmanager
def hub_server() -> Iterator[HubServer]:
    """Raises AssertionError at the end where the server itself had an error: a fault of the server must not pass for one of the Hub."""
    folder = Path(tempfile.mkdtemp(prefix="persona-hub-"))
    state = HubServer(Contents(folder))
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        state.released.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
        shutil.rmtree(folder, ignore_errors=True)
    assert not state.errors, state.errors[0]


def environment(server: HubServer, folder: Path, token: str | None = None) -> dict[str, str]:
    """The variables with which a process uses this server with this token and keeps its cache in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    return kept | client_variables(server.base_url, folder, token)


def client_variables(endpoint: str, folder: Path, token: str | None) -> dict[str, str]:
    return {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    } | ({"HF_TOKEN": token} if token else {})


class _Server(ThreadingHTTPServer):
    state: HubServer
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A client that gave up is part of some tests, and no news; anything else is an error of the server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            self.state.errors.append(traceback.format_exc())


@dataclass
class _Answer:
    """body: bytes, or chunks of `length` bytes together."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two packets, and the second would wait 40 ms for the client to confirm the first.
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        state, address = self.server.state, urlsplit(self.path)
        self.where = unquote(address.path)
        self.query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        self.body = self._incoming()
        with state.lock:
            state.requests.append((self.command, self.where))
            struck = [fault for fault in state.faults if fault.strikes(self.command, self.where)]
        how = struck[0].how if struck else ""
        if how == "slow":
            state.released.wait(60)
        if how == "reset":
            return self._reset()
        if how and how not in ("slow", "cut") and not how.endswith("_after"):
            return self._send(_refusal(_told_to_fail(how)))
        try:
            if state.status is not None:
                raise _told_to_fail(str(state.status))
            answer = self._answer()
        except HubError as refused:
            answer = _refusal(refused)
        except ConnectionError:
            return self._reset()
        except Exception:
            state.errors.append(f"{self.command} {self.where}\n{traceback.format_exc()}")
            answer = _refusal(HubError(500, "the test Hub itself has an error"))
        if how == "reset_after":
            return self._reset()
        if how.endswith("_after"):
            answer = _refusal(_told_to_fail(how.removesuffix("_after")))
        self._send(answer, cut=how == "cut")

    # What comes in and goes out

    def _incoming(self) -> Iterator[bytes]:
        """The body in chunks, by its length or as it is cut by the client."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._exactly(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield from self._exactly(int(self.headers.get("Content-Length") or 0))

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self.rfile.read(min(CHUNK, size))
            if not chunk:
                raise ConnectionResetError("the client went away")
            size -= len(chunk)
            self.server.state.bytes_received[self.where] += len(chunk)
            yield chunk

    def _json(self) -> Any:
        return json.loads(b"".join(self.body) or b"{}")

    def _send(self, answer: _Answer, cut: bool = False) -> None:
        try:
            # What is left of the body would be taken for the next request on this connection.
            for _ in self.body:
                pass
            body = [answer.body] if isinstance(answer.body, bytes) else answer.body
            length = len(answer.body) if isinstance(answer.body, bytes) else answer.length or 0
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(length)} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            left = length // 2 if cut else length
            for chunk in body if self.command != "HEAD" else ():
                # Counted first: a test may look as soon as it has the last byte.
                with self.server.state.lock:
                    self.server.state.bytes_sent[self.where] += len(chunk[:left])
                self.wfile.write(chunk[:left])
                left -= len(chunk[:left])
            if cut:
                self.close_connection = True
        except ConnectionError:
            self.close_connection = True

    def _reset(self) -> None:
        """Break the connection as a network does, without a farewell."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    # Who asks, and for what

    def _role(self) -> str | None:
        given = self.headers.get("Authorization")
        if given is None:
            return None
        roles = {f"Bearer {WRITE_TOKEN}": "write", f"Bearer {READ_TOKEN}": "read"}
        if given not in roles:
            raise HubError(401, "Invalid credentials in Authorization header")
        return roles[given]

    def _repository(self, kind: str, name: str, write: bool = False) -> Repository:
        role = self._role()
        held = self.server.state.repositories.get((kind, name))
        if held is None or (held.private and role is None):
            # The Hub says no code with its 401; the client takes a 401 on https for a repository that is not there, and on http does not.
            raise HubError(401 if role is None else 404, "Repository not found", "RepoNotFound")
        if write:
            self._must_write(role)
        return held

    def _must_write(self, role: str | None) -> None:
        if role is None:
            # As above: the code stands for what the client does on https.
            code = "RepoNotFound" if self.where.startswith(("/api/datasets/", "/api/models/")) else ""
            raise HubError(401, "Invalid username or password.", code)
        if role == "read":
            raise HubError(403, "Your token has no right to write here: it is a read token")

    def _answer(self) -> _Answer:
        state, where = self.server.state, self.where
        if where == "/api/whoami-v2":
            role = self._role()
            if role is None:
                raise HubError(401, "Invalid username or password.")
            token = {"displayName": "test", "role": role}
            return _json({"type": "user", "name": "tester", "orgs": [], "auth": {"accessToken": token}})
        if where == "/api/validate-yaml":
            return self._validate(self._json()["content"])
        if where in ("/api/repos/create", "/api/repos/delete"):
            return self._create_or_delete(self._json())
        if asked := re.fullmatch(r"/lfs/(dataset|model)/([^/]+/[^/]+)/([0-9a-f]{64})/(\d+)/(\w+)", where):
            return self._upload(state.repositories[asked[1], asked[2]], asked[3], int(asked[4]), asked[5])
        if asked := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", where):
            body = self._json()
            return self._batch(self._repository("dataset" if asked[1] else "model", asked[2], write=True), body)
        if asked := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/(.+)", where):
            return self._file(self._repository("dataset" if asked[1] else "model", asked[2]), asked[3])
        if asked := re.fullmatch(r"/api/(dataset|model)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?", where):
            return self._about(asked[1], asked[2], asked[3] or "revision", asked[4] or "")
        raise HubError(404, "no such page on the test Hub")

    def _about(self, kind: str, name: str, what: str, rest: str) -> _Answer:
        """What is asked of one repository. Those that write are below those that read."""
        post, body = self.command == "POST", b"".join(self.body)
        with self.server.state.lock:
            if what == "discussions":
                return self._discussions(kind, name, rest, json.loads(body or b"{}"))
            writes = (
                self.command in ("PUT", "DELETE")
                or (post and what not in ("paths-info",))
                or (what == "auth-check" and rest == "write")
            )
            repository = self._repository(kind, name, write=writes)
            if what == "auth-check":
                return _json({})
            if what == "refs":
                return _json(_refs(repository, "include_prs" in self.query))
            if what == "revision":
                commit = repository.find(rest or "main")
                return _json(self._information(repository, commit, "blobs" in self.query))
            if what == "tree":
                commit, folder = repository.split(rest)
                return self._page(_tree(repository, commit, folder, self._asked("recursive"), self._asked("expand")))
            if what == "commits":
                return self._page([_told(commit) for commit in repository.history(rest)])
            if what == "paths-info":
                commit = repository.find(rest)
                entries = _entries(repository, commit, "expand=true" in body.decode().lower())
                wanted = (
                    json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
                )
                return _json([entries[path.strip("/")] for path in wanted if path.strip("/") in entries])
            if what == "settings":
                asked = json.loads(body)
                repository.private = (
                    asked.get("visibility", "private" if asked.get("private") else "public") == "private"
                )
                return _json({"private": repository.private})
            if what == "preupload" and post:
                return self._preupload(repository.find(rest), json.loads(body))
            if what == "commit" and post:
                return self._commit(repository, rest, body)
            if what in ("tag", "branch"):
                return self._reference(repository, what, rest, json.loads(body or b"{}"))
        raise HubError(404, "no such page on the test Hub")

    def _asked(self, name: str) -> bool:
        return self.query.get(name, "").lower() in ("1", "true")

    def _page(self, entries: list[Any]) -> _Answer:
        """A part of a long list, and in `Link` where the next part is."""
        size, first = self.server.state.page_size, int(self.query.get("cursor", "0"))
        answer = _json(entries[first : first + size])
        if first + size < len(entries):
            query = urlencode(self.query | {"cursor": str(first + size)})
            answer.headers["Link"] = f'<{self.server.state.base_url}{urlsplit(self.path).path}?{query}>; rel="next"'
        return answer

    # Reading

    def _file(self, repository: Repository, rest: str) -> _Answer:
        commit, path = repository.split(rest)
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.sha})
        size = file.content.size
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
        if file.lfs:
            headers["X-Linked-Size"] = str(size)
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if part is None or part[0] == "bytes=-":
            return _Answer(self.server.state.contents.read(file.content), 200, headers, size)
        first = int(part[1]) if part[1] else max(0, size - int(part[2]))
        last = min(int(part[2]), size - 1) if part[1] and part[2] else size - 1
        if first > last:
            raise HubError(416, "Range not satisfiable", "", {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        length = last - first + 1
        return _Answer(self.server.state.contents.read(file.content, first, length), 206, headers, length)

    def _information(self, repository: Repository, commit: Commit, blobs: bool) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = []
        for path, file in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if blobs:
                siblings[-1] |= {"size": file.content.size, "blobId": file.oid}
                if file.lfs:
                    siblings[-1]["lfs"] = _lfs(file) | {"sha256": file.content.sha256}
        card = commit.files.get("README.md")
        metadata, _ = _front_matter(self.server.state.contents.bytes_of(card.content).decode() if card else "")
        return {
            "id": repository.name,
            "author": repository.name.split("/")[0],
            "sha": commit.sha,
            "lastModified": commit.date,
            "createdAt": min(c.date for c in repository.commits.values()),
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": metadata,
            "siblings": siblings,
        }

    # Writing

    def _create_or_delete(self, asked: dict[str, Any]) -> _Answer:
        state, role = self.server.state, self._role()
        self._must_write(role)
        kind, name = asked.get("type") or "model", f"{asked.get('organization') or 'tester'}/{asked['name']}"
        with state.lock:
            if self.command == "DELETE":
                self._repository(kind, name)
                del state.repositories[kind, name]
                return _json({})
            made = Repository(kind, name, asked.get("visibility") == "private" or bool(asked.get("private")))
            told = {"url": f"{state.base_url}/{made.address}", "name": name, "id": name}
            if (kind, name) in state.repositories:
                return _json(told | {"error": f"You already created this {kind} repo: {name}"}, 409)
            attributes = File(state.contents.keep_bytes(ATTRIBUTES), lfs=False)
            made.branches["main"] = made.add(None, {".gitattributes": attributes}, "initial commit")
            state.repositories[kind, name] = made
            return _json(told)

    def _validate(self, card: str) -> _Answer:
        metadata, wrong = _front_matter(card)
        if wrong:
            return _json({"errors": [{"message": wrong}], "warnings": [], "error": wrong}, 400)
        empty = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        return _json({"errors": [], "warnings": empty})

    def _preupload(self, commit: Commit, asked: dict[str, Any]) -> _Answer:
        told = []
        for file in asked["files"]:
            lfs = is_lfs(file["path"], file["size"], base64.b64decode(file["sample"]))
            told.append({"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False})
            if there := commit.files.get(file["path"]):
                told[-1]["oid"] = there.etag
        return _json({"files": told, "commitOid": commit.sha})

    def _batch(self, repository: Repository, asked: dict[str, Any]) -> _Answer:
        """Where to upload each content; nowhere for one that this repository has."""
        state, told = self.server.state, []
        for thing in asked["objects"]:
            sha256, size = thing["oid"], thing["size"]
            told.append({"oid": sha256, "size": size})
            if sha256 in repository.uploaded:
                continue
            href = f"{state.base_url}/lfs/{repository.kind}/{repository.name}/{sha256}/{size}"
            upload: dict[str, Any] = {"href": f"{href}/content"}
            if size > state.part_bytes and "multipart" in asked.get("transfers", []):
                numbers = range(1, -(-size // state.part_bytes) + 1)
                header = {str(number): f"{href}/{number}" for number in numbers} | {"chunk_size": str(state.part_bytes)}
                upload = {"href": f"{href}/complete", "header": header}
            told[-1]["actions"] = {"upload": upload, "verify": {"href": f"{href}/verify"}}
        return _json({"transfer": "basic", "objects": told})

    def _upload(self, repository: Repository, sha256: str, size: int, what: str) -> _Answer:
        """The address is the permission, as with signed addresses of a storage; only `verify` is the Hub's own."""
        contents, part_bytes = self.server.state.contents, self.server.state.part_bytes
        if what == "verify":
            self._json()
            self._repository(repository.kind, repository.name, write=True)
            if sha256 not in repository.uploaded or contents.known[sha256].size != size:
                raise HubError(404, "The content was not uploaded")
            return _json({})
        if what.isdigit():
            part = contents.folder / f"{sha256}.{int(what):05}"
            with part.open("wb") as file:
                for chunk in self.body:
                    file.write(chunk)
            return _Answer(headers={"ETag": f'"{part.stat().st_size}-{what}"'})
        if what == "complete":
            asked = self._json()["parts"]
            parts = [contents.folder / f"{sha256}.{part['partNumber']:05}" for part in asked]
            if len(parts) != -(-size // part_bytes) or not all(part.exists() for part in parts):
                raise HubError(400, "Some parts were not uploaded")
            kept = contents.keep(itertools.chain.from_iterable(map(_chunks, parts)), size)
            for part in parts:
                part.unlink()
        else:
            kept = contents.keep(self.body, size)
        if kept.sha256 != sha256:
            raise HubError(400, "The content has another SHA-256 than was said")
        with self.server.state.lock:
            repository.uploaded.add(sha256)
        return _Answer(headers={"ETag": f'"{sha256}"'})

    def _commit(self, repository: Repository, revision: str, body: bytes) -> _Answer:
        """All of it or nothing. Onto a branch, onto `refs/pr/1`, or as a new pull request."""
        state, lines = self.server.state, [json.loads(line) for line in body.splitlines() if line]
        header, create_pr = lines[0]["value"], "create_pr" in self.query
        head = repository.find(revision)
        pull = re.fullmatch(r"refs/pr/(\d+)", revision)
        if revision not in repository.branches and not pull:
            raise HubError(400, f"{revision} is no branch")
        parent = header.get("parentCommit")
        if parent is not None and create_pr:
            head = repository.find(parent)
        elif parent not in (None, head.sha):
            raise HubError(state.stale_status, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            self._apply(repository, files, line["key"], line["value"])
        sha = repository.add(head.sha, files, header["summary"], header.get("description", ""))
        told = {"success": True, "commitOid": sha, "commitUrl": f"{state.base_url}/{repository.address}/commit/{sha}"}
        if create_pr:
            number = repository.open_pull_request(header["summary"], head.sha, sha).number
            told["pullRequestUrl"] = f"{state.base_url}/{repository.address}/discussions/{number}"
        elif pull:
            repository.pull_requests[int(pull[1])].head = sha
        else:
            repository.branches[revision] = sha
        return _json(told)

    def _apply(self, repository: Repository, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        contents, path = self.server.state.contents, value["path"].rstrip("/")
        if key == "file":
            content = base64.b64decode(value["content"])
            if len(content) > LARGEST_REGULAR_FILE:
                raise HubError(413, f"{path} is too large for a file outside LFS")
            if path == "README.md" and (wrong := _front_matter(content.decode())[1]):
                raise HubError(400, f"Invalid metadata in README.md: {wrong}")
            files[path] = File(contents.keep_bytes(content), lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in repository.uploaded:
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            files[path] = File(contents.known[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if path not in files:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            del files[path]
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(f"{path}/")]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        else:
            raise HubError(400, f"the test Hub knows no operation {key}")

    def _reference(self, repository: Repository, what: str, name: str, asked: dict[str, Any]) -> _Answer:
        """A tag, whose address names the revision and whose body the tag, or a branch, where it is the other way round."""
        held = repository.tags if what == "tag" else repository.branches
        if self.command == "DELETE":
            if name not in held:
                raise HubError(404, f"No such {what}: {name}", "RevisionNotFound")
            if what == "branch" and name == "main":
                raise HubError(403, "main cannot be deleted")
            del held[name]
            return _json({})
        revision, new = (name, asked["tag"]) if what == "tag" else (asked.get("startingPoint") or "main", name)
        commit = repository.find(revision)
        if new in held:
            raise HubError(409, f"{what.capitalize()} reference exists already: {new}")
        held[new] = commit.sha
        return _json({}, 201)

    def _discussions(self, kind: str, name: str, rest: str, asked: dict[str, Any]) -> _Answer:
        repository = self._repository(kind, name, write=self.command == "POST")
        number, _, what = rest.partition("/")
        if self.command == "GET" and not rest:
            status, only = self.query.get("status", "all"), self.query.get("type", "all")
            wanted = {"all": ("open", "draft", "closed", "merged"), "open": ("open", "draft")}.get(
                status, ("closed", "merged")
            )
            pulls = [pull for pull in repository.pull_requests.values() if pull.status in wanted]
            told = [_pull_request(repository, pull) for pull in reversed(pulls) if only != "discussion"]
            first, size = int(self.query.get("p", "0")) * self.server.state.page_size, self.server.state.page_size
            return _json({"discussions": told[first : first + size], "count": len(told), "start": first})
        if self.command == "POST" and not rest:
            if not asked.get("pullRequest"):
                raise HubError(400, "the test Hub holds pull requests and no discussions")
            head = repository.branches["main"]
            return _json({"num": repository.open_pull_request(asked["title"], head, head, "draft").number})
        pull = repository.pull_requests.get(int(number)) if number.isdigit() else None
        if pull is None:
            raise HubError(404, "No such discussion")
        if what == "merge":
            repository.merge(pull.number)
        elif what == "status":
            pull.status = asked["status"]
            event = {"id": "1", "type": "status-change", "createdAt": "2026-01-01T00:00:00.000Z"}
            return _json({"newStatus": event | {"author": {"name": "tester"}, "data": {"status": pull.status}}})
        return _json(_pull_request(repository, pull))


def _json(value: Any, status: int = 200) -> _Answer:
    return _Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json"})


def _refusal(refused: HubError) -> _Answer:
    answer = _json({"error": refused.message}, refused.status)
    answer.headers |= {"X-Error-Message": refused.message} | ({"X-Error-Code": refused.code} if refused.code else {})
    answer.headers |= refused.headers
    return answer


def _told_to_fail(how: str) -> HubError:
    if how == "quota":
        return HubError(403, QUOTA_MESSAGE)
    return HubError(int(how), "told to fail", "", {"Retry-After": "0"} if how == "429" else {})


def _refs(repository: Repository, pull_requests: bool) -> dict[str, Any]:
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": s} for n, s in repository.branches.items()]
    tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": s} for n, s in repository.tags.items()]
    told: dict[str, Any] = {"branches": branches, "converts": [], "tags": tags}
    if pull_requests:
        pulls = repository.pull_requests.items()
        told["pullRequests"] = [{"name": str(n), "ref": f"refs/pr/{n}", "targetCommit": p.head} for n, p in pulls]
    return told


def _told(commit: Commit) -> dict[str, Any]:
    names = {"id": commit.sha, "title": commit.title, "message": commit.message, "date": commit.date}
    return names | {"authors": [{"user": "tester"}]}


def _pull_request(repository: Repository, pull: PullRequest) -> dict[str, Any]:
    changes = {"base": "refs/heads/main"} | ({"mergeCommitId": pull.merged_as} if pull.merged_as else {})
    return {
        "num": pull.number,
        "title": pull.title,
        "status": pull.status,
        "isPullRequest": True,
        "author": {"name": "tester"},
        "createdAt": repository.commits[pull.head].date,
        "repo": {"name": repository.name, "type": repository.kind},
        "events": [],
        "diff": "",
        "filesWithConflicts": [],
        "changes": changes,
    }


def _lfs(file: File) -> dict[str, Any]:
    return {"oid": file.content.sha256, "size": file.content.size, "pointerSize": len(file.pointer)}


def _entries(repository: Repository, commit: Commit, expand: bool) -> dict[str, dict[str, Any]]:
    """Files and the folders above them, as the Hub's tree lists them; `expand`: with the last commit that touched a file."""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in sorted(commit.files.items()):
        for parent in Path(path).parents:
            if parent != Path("."):
                name = parent.as_posix()
                entries[name] = {"type": "directory", "path": name, "oid": git_sha1(name.encode()), "size": 0}
        entries[path] = {"type": "file", "path": path, "size": file.content.size, "oid": file.oid}
        if file.lfs:
            entries[path]["lfs"] = _lfs(file)
        if expand:
            first = commit
            for earlier in repository.history(commit.sha):
                if earlier.files.get(path) != file:
                    break
                first = earlier
            entries[path]["lastCommit"] = {"id": first.sha, "title": first.title, "date": first.date}
    return entries


def _tree(repository: Repository, commit: Commit, folder: str, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    entries = _entries(repository, commit, expand)
    inside = [entry for path, entry in sorted(entries.items()) if not folder or path.startswith(f"{folder}/")]
    if folder and not inside:
        raise HubError(404, "Entry not found", "EntryNotFound")
    depth = folder.count("/") + 1 if folder else 0
    return [entry for entry in inside if recursive or entry["path"].count("/") == depth]


def _front_matter(card: str) -> tuple[dict[str, Any] | None, str]:
    """The metadata of a card, or what is wrong with it."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---(?:\r?\n|$)", card, re.DOTALL)
    try:
        metadata = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError as error:
        return None, f"YAML: {error}"
    if metadata is not None and not isinstance(metadata, dict):
        return None, "the metadata is no mapping"
    return metadata, ""


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
