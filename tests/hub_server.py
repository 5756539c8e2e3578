"""A read-only Hugging Face Hub on 127.0.0.1: dataset repositories with commits and tags, for whoever reads one with `datasets` or
`huggingface_hub`. Ends with the test.

The libraries read the Hub's address when they are imported, so what reads must run in a process of its own with
`environment(server, folder)`; `huggingface_hub` functions that take `endpoint=` can also be called in the same process.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class HubServer:
    """`requests`: method and path of every request so far. `status`: if set, every answer is this error."""

    base_url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    status: int | None = None
    # By repository: the files of every commit, and what branches and tags point to.
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)

    def commit(self, repo: str, files: Path | Mapping[str, bytes | str], tags: tuple[str, ...] = ()) -> str:
        """Put a folder, or {path: content}, on branch `main` as a new commit that also has these tags. Returns its SHA."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in sorted(files.rglob("*")) if p.is_file()}
        content = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        history = self.commits.setdefault(repo, {})
        sha = hashlib.sha1(repr((repo, len(history), sorted(content.items()))).encode()).hexdigest()
        history[sha] = content
        self.refs.setdefault(repo, {}).update(dict.fromkeys(("main", *tags), sha))
        return sha

    def find(self, repo: str, revision: str) -> str | None:
        """The SHA of a branch, a tag or a SHA."""
        sha = self.refs[repo].get(revision, revision)
        return sha if sha in self.commits[repo] else None


@contextlib.contextmanager
def hub_server() -> Iterator[HubServer]:
    state = HubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._serve(b"")

        def do_HEAD(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def _serve(self, body: bytes) -> None:
            path = unquote(urlsplit(self.path).path)
            state.requests.append((self.command, path))
            if state.status is not None:
                self._fail(state.status, "", "told to fail")
            elif asked := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/(.+)", path):
                self._file(asked[1], asked[2])
            elif asked := re.fullmatch(
                r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/(.+))?)?", path
            ):
                self._about(asked[1], asked[2] or "revision", asked[3] or "main", body)
            else:
                self._fail(404, "", "no such page")

        def _file(self, repo: str, rest: str) -> None:
            if repo not in state.refs:
                return self._fail(401, "RepoNotFound", "Repository not found")
            # A branch may contain slashes, so the longest known revision wins.
            known = [name for name in (*state.refs[repo], *state.commits[repo]) if rest.startswith(f"{name}/")]
            if not known:
                return self._fail(404, "RevisionNotFound", "Invalid rev id")
            revision = max(known, key=len)
            sha = state.find(repo, revision)
            content = state.commits[repo][sha or ""].get(rest[len(revision) + 1 :])
            if content is None:
                return self._fail(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha or ""})
            headers = {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": sha or "", "Accept-Ranges": "bytes"}
            part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part:
                last = min(int(part[2] or len(content) - 1), len(content) - 1)
                headers["Content-Range"] = f"bytes {part[1]}-{last}/{len(content)}"
                content = content[int(part[1]) : last + 1]
            self._answer(206 if part else 200, content, "application/octet-stream", headers)

        def _about(self, repo: str, what: str, rest: str, body: bytes) -> None:
            if repo not in state.refs:
                return self._fail(401, "RepoNotFound", "Repository not found")
            if what == "refs":
                branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": state.refs[repo]["main"]}]
                return self._json({"branches": branches, "converts": [], "tags": []})
            revision, _, folder = (rest, "", "") if state.find(repo, rest) else rest.partition("/")
            sha = state.find(repo, revision)
            if sha is None:
                return self._fail(404, "RevisionNotFound", "Invalid rev id")
            files = state.commits[repo][sha]
            if what == "revision":
                siblings = [{"rfilename": path} for path in sorted(files)]
                return self._json({"id": repo, "sha": sha, "private": False, "tags": [], "siblings": siblings})
            entries = _entries(files)
            if what == "paths-info":
                wanted = json.loads(body)["paths"] if body.startswith(b"{") else _form(body, "paths")
                return self._json([entries[path] for path in wanted if path in entries])
            inside = [e for path, e in sorted(entries.items()) if not folder or path.startswith(f"{folder}/")]
            if "recursive=true" not in self.path.lower():
                depth = folder.count("/") + 1 if folder else 0
                inside = [entry for entry in inside if entry["path"].count("/") == depth]
            if folder and not inside:
                return self._fail(404, "EntryNotFound", "Entry not found")
            return self._json(inside)

        def _json(self, value: Any) -> None:
            self._answer(200, json.dumps(value).encode(), "application/json", {})

        def _fail(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
            told = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | dict(headers or {})
            self._answer(status, json.dumps({"error": message}).encode(), "application/json", told)

        def _answer(self, status: int, content: bytes, kind: str, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": kind, "Content-Length": str(len(content))} | dict(headers)).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def environment(server: HubServer, folder: Path) -> dict[str, str]:
    """The variables with which a process reads from this server and keeps its cache in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    return kept | {
        "HF_ENDPOINT": server.base_url,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


def _entries(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Files and the folders above them, as the Hub's tree lists them."""
    entries: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        for parent in Path(path).parents:
            if parent != Path("."):
                name = parent.as_posix()
                entries[name] = {"type": "directory", "path": name, "oid": _blob(name.encode()), "size": 0}
        entries[path] = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    return entries


def _form(body: bytes, name: str) -> list[str]:
    from urllib.parse import parse_qs

    return parse_qs(body.decode()).get(name, [])


def _blob(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
