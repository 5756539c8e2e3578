"""A small OpenAI-compatible server on 127.0.0.1 whose replies and faults a test decides. Ends with the test."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from builder.llm.messages import ChatRequest, Sampling
from builder.llm.scripted import scripted_reply

# What one request gets: a status and a body (dict: sent as JSON; str: as it is), and headers.
Response = tuple[int, Any, dict[str, str]]


@dataclass
class Endpoint:
    """`requests`: the bodies received at /chat/completions, in order. `answer` may be replaced at any time."""

    models: list[str] | None = field(default_factory=lambda: ["test-model"])  # None: the server does not list them
    key: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any], int], Response] = lambda body, number: completion(reply_in_form(body))
    base_url: str = ""
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

        def log_message(self, *_: Any) -> None:
            pass

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
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
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
