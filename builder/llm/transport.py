"""How a request of the `openai` package travels: over aiohttp, with an end to how long and how large a response may be.

The package's own timeout is between two pieces of a response, so a proxy that sends a blank every few seconds would keep a call open
for ever; here it is for the whole response. What is not JSON (a gateway's page, half a body) counts as a broken connection, which the
package tries again.
"""

import contextvars
import json
import urllib.request
from typing import Any

import aiohttp
import httpx2
import openai

MAX_RESPONSE_BYTES = 16 * 2**20  # the longest answers are far below one
# All that the package looks at. Others are left out: what a server writes there must reach no log.
PASSED_HEADERS = (b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"location")

# What became of the fruitless requests of the call that this task is at: those that the server may have worked on, and bills. A timeout, a
# body cut off or unreadable are such; what was refused (no connection, 429, 5xx) is not.
fruitless: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("fruitless", default=None)


class UnusableResponseError(openai.OpenAIError):
    """A response that another attempt would only give again. The message holds nothing of the response."""


class Transport(httpx2.AsyncBaseTransport):
    """`response.extensions["parsed"]` holds the JSON of a successful POST. To be made inside the running event loop.

    key: is blotted out wherever a server repeats it.
    """

    def __init__(self, connections: int, timeout_seconds: float, key: str):
        self._key = key.encode()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=httpx2.create_ssl_context()),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            # With this on, aiohttp reads the environment for proxies at every request.
            trust_env=bool(urllib.request.getproxies()),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "gzip, deflate"
        answering = False
        try:
            async with self._session.request(
                request.method, str(request.url), headers=request.headers, data=request.content, allow_redirects=False
            ) as response:
                answering = response.status == 200
                body = await _read(response)
        except TimeoutError:
            note_fruitless("timeout")
            raise httpx2.ReadTimeout("no whole response in time") from None
        except (aiohttp.ClientError, OSError) as error:
            if answering:
                note_fruitless("cut off")
            raise httpx2.ReadError(type(error).__name__) from None
        if len(self._key) >= 8:
            body = body.replace(self._key, b"[key]")
        extensions = {"parsed": _parse(body)} if request.method == "POST" and response.status == 200 else {}
        headers = [(name, value) for name, value in response.raw_headers if name.lower() in PASSED_HEADERS]
        return httpx2.Response(response.status, headers=headers, content=body, extensions=extensions)

    async def aclose(self) -> None:
        await self._session.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE_BYTES:
            note_fruitless("too large")
            raise UnusableResponseError(f"the response is larger than {MAX_RESPONSE_BYTES // 2**20} MiB")
    return b"".join(pieces)


def note_fruitless(why: str) -> None:
    noted = fruitless.get()
    if noted is not None:
        noted.append(why)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # also invalid UTF-8, and brackets nested without end
        note_fruitless("unreadable")
        raise httpx2.RemoteProtocolError("the response is not JSON") from None
