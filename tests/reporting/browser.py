"""Pages in Chromium, for tests: opened from disk, and watched for complaints and requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window; the test is skipped, with the reason, where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Watch:
    """What a page says to the console, and what it asks for beyond itself.

    Attributes:
        complaints: Errors, uncaught ones included; graphics drivers warn as they like.
        requests: Addresses other than the page's own and data within it.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._on_request(request.url, address))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _on_request(self, url: str, address: str) -> None:
        if url.split("#")[0] != address and not url.startswith(("data:", "blob:")):
            self.requests.append(url)


@contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Any]:
    """A page from disk that in the end has neither complained nor asked for anything.

    Args:
        browser: From `chromium`.
        path: The HTML file.
        settings: Of the browser's context: viewport, color_scheme, permissions.
    """
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
    page = context.new_page()
    watch = Watch(page, path.as_uri())
    page.goto(path.as_uri())
    yield page
    context.close()
    assert watch.complaints == []
    assert watch.requests == []
