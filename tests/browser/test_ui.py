"""The UI of a real `dagster dev` in a real browser, as a person uses it.

It needs playwright and Chromium: Debian's (`apt-get install chromium`) or playwright's own
(`playwright install chromium`). With SCREENSHOTS_FOLDER set the pictures are kept there.
"""

import os
import re
import subprocess

import pytest

from dagster_ui import BIN, PROJECT, dagster_dev

pytestmark = pytest.mark.slow

CANDIDATES = "assets/digits/labeling_candidates/margin"


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


def open_picture(page, row):
    """Open a picture in the metadata of the asset that the page shows; its size in pixels."""
    line = page.get_by_role("row").filter(has=page.get_by_text(row, exact=True))
    line.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").locator("img")
    picture.wait_for()
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
