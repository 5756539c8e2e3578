"""The study over real HTTP: in a thread of the test, or as the command's own process, which can be killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.human.app import study_server
from eval.human.store import Store
from eval.human.study import Study
from eval.web.server import launch, stop
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 300


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def in_thread(study: Study, store: Store, **options: Any) -> Iterator[str]:
    """The address, without a slash at the end. options: of study_server."""
    server, port = study_server(study, store, **options), free_port()
    launch(server, "127.0.0.1", port, wait=False)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


@dataclass
class Served:
    """`persona annotate serve` as a process. output: everything that it wrote."""

    address: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """At once, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self, number: int = signal.SIGTERM) -> int:
        """By a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def as_process(
    study_file: Path, *, port: int | None = None, database: Path | None = None, password: str | None = None
) -> Iterator[Served]:
    """Waits until the first page is served; killed at the end if it still runs. Where it ends at once, Served says so by its process."""
    port = port or free_port()
    command = [sys.executable, str(ROOT / "persona.py"), "annotate", "serve", str(study_file), "--port", str(port)]
    if database is not None:
        command += ["--database", str(database)]
    environment = {name: value for name, value in os.environ.items() if name != "PERSONA_STUDY_PASSWORD"}
    if password is not None:
        environment["PERSONA_STUDY_PASSWORD"] = password
    log = study_file.parent / f"serve-{port}.log"
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(
            command, env=environment, stdout=written, stderr=subprocess.STDOUT, text=True, cwd=study_file.parent
        )
    served = Served(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait(served)
        yield served
    finally:
        if process.poll() is None:
            served.kill()


def _wait(served: Served) -> None:
    def there() -> bool:
        if served.process.poll() is not None:
            return True
        try:
            urllib.request.urlopen(f"{served.address}/page/style.css", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return served.address in served.output  # its announcement comes after the first page

    wait_until(there, START_SECONDS, f"the first page (what was said: {served.log})")


def hidden_fields(html: str) -> dict[str, str]:
    """name -> value of the page's hidden inputs, as a browser would send them."""
    from html import unescape

    return {
        unescape(name): unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="([^"]*)"[^>]* value="([^"]*)"', html)
    }
