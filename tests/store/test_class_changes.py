"""Predicted classes of two sets in place are those of the sets copied, and no prediction is read."""

import numpy as np
import pytest

from counted_files import CountedFiles
from dagster_active_learning import flow, read_predictions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.class_changes import class_changes
from dagster_active_learning.store.prediction_sets import prediction_set
from in_place import commit, pool_store, random_probs, scored, write


def write_set(folder, seed, ids_of, ties=2):
    folder.mkdir()
    for file in range(3):
        rng = np.random.default_rng(10 * seed + file)
        ids = ids_of(file)
        probs = random_probs(rng, len(ids))
        # Of classes that are as probable the first counts.
        probs[::ties] = [0.1, 0.4, 0.0, 0.4, 0.1]
        write(folder / f"{file}.parquet", ids, probs)


def one_each(file):
    return [f"{file}-{row:03d}" for row in range(60)]


def in_no_order(file):
    return [f"{row:03d}-{file}" for row in range(60)]


def some_twice(file):
    return [f"{file}-{row - row % 5 // 4:03d}" for row in range(60)]


@pytest.mark.parametrize(
    ("ids_of", "reads"), [(one_each, False), (in_no_order, False), (some_twice, True)]
)
def test_classes_in_place_are_those_of_copied_sets(tmp_path, ids_of, reads):
    stores = [pool_store(), pool_store()]
    for seed, name in enumerate(("may", "june")):
        write_set(tmp_path / name, seed, ids_of)
        address = f"counted://{tmp_path}"
        files = scored(f"{address}/{name}/*.parquet", f"{address}/storage", prediction_set=name)
        commit(stores[0], files, prediction_set=name)
        stream = read_predictions(tmp_path / name / "*.parquet", format="parquet")
        settings = {"rules": Rules(), "run_id": "run", "report": lambda _: None}
        flow.ingest_predictions(stores[1], stream, prediction_set=name, model=None, **settings)
        flow.score_prediction_set(stores[1], name, **settings)
    CountedFiles.read.clear()
    changes = []
    for store in stores:
        before, after = (prediction_set(store, name) for name in ("may", "june"))
        found = class_changes(store, before, after)
        rows = zip(found.before.tolist(), found.after.tolist(), found.changed_images.to_pylist(), strict=True)  # fmt: skip
        changes.append(sorted(rows, key=str))
    assert changes[0] == changes[1]
    assert len(changes[0]) == (len({*some_twice(0)}) if reads else 60) * 3
    assert any(name for *_, name in changes[0])
    folders = {path.split("/")[-2] for path in CountedFiles.read}
    assert folders == ({"scores", "may", "june"} if reads else {"scores"})
