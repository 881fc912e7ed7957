"""A pool of 100 partitions, all materialized, in the UI and under its sensor of a `dagster dev`.

How long things take is printed: `pytest -m slow -s tests/browser/test_many_partitions.py`.
"""

import json
import os
import runpy
import time

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster_shared.serdes import serialize_value
from PIL import Image
from sklearn.datasets import load_sample_image

from dagster_active_learning import PredictionFiles
from dagster_active_learning.definitions.cursor import Cursor, Memory
from dagster_active_learning.definitions.sensors import HASH_SECONDS
from dagster_ui import dagster_dev

pytestmark = pytest.mark.slow

PARTITIONS, IMAGES, CLASSES = 100, 200, 10
ASSETS = [
    ["signs", "predictions"],
    ["signs", "image_scores"],
    ["signs", "labeling_candidates", "entropy"],
    ["signs", "labeling_candidates", "least_confidence"],
    ["signs", "labeling_candidates", "margin"],
    ["signs", "labeling_candidates", "variance"],
]
LOCATION = """
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource
from dagster_active_learning import (
    PredictionFiles, PredictionFileSensor, active_learning_definitions,
)

FOLDER = Path(__file__).parent

defs = dg.Definitions.merge(
    active_learning_definitions(
        pool="signs",
        predictions=PredictionFiles(f"{FOLDER}/inbox/{{partition_key}}.parquet", "parquet"),
        images=FOLDER / "manifest.csv",
        limit=100,
        partitions_def=dg.DynamicPartitionsDefinition(name="models"),
        sensor=PredictionFileSensor(minimum_interval_seconds=1),
    ),
    dg.Definitions(resources={"duckdb": DuckDBResource(database=f"{FOLDER}/labeling.duckdb")}),
)
"""
SENSOR = """{
    repositoryName: "__repository__"
    repositoryLocationName: "location.py"
    sensorName: "signs__prediction_files"
}"""
TICKS = f"""{{ sensorOrError(sensorSelector: {SENSOR}) {{ ... on Sensor {{ sensorState {{
    ticks(limit: 100) {{ timestamp endTimestamp status error {{ message }} }}
}} }} }} }}"""


def write_predictions(folder, number):
    class_probs = np.random.default_rng(number).dirichlet(np.full(CLASSES, 0.3), IMAGES)
    ids = [f"image{image}" for image in range(IMAGES)]
    table = pl.DataFrame({"image_id": ids, "class_probs": class_probs.astype(np.float32)})
    table.write_parquet(folder / "inbox" / f"model{number:03}.parquet")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the pool, its files and Dagster's instance."""
    folder = tmp_path_factory.mktemp("signs")
    (folder / "inbox").mkdir()
    (folder / "images").mkdir()
    (folder / "location.py").write_text(LOCATION)
    (folder / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {default_limit: 1}}\n"
    )
    places = np.random.default_rng(0).integers(0, (187, 320), (IMAGES, 2))
    photo = load_sample_image("china.jpg")
    for image, (top, left) in enumerate(places):
        part = Image.fromarray(photo[top : top + 240, left : left + 320])
        part.save(folder / "images" / f"image{image}.jpg")
    ids = [f"image{image}" for image in range(IMAGES)]
    uris = [f"images/{image}.jpg" for image in ids]
    pl.DataFrame({"image_id": ids, "uri": uris}).write_csv(folder / "manifest.csv")
    for number in range(PARTITIONS):
        write_predictions(folder, number)
    return folder


@pytest.fixture(scope="module")
def instance(home):
    """Dagster's instance, after all partitions were materialized in one run, as a backfill does."""
    defs = runpy.run_path(str(home / "location.py"))["defs"]
    keys = sorted(path.stem for path in (home / "inbox").iterdir())
    every = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }
    images = dg.AssetSelection.assets("signs/images")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("models", keys)
        started = time.monotonic()
        for selection, tags in ((images, None), (dg.AssetSelection.all() - images, every)):
            dg.materialize(
                defs.assets,
                instance=instance,
                resources=defs.resources,
                selection=selection,
                tags=tags,
            )
        print(f"\n{PARTITIONS} partitions materialized in {time.monotonic() - started:.0f} s")
        yield instance


