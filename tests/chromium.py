"""A browser for tests of what people see."""

import os
import shutil
from pathlib import Path

import pytest

SIZE = {"width": 1400, "height": 960}


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with sync_api.sync_playwright() as playwright:
        # As root, as in most containers, Chromium has no sandbox.
        running = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield running
        running.close()


@pytest.fixture
def shot(page, tmp_path):
    """Keep a picture of the page."""
    folder = Path(os.environ.get("SCREENSHOTS_FOLDER", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(name):
        page.wait_for_timeout(1_000)  # until nothing moves any more
        page.screenshot(path=folder / f"{name}.png")

    return take
