"""Large sets in place, by workers and on a Ray cluster: what the same files are when copied."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, LocalWorkers, RayTasks, flow
from dagster_active_learning.rules import Rules
from fingerprints import fingerprints
from in_place import copied, in_place
from two_nodes import two_nodes

FILES = 8
ROWS_A_GROUP = 50_000

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """A large set.

    Attributes:
        rows: Number of rows in all.
        classes: Number of classes.
        images: Number of images, whose rows are spread over all files; None for one per row.
        rules: What the rows are.
    """

    rows: int
    classes: int
    images: int | None
    rules: Rules

    def write(self, folder):
        rng = np.random.default_rng(self.rows)
        for file in range(FILES):
            with pq.ParquetWriter(folder / f"{file}.parquet", self.schema()) as writer:
                rows = self.rows // FILES
                for first in range(file * rows, (file + 1) * rows, ROWS_A_GROUP):
                    count = min(ROWS_A_GROUP, (file + 1) * rows - first)
                    writer.write_table(self.group(rng, first, count))
        return folder / "*.parquet"

    def schema(self):
        return pa.schema({"image_id": pa.string(), "class_probs": pa.list_(pa.float32())})

    def group(self, rng, first, count):
        """Rows of which one in a thousand is broken, in five ways."""
        probs = rng.standard_exponential((count, self.classes), np.float32)
        probs /= probs.sum(axis=1, keepdims=True)
        for start, value in enumerate([np.nan, np.inf, -1, 2]):
            probs[start * 7 :: 5000, 3] = value
        numbers = np.arange(first, first + count)
        if self.images is not None:
            numbers = rng.integers(self.images, size=count)
        ids: list[str | None] = [f"image_{number:07d}" for number in numbers.tolist()]
        ids[28::5000] = [None] * len(ids[28::5000])
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * self.classes)
        lists = pa.ListArray.from_arrays(offsets, pa.array(probs.ravel()))
        return pa.table([pa.array(ids, pa.string()), lists], schema=self.schema())

    def manifest(self):
        """The images by their number, with some that have no predictions."""
        if self.images is None:
            return None
        return [f"image_{number:07d}" for number in range(self.images + 1_000)]


CASES = {
    "2M x 10": Case(2_000_000, 10, None, Rules()),
    "1M objects x 80": Case(1_000_000, 80, 200_000, Rules(task="detection", in_manifest=True)),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def made(request, tmp_path_factory):
    """A case, its files, and what they are when they are copied."""
    case = request.param
    path = case.write(tmp_path_factory.mktemp("files"))
    return case, path, ranked(copied(path, case.rules, manifest=case.manifest()), case)


@pytest.fixture(scope="module")
def cluster():
    with two_nodes() as running:
        yield running


def ranked(store, case):
    """The numbers and hashes of all tables, and those of the rankings."""
    functions = [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(case.rules)]
    rankings = flow.rank_candidates(
        store, "set", functions, rules=case.rules, limit=1000, seed=3, run_id="run"
    )
    found = fingerprints(store)
    store.connection.close()
    return {**found, "rankings": {name: one.sha256 for name, one in rankings.items()}}


def check(made, folder, engine):
    case, path, expected = made
    found = in_place(path, folder, case.rules, manifest=case.manifest(), engine=engine)
    assert ranked(found, case) == expected


def test_what_is_compared_is_there(made):
    case, _, expected = made
    assert expected["quarantined"]["rows"] == case.rows // 1000
    assert expected["predictions"]["rows"] == case.rows - case.rows // 1000
    assert (
        len(expected["rankings"])
        == len(set(expected["rankings"].values()))
        == 4 + bool(case.images)
    )


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_sets_by_workers_are_equal(made, tmp_path, workers):
    check(made, tmp_path, LocalWorkers(workers))


def test_sets_on_a_cluster_of_two_nodes_are_equal(made, tmp_path, cluster):
    check(made, tmp_path, RayTasks(cluster.address))
