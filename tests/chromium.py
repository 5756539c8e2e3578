"""A real browser that clicks: Playwright drives Debian's Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.browser import FOUND

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PHONE = {"width": 375, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser; each `new_context()` is a person with an empty memory. Use with tests.browser.needs_browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=[*FLAGS, "--disable-component-update"])
        try:
            yield browser
        finally:
            browser.close()
