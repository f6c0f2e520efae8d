"""An installed Chromium driven by Playwright; without one the tests that need it are skipped."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from export.web_runtime import FOLDER

# It is to reach nothing but the test's own server.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def skip_without_runtime() -> None:
    """Skip where the browser's ONNX Runtime has not been fetched (`make web`)."""
    if not (FOLDER / "vendor" / "vendor.json").is_file():
        pytest.skip("needs `make web`")


def find_program() -> str:
    """Return the program, or skip."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs the program chromium")
    return program


@contextlib.contextmanager
def open_browser(*flags: str) -> Iterator[Browser]:
    """Start a browser without a window."""
    program = find_program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=Path(program), args=[*FLAGS, *flags], timeout=60_000
        )
        yield browser
        browser.close()
