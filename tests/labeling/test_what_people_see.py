"""The pages of the real Label Studio in a browser: what the model predicted stands on the image.

With SCREENSHOTS_FOLDER set the pictures are kept there; the one of the docs is `scene.png`.
"""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from chromium import SIZE, browser, shot
from dagster_active_learning import (
    LabelingBatch,
    LabelStudio,
    PredictionFiles,
    active_learning_definitions,
)
from label_studio import PASSWORD, PERSON, api, run

__all__ = ["browser", "shot"]

pytestmark = pytest.mark.slow

NAMES = [str(digit) for digit in range(10)]
SCALE = 32
# Places of digits in a scene, in digits.
PLACES = [(1, 1), (9, 2), (16, 8), (4, 10)]


@pytest.fixture
def page(server, browser):
    """A page of somebody who is logged in."""
    with browser.new_context(viewport=SIZE, base_url=server) as context:
        opened = context.new_page()
        opened.set_default_timeout(120_000)
        opened.goto("/user/login/")
        opened.locator("input[name=email]").fill(PERSON)
        opened.locator("input[name=password]").fill(PASSWORD)
        opened.locator("button[type=submit]").click()
        opened.wait_for_url(lambda url: "login" not in url)
        yield opened


def picture(digit):
    small = Image.fromarray((255 - digit * (255 / 16)).round().astype(np.uint8))
    return np.asarray(small.resize((8 * SCALE, 8 * SCALE), Image.Resampling.BICUBIC))


def send(folder, server, title, images, task, predictions, columns=None):
    """Send images to a project by the assets of a pool; the numbers of project and first task."""
    for image_id, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
    sides = [pixels.shape for pixels in images.values()]
    pl.DataFrame(
        {"image_id": [*images], "uri": [str(folder / f"{name}.png") for name in images], "width": [side[1] for side in sides], "height": [side[0] for side in sides]}
    ).write_csv(folder / "manifest.csv")  # fmt: skip
    function = "margin" if task == "classification" else "mean_object_score"
    defs = active_learning_definitions(
        pool="pool",
        task=task,
        predictions=PredictionFiles(folder / predictions, predictions.split(".")[1], model="a model", **(columns or {})),
        images=folder / "manifest.csv",
        acquisition_functions=[function],
        batch=LabelingBatch(size=len(images), random_share=0),
        labeling=LabelStudio(project=title, embed_max_bytes=100_000),
    )  # fmt: skip
    tables = ("images", "predictions", "image_scores", f"labeling_candidates/{function}", "labeling_batch", "labeling_tasks")  # fmt: skip
    run(folder, defs, server, *tables)
    (project,) = api(server, "GET", f"/api/projects?title={title}")["results"]
    (first, *_) = api(server, "GET", f"/api/tasks?project={project['id']}&page_size=100")["tasks"]
    return project["id"], first


def look_at(page, project, task):
    """Open a task to label it, and wait for its image."""
    page.goto(f"/projects/{project}/data?task={task['id']}")
    picture = page.locator("img[alt=image]").first
    picture.wait_for(state="attached")
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())  # fmt: skip


def test_a_digit_with_its_class(server, page, tmp_path, shot):
    digits = load_digits().images
    images = {f"digit {number}": picture(digits[number]) for number in range(5)}
    table = pa.table({"image_id": [*images], "class_probs": np.eye(10)[:5].tolist()})
    pq.write_table(table.replace_schema_metadata({"class_names": json.dumps(NAMES)}), tmp_path / "p.parquet")  # fmt: skip
    project, task = send(tmp_path, server, "digits to see", images, "classification", "p.parquet")
    look_at(page, project, task)
    shot("digit")
    # The predicted class is chosen already; other switches have no text.
    chosen = page.locator("label", has=page.locator("input:checked")).all_inner_texts()
    assert [text[0] for text in chosen if text] == [task["data"]["image_id"].split()[1]]


def test_a_scene_with_its_boxes(server, page, tmp_path, shot):
    digits, truth = load_digits().images, load_digits().target
    scene = np.full((20 * SCALE, 26 * SCALE), 255, np.uint8)
    lines = []
    for number, (x, y) in enumerate(PLACES):
        place = np.s_[y * SCALE : (y + 8) * SCALE, x * SCALE : (x + 8) * SCALE]
        scene[place] = np.minimum(scene[place], picture(digits[number + 40]))
        bbox = [x * SCALE, y * SCALE, 8 * SCALE, 8 * SCALE]
        lines.append({"image_id": "scene", "bbox": bbox, "category": str(truth[number + 40]), "score": 0.9 - number / 5})  # fmt: skip
    (tmp_path / "o.jsonl").write_text("\n".join(map(json.dumps, lines)))
    columns = {"bbox_column": "bbox", "category_column": "category", "score_column": "score", "class_names": NAMES}  # fmt: skip
    project, task = send(tmp_path, server, "scenes to see", {"scene": scene}, "detection", "o.jsonl", columns)  # fmt: skip
    look_at(page, project, task)
    shot("scene")
    for line in lines:
        page.get_by_text(f"{line['score']:.2f}", exact=True).wait_for()
