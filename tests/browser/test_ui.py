"""The UI of a real `dagster dev` in a real browser, as a person uses it.

It needs playwright and Chromium: Debian's (`apt-get install chromium`) or playwright's own
(`playwright install chromium`). With SCREENSHOTS_FOLDER set the pictures are kept there; the
README's is `gallery_of_objects.png`.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SECONDS = 120
SIZE = {"width": 1400, "height": 960}
CANDIDATES = "assets/digits/labeling_candidates/margin"


class Dagster:
    """A running `dagster dev`, asked by GraphQL."""

    def __init__(self, url, process):
        self.url = url
        self._process = process

    def ask(self, query):
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["data"]

    def wait_for(self, query, is_there):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "dagster dev ended by itself"
            with suppress(OSError):
                if is_there(answer := self.ask(query)):
                    return answer
            time.sleep(1)
        raise AssertionError(f"{query} did not get what was waited for in {SECONDS} seconds")


@contextmanager
def dagster_dev(environment, log):
    """Start `dagster dev` on a free port, and end it with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as output:
        process = subprocess.Popen(
            [BIN / "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            dagster = Dagster(f"http://127.0.0.1:{port}", process)
            dagster.wait_for("{ assetNodes { id } }", lambda answer: answer["assetNodes"])
            # A new instance covers the page with an invitation.
            dagster.ask("mutation { setNuxSeen }")
            yield dagster
        except BaseException:
            print(log.read_text())
            raise
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def dagster(tmp_path_factory):
    """`dagster dev`, after the pool digit_scenes was materialized from the shell."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "LABELING_DATA_FOLDER": str(tmp_path_factory.mktemp("data")),
        "DAGSTER_DISABLE_TELEMETRY": "true",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    command = "dagster asset materialize -m labeling.definitions -d pipelines --select"
    done = subprocess.run(
        [*command.split(), "group:digit_scenes"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with dagster_dev(environment, home / "dev.log") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # As root, as in most containers, Chromium has no sandbox.
        running = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield running
        running.close()


@pytest.fixture
def page(browser, dagster):
    with browser.new_context(viewport=SIZE, base_url=dagster.url) as context:
        opened = context.new_page()
        opened.set_default_timeout(SECONDS * 1000)
        yield opened


@pytest.fixture
def shot(page, tmp_path):
    """Keep a picture of the page."""
    folder = Path(os.environ.get("SCREENSHOTS_FOLDER", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(name):
        page.wait_for_timeout(1_000)  # until nothing moves any more
        page.screenshot(path=folder / f"{name}.png")

    return take


def open_picture(page, row):
    """Open a picture in the metadata of the asset that the page shows; its size in pixels."""
    line = page.get_by_role("row").filter(has=page.get_by_text(row, exact=True))
    line.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").locator("img")
    sync_api.expect(picture).to_have_count(1)
    page.wait_for_function("image => image.complete", arg=picture.element_handle())
    return picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")


def pools(run):
    return {key["path"][0] for key in run["assetSelection"] or ()}


def close_picture(page):
    page.get_by_role("button", name="Close").click()
    page.get_by_role("dialog").wait_for(state="detached")


def test_the_digits_pool_from_the_first_click_to_the_plots(page, dagster, shot):
    page.goto("/locations/labeling/asset-groups/digits/lineage")
    page.get_by_text("labeling_batch", exact=True).first.wait_for()
    page.get_by_role("button", name="Materialize all").click()
    shot("materialize")
    runs = (
        "{ runsOrError(limit: 1) { ... on Runs { results { status assetSelection { path } } } } }"
    )

    def has_ended(answer):
        (run,) = answer["runsOrError"]["results"]
        return run["status"] in ("SUCCESS", "FAILURE", "CANCELED") and pools(run) == {"digits"}

    answer = dagster.wait_for(runs, has_ended)
    assert answer["runsOrError"]["results"][0]["status"] == "SUCCESS"

    page.goto(f"/{CANDIDATES}")
    page.get_by_text("score_at_cut", exact=True).wait_for()
    page.get_by_text("by_predicted_class", exact=True).scroll_into_view_if_needed()
    shot("candidates")
    assert open_picture(page, "gallery")[0] == 1000
    shot("gallery")
    close_picture(page)
    assert open_picture(page, "score_histogram") == [1000, 300]
    shot("score_histogram")
    close_picture(page)
    page.get_by_role("button", name="Plots").click()
    page.locator("canvas").first.wait_for()
    assert page.get_by_text("mean_uncertainty").count()
    shot("plots")

    page.goto(f"/{CANDIDATES}?view=events")
    reason = page.get_by_text(re.compile(r"^\d vs \d: 0\.\d\d / 0\.\d\d$"))
    reason.first.wait_for()
    assert reason.count() == 24
    shot("events")


def test_what_the_shell_materialized_is_seen(page, shot):
    page.goto("/assets/digit_scenes/labeling_candidates/margin")
    assert open_picture(page, "gallery")[0] == 1000
    shot("gallery_of_objects")
