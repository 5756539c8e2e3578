"""An OpenAI-compatible endpoint with a known speed: every call takes as long as it is told, and so many run at once.

    python -m benchmarks.endpoint_server --seconds 0.2 --at-once 200

Prints its address and serves until it is ended. Nothing but asyncio, so that the clients that share its machine are measured and not
the server: one core answers some 10,000 calls a second. A reply is a fixed function of the request's body. GET /stats gives the
number of calls, the most at once, and the time of every reply in seconds since the first request.
"""

import argparse
import asyncio
import hashlib
import json
import time
from collections import deque

WORDS = ("fairness", "freedom", "family", "faith", "work", "health", "money", "time", "trust", "safety", "duty", "care")
REPLY_WORDS = 100


class Service:
    """What all connections share: the calls in progress, those that wait, and when each was answered."""

    def __init__(self, seconds: float, at_once: int, ending: str):
        self.seconds = seconds
        self.at_once = at_once
        self.ending = json.dumps(ending)[1:-1].encode()
        self.active = 0
        self.most_at_once = 0
        self.waiting: deque[tuple[Connection, bytes]] = deque()
        self.first_request = 0.0
        self.replied: list[float] = []

    def ask(self, connection: "Connection", body: bytes) -> None:
        self.first_request = self.first_request or time.monotonic()
        if self.active >= self.at_once:
            self.waiting.append((connection, body))
            return
        self.active += 1
        self.most_at_once = max(self.most_at_once, self.active)
        asyncio.get_running_loop().call_later(self.seconds, self.answer, connection, body)

    def answer(self, connection: "Connection", body: bytes) -> None:
        connection.send(completion(body, self.ending))
        self.replied.append(round(time.monotonic() - self.first_request, 4))
        self.active -= 1
        if self.waiting:
            self.ask(*self.waiting.popleft())

    def stats(self) -> bytes:
        return json.dumps(
            {"calls": len(self.replied), "most_at_once": self.most_at_once, "replied": self.replied}
        ).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive: requests with a Content-Length, one after the other."""

    def __init__(self, service: Service):
        self.service = service
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self.received) < end + 4 + length:
                return
            body = self.received[end + 4 : end + 4 + length]
            self.received = self.received[end + 4 + length :]
            if head.startswith(b"post"):
                self.service.ask(self, body)
            elif head.startswith(b"get /stats"):
                self.send(self.service.stats())
            else:
                self.send(b'{"object":"list","data":[{"id":"bench-model","object":"model"}]}')

    def send(self, body: bytes) -> None:
        if self.transport and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )


def completion(body: bytes, ending: bytes) -> bytes:
    digest = hashlib.blake2b(body, digest_size=25).digest()
    text = " ".join(WORDS[digest[i % len(digest)] % len(WORDS)] for i in range(REPLY_WORDS))
    return b"".join(
        (
            b'{"id":"c","object":"chat.completion","created":1700000000,"model":"bench-model","choices":[{"index":0,"finish_reason":',
            b'"stop","message":{"role":"assistant","content":"',
            text.encode() + ending,
            b'"}}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
            % (len(body) // 4, REPLY_WORDS, len(body) // 4 + REPLY_WORDS),
        )
    )


async def serve(seconds: float, at_once: int, ending: str) -> None:
    service = Service(seconds, at_once, ending)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a call takes")
    parser.add_argument("--at-once", type=int, default=200, help="calls in progress at most; more wait their turn")
    parser.add_argument("--ending", default="", help="what every reply ends with, for clients that look for something")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.seconds, arguments.at_once, arguments.ending))


if __name__ == "__main__":
    main()
