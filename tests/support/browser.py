"""A real Chromium for the tests of pages; each page watched for errors, dialogs and requests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# offline, without the services that a desktop browser starts
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, headless; without one the test is skipped, or fails where CI=true."""
    missing = ""
    executable = next((path for name in NAMES if (path := shutil.which(name))), None)
    if executable is None:
        missing = f"no browser: none of {', '.join(NAMES)} is installed"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "no Playwright: pip install -e '.[test]'"
    if missing:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file or an address in a context of its own: visit(path, width=390) returns the page."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_file(path: Path | str, width: int = 1280, height: int = 900, quiet: bool = False, **options: Any) -> Any:
        address = path if isinstance(path, str) else path.resolve().as_uri()
        allowed = ("file:", "data:", "blob:", *([address] if isinstance(path, str) else []))
        options = {"reduced_motion": "reduce"} | options  # pages open with a sweep elsewhere
        context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        if not quiet:
            page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: request.url.startswith(allowed) or complaints.append(request.url),
        )
        page.goto(address)
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert complaints == []
