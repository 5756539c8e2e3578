"""A small OpenAI-compatible server on 127.0.0.1 whose replies and faults a test decides. Ends with the test."""

import contextlib
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from builder.llm.messages import ChatRequest, Sampling
from builder.llm.scripted import scripted_reply

# What one request gets: a status and a body, and headers. Body: a dict is sent as JSON, str and bytes as they are; a function gets the
# handler and does with the connection what it likes.
Response = tuple[int, Any, dict[str, str]]


@dataclass
class Endpoint:
    """`requests`: the bodies received at /chat/completions, in order. `answer` may be replaced at any time."""

    models: list[str] | None = field(default_factory=lambda: ["test-model"])  # None: the server does not list them
    key: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any], int], Response] = lambda body, number: completion(reply_in_form(body))
    base_url: str = ""
    headers: dict[str, str] = field(default_factory=dict)  # of the last call
    times: list[float] = field(default_factory=list)  # when each of `requests` came (time.monotonic)
    connections: int = 0  # opened in all
    most_at_once: int = 0
    active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> Response:
    return (
        200,
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 0,
            "model": "test-model",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason,
                    "message": {"role": "assistant", "content": text, **message},
                }
            ],
            "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        },
        {},
    )


def hang(handler: BaseHTTPRequestHandler) -> None:
    """Says nothing until the client goes away."""
    handler.close_connection = True
    handler.connection.settimeout(10)
    with contextlib.suppress(OSError):
        handler.rfile.read(1)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection with RST: what a crashed server's system sends."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Promises a thousand bytes and closes after a few."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    handler.wfile.write(b'{"choices": [{"message": {"con')


def blanks(handler: BaseHTTPRequestHandler) -> None:
    """A proxy that keeps a connection alive: a blank every 20 ms, and never an answer."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        # Readable is a connection that the client has closed.
        for _ in range(500):
            handler.wfile.write(b"1\r\n \r\n")
            if select.select([handler.connection], [], [], 0.02)[0]:
                return


def answer_and_close(handler: BaseHTTPRequestHandler, answered: threading.Event, closed: threading.Event) -> None:
    """A whole answer; when the test says by `answered` that the client has it, the connection is closed, which `closed` tells."""
    body = json.dumps(completion("ok")[1]).encode()
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    handler.wfile.write(body)
    handler.wfile.flush()
    answered.wait(20)
    handler.connection.shutdown(socket.SHUT_RDWR)
    closed.set()


def reply_in_form(body: dict[str, Any]) -> str:
    """A reply that every packaged template can read, and that differs with the messages."""
    asked = body["messages"][-1]["content"]
    name = {
        "REVISED PREFERENCE:": "revision_paper",
        "SUGGESTIONS:": "critique_paper",
        "<answer_a>": "judge_roleplay",
        "ATTRIBUTES:": "check_persona",
        "VERDICT:": "classify_controversy",
        "These parts of your reply": "repair_enrichment",
        ": <phrase>": "enrich_persona",
    }
    template = next((t for mark, t in name.items() if mark in asked), "answer")
    request = ChatRequest(tuple(body["messages"]), Sampling(10), template, body.get("seed") or 0)
    return scripted_reply(request)


@contextlib.contextmanager
def openai_server(**settings: Any) -> Iterator[Endpoint]:
    endpoint = Endpoint(**settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every reply waits 40 ms

        def log_message(self, *_: Any) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            with endpoint.lock:
                endpoint.connections += 1

        def do_GET(self) -> None:
            if self._refused():
                return
            if endpoint.models is None:
                self._send(501, "not implemented", {})
                return
            self._send(200, {"object": "list", "data": [{"id": m, "object": "model"} for m in endpoint.models]}, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._refused():
                return
            with endpoint.lock:
                endpoint.requests.append(body)
                endpoint.times.append(time.monotonic())
                endpoint.headers = {name.lower(): value for name, value in self.headers.items()}
                number = len(endpoint.requests)
                endpoint.active += 1
                endpoint.most_at_once = max(endpoint.most_at_once, endpoint.active)
            try:
                self._send(*endpoint.answer(body, number))
            finally:
                with endpoint.lock:
                    endpoint.active -= 1

        def _refused(self) -> bool:
            if endpoint.key is None or self.headers.get("Authorization") == f"Bearer {endpoint.key}":
                return False
            self._send(401, {"error": {"message": "wrong key"}}, {})
            return True

        def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
            if callable(body):
                body(self)
                return
            content = (
                body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
            )
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that gave up in the middle is part of some tests, and no news."""

    server = Server(("127.0.0.1", 0), Handler)
    endpoint.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
