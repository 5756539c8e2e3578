"""A small HTTP server on 127.0.0.1 that serves files with ranges and ETags, and fails as a test tells it to. Ends with the test."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What one answer does wrong. Bytes are counted in the body of that answer.

    status: instead of 200 or 206, without the file. headers: added to the answer, or in place of its own. break_after: the connection
    breaks after so many bytes. stall_after: nothing more comes until the client gives up. cut_to: the answer says and sends so many
    bytes as if that were all. ignore_range: the whole file though a part was asked for. damage: one byte in the middle is another.
    no_length: neither a length nor chunks, the end of the connection is the end of the file.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    stall_after: int | None = None
    cut_to: int | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    damage: bool = False
    no_length: bool = False


@dataclass
class FileServer:
    """`files`: path -> content, may be changed at any time. `faults`: what the next answers do wrong, one each; None: nothing.

    `requests`: path and headers of every request so far. `validators`: which of ETag and Last-Modified the answers have. `weak_etags`: the
    ETags do not promise the same bytes, so they do not count in If-Range.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault | None] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    validators: tuple[str, ...] = ("ETag", "Last-Modified")
    weak_etags: bool = False
    base_url: str = ""
    bytes_sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.requests]


@contextlib.contextmanager
def file_server(files: dict[str, bytes], **settings: Any) -> Iterator[FileServer]:
    state = FileServer(files, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            with state.lock:
                state.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                fault = (state.faults.pop(0) if state.faults else None) or Fault()
                content = state.files.get(self.path)
            if fault.status is not None or content is None:
                self._answer(fault.status or 404, {"Content-Length": "0"} | fault.headers)
                return
            self._send_file(content, fault)

        def _send_file(self, content: bytes, fault: Fault) -> None:
            version = hashlib.sha256(content).hexdigest()
            known = {
                "ETag": f'"{version[:16]}"',
                "Last-Modified": f"Mon, 01 Jan 2024 00:00:{int(version[:4], 16) % 60:02d} GMT",
            }
            if state.weak_etags:
                known["ETag"] = f"W/{known['ETag']}"
            headers = {name: known[name] for name in state.validators}
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            fitting = [None, *(value for value in headers.values() if not value.startswith("W/"))]
            unchanged = self.headers.get("If-Range") in fitting or fault.ignore_if_range
            status, first = 200, 0
            if asked and unchanged and not fault.ignore_range:
                status, first = 206, int(asked[1])
                if first >= len(content):
                    self._answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                    return
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            body = content[first:]
            if fault.damage:
                middle = len(body) // 2
                body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            if fault.cut_to is not None:
                body = body[: fault.cut_to]
            length = {"Connection": "close"} if fault.no_length else {"Content-Length": str(len(body))}
            self._answer(status, headers | length | fault.headers)
            stop = min(x for x in (fault.break_after, fault.stall_after, len(body)) if x is not None)
            self._write(body[:stop])
            if fault.stall_after is not None:
                self.connection.settimeout(60)
                with contextlib.suppress(OSError):
                    self.rfile.read(1)
            if stop < len(body) or fault.no_length:
                self.close_connection = True

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response_only(status)
            for name, value in ({"Date": self.date_time_string()} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def _write(self, body: bytes) -> None:
            self.wfile.write(body)
            self.wfile.flush()
            with state.lock:
                state.bytes_sent += len(body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that gave up in the middle is part of some tests, and no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.block_on_close = False
    state.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
