"""An installed Chromium driven by Playwright; without one the tests that need it are skipped."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from encoder.errors import PocketlensError
from export.browser import QUIET, find_browser
from export.web_runtime import FOLDER


def skip_without_runtime() -> None:
    """Skip where the browser's ONNX Runtime has not been fetched (`make web`)."""
    if not (FOLDER / "vendor" / "vendor.json").is_file():
        pytest.skip("needs `make web`")


def find_program() -> str:
    """Return the program, or skip."""
    try:
        return find_browser()
    except PocketlensError as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def open_browser(*flags: str) -> Iterator[Browser]:
    """Start a browser without a window."""
    program = find_program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=Path(program), args=["--no-sandbox", *QUIET, *flags], timeout=60_000
        )
        yield browser
        browser.close()
