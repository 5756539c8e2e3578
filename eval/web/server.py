"""The host of our pages: Gradio's server mode, which runs here as in a Hugging Face Space, with nothing of Gradio's own reachable.

The pages are plain HTML forms, rendered here. A form needs no script, keeps its text when a request fails, and a POST that answers with a
redirect can be reloaded without being sent twice: what a study needs first of all.
"""

import logging
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from builder.errors import InputError
from eval.web.drawing import new_environment

TEMPLATES = Path(__file__).with_name("templates")
LARGEST_BODY = 64 * 1024  # bytes; the longest form of ours, 4,000 characters of four bytes each, has 48 kB
LARGEST_DRAIN = (
    1024 * 1024
)  # bytes of a refused body that are still read: a browser shows no answer that comes while it is sending
# Where Hugging Face shows a Space inside a page of its own.
FRAMED_BY = "'self' https://huggingface.co https://*.hf.space"
HEADERS = {
    # Everything that is shown is somebody's text: no script and no request but our own, whatever it says.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"form-action 'self'; base-uri 'none'; frame-ancestors {FRAMED_BY}",
    "referrer-policy": "no-referrer",  # the address holds the rater's token
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
# Gradio asks itself this one when it starts.
GRADIO_START = "/gradio_api/startup-events"
# What an error page says where nobody said more: what happened, and the way forward.
WORDS = {
    400: ("This request could not be read", "Go back and try again."),
    404: ("There is nothing here", "The address may have been cut off or mistyped. Compare it with the one that you were given."),
    405: ("This page cannot be reached that way", "Go back to the start and follow the buttons from there."),
    413: (
        "This text is too long",
        f"What you sent is larger than {LARGEST_BODY // 1024} kB, and nothing of it was saved. Use the Back button of your browser: your "
        "text is still there. Shorten it and send it again.",
    ),
    415: ("This form could not be read", "Go back and send the form from the page itself."),
    422: ("Something in this form does not fit", "Go back and try again."),
    429: ("Too many requests", "Wait a minute, then reload this page. Nothing that was saved is lost."),
    500: (
        "Something went wrong on our side",
        "Nothing that was saved is lost. Reload this page; if your browser asks whether to send the form again, say yes: sent twice, an "
        "answer is still one answer.",
    ),
    503: ("Not possible just now", "Wait a moment, then reload this page. Nothing that was saved is lost."),
}  # fmt: skip


def new_server(title: str, words: Mapping[int, tuple[str, str]] | None = None) -> Any:
    """A `gradio.Server` (a FastAPI application) that answers nothing yet but our style and script, under /page/.

    Every error is a page in the same look. words: status -> (title, text) of such a page, where WORDS do not fit what is served.
    Raises InputError where Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported; a study tells nobody that it runs
    try:
        import gradio
    except ImportError:
        raise InputError("This needs Gradio. Install it with: pip install 'persona-testbed[annotate]'") from None
    from fastapi import HTTPException
    from fastapi.responses import FileResponse
    from starlette.exceptions import HTTPException as AnyHTTPException

    class OurServer(gradio.Server):
        """Remembers which routes are ours: Gradio adds dozens of its own when it launches."""

        ours: Sequence[Any] | None = None

        def launch(self, *arguments: Any, **options: Any) -> Any:
            self.ours = tuple(self.routes)
            return super().launch(*arguments, **options)

    server = OurServer(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    words = {**WORDS, **(words or {})}
    server.add_middleware(Guard, server=server, words=words)
    names = {path.name: path for path in TEMPLATES.iterdir() if path.suffix in (".css", ".js")}

    @server.get("/page/{name}")
    def page_file(name: str) -> Any:
        if name not in names:
            raise HTTPException(404)
        return FileResponse(names[name], headers={"cache-control": "max-age=3600"})

    @server.exception_handler(AnyHTTPException)
    def refused(request: Any, error: Any) -> Any:
        return page_response(
            error_page(request.scope, error.status_code, words), status=error.status_code, headers=error.headers or {}
        )

    return server


def launch(server: Any, host: str, port: int, *, announce: str = "", wait: bool = True) -> None:
    """Serve until Ctrl-C or SIGTERM; with wait=False in a thread, until `stop`. announce: printed once the first request can come.

    Raises InputError where the port is taken.
    """
    # Otherwise whoever connects from this machine, a proxy for instance, could name any address as its own.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    try:
        server.launch(
            server_name=host,
            server_port=port,
            quiet=True,
            footer_links=[],
            max_threads=40,
            ssr_mode=False,
            share=False,  # the environment may say otherwise: a study is never tunnelled through somebody else's machine
            mcp_server=False,
            enable_monitoring=False,
            num_workers=0,
            inbrowser=False,
            prevent_thread_lock=True,
        )
    except OSError:
        raise InputError(
            f"Port {port} of {host} cannot be used; another program may have it. Choose another with --port."
        ) from None
    if wait:
        try:
            _until_told(announce)
        finally:
            stop(server)
    elif announce:
        print(announce, flush=True)


def stop(server: Any) -> None:
    """Answers what is being asked, then closes."""
    server.get_blocks().close(verbose=False)


def _until_told(announce: str) -> None:
    """Returns at Ctrl-C or SIGTERM, both heeded from before the announcement on."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        if announce:
            print(announce, flush=True)
        # Short waits: a signal is handled between two of them.
        while not told.wait(0.2):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def render(folder: Path, name: str, values: Mapping[str, Any]) -> str:
    """A template of `folder`, which may extend base.html. Everything that is filled in is escaped."""
    return str(_environment(folder).get_template(name).render(values))


@cache
def _environment(folder: Path) -> Any:
    return new_environment(folder, TEMPLATES)


def page_response(html: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Any:
    """A half of a character that no encoding has, from a carelessly escaped text, becomes a question mark."""
    from starlette.responses import HTMLResponse

    return HTMLResponse(html.encode("utf-8", errors="replace"), status_code=status, headers=dict(headers or {}))


def error_page(scope: Mapping[str, Any], status: int, words: Mapping[int, tuple[str, str]] = WORDS) -> str:
    """The way forward keeps the token that the address had."""
    title, text = words.get(status, (f"Error {status}", "Go back and try again."))
    token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[-1]
    # `path` here is the one within the application: behind a proxy that adds a prefix, relative links are still right.
    root = "../" * max(str(scope.get("path", "/")).count("/") - 1, 0)
    start = f"{root or './'}" + (f"?token={quote(token)}" if token else "")
    values = {
        "root": root,
        "title": title,
        "words": text,
        "start": start,
        "status": status,
    }
    return render(TEMPLATES, "error.html", values)


class Guard:
    """ASGI middleware: our headers on every answer, every route shut that is not ours, no body above LARGEST_BODY, announced or not, and
    a page instead of a traceback."""

    def __init__(self, app: Any, server: Any, words: Mapping[int, tuple[str, str]]) -> None:
        self.app, self.server, self.words = app, server, words

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            # No socket is ours; one that is let in would be Gradio's.
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # what GET says; the host leaves the body out
            scope = {**scope, "method": "GET"}
        if not self._is_ours(scope):
            return await _answer(scope, send, 404, self.words)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > LARGEST_BODY:
            await _drain(receive)
            return await _answer(scope, send, 413, self.words)
        received, more, started = 0, True, False

        async def counted() -> Any:
            nonlocal received, more
            message = await receive()
            received, more = received + len(message.get("body", b"")), message.get("more_body", False)
            if received > LARGEST_BODY:
                raise _TooLargeError
            return message

        async def with_headers(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present),
                ]
            await send(message)

        try:
            await self.app(scope, counted, with_headers)
        except _TooLargeError:
            if more:
                await _drain(receive)
            await _answer(scope, send, 413, self.words)
        except Exception:
            # The path without its query: no log holds a token.
            logging.getLogger("uvicorn.error").exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await _answer(scope, send, 500, self.words)

    def _is_ours(self, scope: Any) -> bool:
        from starlette.routing import Match

        if scope["path"].rstrip("/") == GRADIO_START:
            return True
        return any(route.matches(scope)[0] != Match.NONE for route in self.server.ours or self.server.routes)


class _TooLargeError(Exception):
    """A body that grew above LARGEST_BODY."""


async def _drain(receive: Any) -> None:
    received = 0
    while received < LARGEST_DRAIN:
        message = await receive()
        received += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _answer(scope: Any, send: Any, status: int, words: Mapping[int, tuple[str, str]]) -> None:
    body = error_page(scope, status, words).encode("utf-8", errors="replace")
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
