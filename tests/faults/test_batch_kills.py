"""Ten rounds of batch, label, retrain, killed at any moment: no image twice, and none lost."""

import random
import time

import duckdb
import polars as pl
import pytest

from dagster_active_learning.store.labeling_batches import images_twice
from dagster_active_learning.store.pool_store import PoolStore
from faults.children import Child, run_batches
from faults.pool import BATCH_IDS

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kills", [0, 3])
def test_rounds_label_each_image_once(processes, tmp_path, kills):
    """A round is killed so often before it is left in peace."""
    chance = random.Random(0)
    labeled, file, last = set(), tmp_path / "batch.csv", None
    at_work = runs = 0
    seconds = 1.0
    child = Child(processes, run_batches, tmp_path)
    while len(labeled) < len(BATCH_IDS):
        runs += 1
        child.tell((runs, labeled))
        assert child.told() == "working"
        start = time.perf_counter()
        if runs % (kills + 1):
            time.sleep(chance.uniform(0, seconds))
            at_work += child.kill()
            child = Child(processes, run_batches, tmp_path)
        else:
            assert child.told() > 0
            seconds = time.perf_counter() - start
        # Somebody who labels the images of each file that is new.
        content = file.read_bytes() if file.exists() else None
        if content != last:
            batch = pl.read_csv(file)["image_id"].to_list()
            assert not labeled & set(batch), "an image is out twice"
            labeled.update(batch)
            last = content
    child.kill()
    assert labeled == set(BATCH_IDS), "images are lost"
    with duckdb.connect(str(tmp_path / "work.duckdb"), read_only=True) as connection:
        store = PoolStore(connection, "pool")
        assert images_twice(store).count == 0
        ((batches,),) = store.rows("SELECT count(DISTINCT batch) FROM labeling_batches")
    print(f"\n{at_work} of {runs} runs killed at work, {batches} batches")
    assert batches == 10
    assert at_work >= 5 * bool(kills), "the kills came too late to show anything"
