"""A real browser without a window, for the report: Chromium (Debian's `chromium`), where there is one."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(
    FOUND is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)"
)
SECONDS = 120
# Tells the page around it what this one looks like.
PROBE = """
window.addEventListener("load", function () {
  document.querySelectorAll("details").forEach(function (entry) { entry.open = OPEN; });
  var edge = document.documentElement.clientWidth;
  var images = Array.prototype.map.call(document.images, function (image) {
    var box = image.getBoundingClientRect();
    return {alt: image.alt, width: box.width, height: box.height, loaded: image.naturalWidth > 0};
  });
  var wide = [];
  document.querySelectorAll("main *").forEach(function (element) {
    var scrolls = element.closest(".scroll");
    if (element.getBoundingClientRect().right > edge + 1 && !(scrolls && scrolls !== element)) {
      wide.push(element.tagName + "." + element.className);
    }
  });
  parent.postMessage(JSON.stringify({
    scroll_width: document.documentElement.scrollWidth,
    width: edge,
    images: images,
    wide: wide.slice(0, 5),
    samples: Array.prototype.filter.call(document.querySelectorAll(".sample"), function (s) { return s.offsetParent; }).length,
    filter_shown: !!(document.getElementById("filter") && document.getElementById("filter").offsetParent),
    requests: performance.getEntriesByType("resource").map(function (entry) { return entry.name; })
      .filter(function (name) { return name.indexOf("data:") !== 0; })
  }), "*");
});
"""
# A window of Chromium is at least 500 pixels wide; a frame in it is as narrow as a phone. --dump-dom shows the title.
FRAME = """<!doctype html><title></title><body style="margin: 0">
<script>addEventListener("message", function (event) { document.title = event.data; });</script>
<iframe src="probed.html" style="border: 0; width: WIDTHpx; height: 900px"></iframe>
"""


@dataclass(frozen=True)
class Seen:
    """`page`: what PROBE found. `console`: what the browser wrote to its console about the page."""

    page: dict[str, Any]
    console: list[str]


def look(page: Path, width: int, folder: Path, opened: bool = True, before: str = "") -> Seen:
    """Load the page in a window of this width. folder: for the browser's own files. before: a script that runs before it is measured."""
    text = page.read_text(encoding="utf-8")
    # The page lets no other script run than its own; for this one the rule is taken out.
    bare, rules = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert rules == 1, "the page has lost its rule against foreign scripts and requests"
    probe = PROBE.replace("OPEN", "true" if opened else "false")
    # Behind the page's own script, which stands at its end.
    head, _, tail = bare.rpartition("</body>")
    copy = folder / "probed.html"
    copy.write_text(f"{head}<script>{before}</script><script>{probe}</script></body>{tail}", encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    done = _run(["--dump-dom", "--window-size=1400,1000", "--virtual-time-budget=5000"], frame, folder)
    title = re.search(r"<title>(.*?)</title>", done.stdout, flags=re.DOTALL)
    assert title is not None
    assert title.group(1), done.stderr[-2000:]
    return Seen(json.loads(html.unescape(title.group(1))), console_of(page, folder))


def console_of(page: Path, folder: Path) -> list[str]:
    """Errors and warnings of the page as it is, its rule against foreign scripts included."""
    done = _run(["--dump-dom", "--enable-logging=stderr"], page, folder)
    return re.findall(r"CONSOLE.*", done.stderr)


def screenshot(page: Path, width: int, height: int, image: Path) -> Path:
    _run([f"--screenshot={image}", f"--window-size={width},{height}"], page, image.parent)
    return image


def _run(arguments: list[str], page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    assert FOUND is not None
    quiet = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    quiet += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    # No name is looked up: a request to anywhere fails, and is seen in the list of requests.
    quiet += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'browser'}"]
    command = [FOUND, *quiet, *arguments, page.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
