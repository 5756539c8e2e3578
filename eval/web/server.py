"""The host of our pages: Gradio's server mode, which runs here as in a Hugging Face Space, with nothing of Gradio's own reachable.

The pages are plain HTML forms, rendered here. A form needs no script, keeps its text when a request fails, and a POST that answers with a
redirect can be reloaded without being sent twice: what a study needs first of all.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InputError

TEMPLATES = Path(__file__).with_name("templates")
LARGEST_BODY = 64 * 1024  # bytes; the longest form of ours has a fifth of it
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
GRADIO_PATHS = (
    "/gradio_api", "/config", "/upload", "/file", "/docs", "/redoc", "/openapi.json", "/login", "/logout", "/monitoring", "/theme.css",
    "/robots.txt", "/pwa_icon", "/manifest.json", "/svelte", "/assets", "/custom_component", "/run", "/api", "/queue", "/token", "/user",
    "/app_id", "/dev", "/static/", "/proxy", "/stream", "/reset", "/heartbeat", "/info", "/call", "/cancel", "/deep_link",
)  # fmt: skip


def new_server(title: str) -> Any:
    """A `gradio.Server` (a FastAPI application) that answers nothing yet but our style and script, under /page/.

    Raises InputError where Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported; a study tells nobody that it runs
    try:
        import gradio
    except ImportError:
        raise InputError("This needs Gradio. Install it with: pip install 'persona-testbed[annotate]'") from None
    from fastapi.responses import FileResponse

    server = gradio.Server(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(Guard)
    names = {path.name: path for path in TEMPLATES.iterdir() if path.suffix in (".css", ".js")}

    @server.get("/page/{name}")
    def page_file(name: str) -> Any:
        from fastapi import HTTPException

        if name not in names:
            raise HTTPException(404)
        return FileResponse(names[name], headers={"cache-control": "max-age=3600"})

    return server


def launch(server: Any, host: str, port: int) -> None:
    """Serve until interrupted. Raises InputError where the port is taken."""
    try:
        server.launch(server_name=host, server_port=port, quiet=True, footer_links=[], max_threads=40, ssr_mode=False)
    except OSError as error:
        raise InputError(f"Port {port} of {host} cannot be used ({error}). Choose another with --port.") from None


def render(folder: Path, name: str, values: Mapping[str, Any]) -> str:
    """A template of `folder`, which may extend base.html. Everything that is filled in is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)


class Guard:
    """ASGI middleware: our headers on every answer, Gradio's own routes shut, and no body above LARGEST_BODY, announced or not."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"]
        if path.startswith(GRADIO_PATHS) and path.rstrip("/") != GRADIO_START:
            return await _answer(send, 404, "There is nothing here.")
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > LARGEST_BODY:
            return await _answer(send, 413, f"This is more than {LARGEST_BODY:,} bytes. Go back and shorten the text.")
        received = 0

        async def counted() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                return {"type": "http.disconnect"}
            return message

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in present),
                ]
            await send(message)

        await self.app(scope, counted, with_headers)


async def _answer(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *((n.encode(), v.encode()) for n, v in HEADERS.items())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