@pytest.fixture(scope="module")
def cursor(home):
    """What the sensor remembers when it is done with all files."""
    source = PredictionFiles(f"{home}/inbox/{{partition_key}}.parquet", "parquet")
    file_sets = source.find(partitioned=True)
    until = time.monotonic() + HASH_SECONDS
    done = {name: files.version(until) for name, files in file_sets.items()}
    return Cursor(memory=Memory(done)).dump()


@pytest.fixture(scope="module")
def dagster(home, instance):
    environment = os.environ | {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "true"}
    with dagster_dev(environment, home / "dev.log", "-f", "location.py", folder=home) as running:
        yield running


def test_events_are_small(instance):
    sizes = []
    for asset in ASSETS:
        fetched = instance.fetch_materializations(dg.AssetKey(asset), limit=2 * PARTITIONS)
        assert len({record.partition_key for record in fetched.records}) == PARTITIONS
        sizes += [len(serialize_value(one.asset_materialization)) for one in fetched.records]
    print(f"\n{len(sizes)} events of {sum(sizes) / 1e6:.1f} MB, the largest {max(sizes):,} bytes")
    assert max(sizes) < 100_000


def test_pages_are_quick(page, shot):
    def measure(what, act, seen):
        started = time.monotonic()
        act()
        seen.first.wait_for()
        print(f"\n{what}: seen after {time.monotonic() - started:.1f} s", end="")
        shot(what)

    def open_page(what, path, words):
        measure(what, lambda: page.goto(path), page.get_by_text(words, exact=True))

    asset = "/assets/signs/labeling_candidates/margin"
    open_page("asset_page", asset, "score_at_cut")
    open_page("asset_page_again", asset, "score_at_cut")
    plots = page.get_by_role("button", name="Plots")
    measure("plots", plots.click, page.locator("canvas"))
    open_page("partitions", f"{asset}?view=partitions", "model005")
    open_page("one_partition", f"{asset}?view=partitions&partition=model005", "score_at_cut")
    open_page("events", f"{asset}?view=events", "former_ranking")
    open_page("lineage", "/locations/location.py/asset-groups/signs/lineage", "image_scores")


def test_the_sensor_is_quick(dagster, home, cursor):
    def ticks(answer):
        found = answer["sensorOrError"]["sensorState"]["ticks"]
        assert [tick["error"] for tick in found if tick["error"]] == []
        # One may have the time of its end before it is said to have ended.
        return [tick for tick in found if tick["endTimestamp"] and tick["status"] != "STARTED"]

    def seconds(found):
        return ", ".join(f"{tick['endTimestamp'] - tick['timestamp']:.2f}" for tick in found)

    dagster.ask(
        f"mutation {{ setSensorCursor(sensorSelector: {SENSOR}, cursor: {json.dumps(cursor)}) "
        "{ __typename } }"
    )
    dagster.ask(f"mutation {{ startSensor(sensorSelector: {SENSOR}) {{ __typename }} }}")
    idle = ticks(dagster.wait_for(TICKS, lambda answer: len(ticks(answer)) >= 5))
    assert {tick["status"] for tick in idle} == {"SKIPPED"}
    print(f"\nidle ticks: {seconds(idle)} s")

    write_predictions(home, PARTITIONS)
    asked = dagster.wait_for(
        TICKS, lambda answer: any(tick["status"] == "SUCCESS" for tick in ticks(answer))
    )
    one = [tick for tick in ticks(asked) if tick["status"] == "SUCCESS"]
    print(f"tick that asks for a run of a new file: {seconds(one)} s")
    runs = "{ runsOrError(limit: 1) { ... on Runs { results { status tags { key value } } } } }"
    answer = dagster.wait_for(
        runs,
        lambda answer: (
            answer["runsOrError"]["results"][0]["status"] in ("SUCCESS", "FAILURE", "CANCELED")
        ),
    )
    (run,) = answer["runsOrError"]["results"]
    assert run["status"] == "SUCCESS"
    assert {"key": "dagster/partition", "value": f"model{PARTITIONS:03}"} in run["tags"]
