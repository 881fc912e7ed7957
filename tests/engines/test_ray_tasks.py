"""Tasks on a cluster of two Ray nodes: what processes of the machine give, also when one is lost."""

import os
import sys

import numpy as np
import pytest

from dagster_active_learning import RayTasks
from dagster_active_learning.errors import PredictionReadError
from in_place import assert_equal, copied, in_place, random_probs, tables, write
from worker_tasks import killed_once, process_and_threads, read_variable, refuse, square

MEMORY = 80 * 2**20


@pytest.fixture(scope="module")
def cluster():
    from ray import cluster_utils

    with pytest.MonkeyPatch.context() as patch:
        # A node's workers find these tests' functions by name.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
        running = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            running.add_node(num_cpus=1, object_store_memory=MEMORY)
        running.wait_for_nodes()
        yield running
        running.shutdown()


@pytest.fixture
def engine(cluster):
    return RayTasks(cluster.address)


class LosingANode:
    """The tasks of a cluster, of which one of the two nodes goes in each wave of tasks."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.lost = 0

    def run(self, function, tasks):
        for number, result in enumerate(RayTasks(self.cluster.address).run(function, tasks)):
            if number == 0:
                node = next(node for node in self.cluster.worker_nodes)
                self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
                self.cluster.remove_node(node, allow_graceful=False)
                self.lost += 1
            yield result


def predictions(folder, *, spread):
    rng = np.random.default_rng(0)
    for file in range(8):
        ids = [f"{file}-{row:05d}" for row in range(400)]
        if spread:
            ids = [f"image {number}" for number in rng.integers(900, size=400)]
        probs = random_probs(rng, 400).tolist()
        probs[17] = None
        write(folder / f"p{file}.parquet", ids, probs)
    return folder / "*.parquet"


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("spread", [False, True])
def test_a_set_is_what_it_is_when_it_is_copied(tmp_path, engine, spread):
    path = predictions(tmp_path, spread=spread)
    found = in_place(path, tmp_path / "storage", engine=engine)
    assert_equal(tables(found), tables(copied(path)))


def test_a_node_that_is_lost_in_each_wave_changes_nothing(tmp_path, cluster, monkeypatch):
    from dagster_active_learning.flow import scored_files

    monkeypatch.setattr(scored_files, "ROWS_PER_BUCKET", 500)
    path = predictions(tmp_path, spread=True)
    engine = LosingANode(cluster)
    found = in_place(path, tmp_path / "storage", engine=engine)
    assert engine.lost == 2
    assert_equal(tables(found), tables(copied(path)))


def test_a_task_whose_worker_is_killed_runs_again(tmp_path, engine):
    places = [str(tmp_path / name) for name in "abc"]
    assert sorted(engine.run(killed_once, places)) == places


def test_a_task_has_one_thread_and_a_process_of_its_own(engine):
    ((process, threads),) = engine.run(process_and_threads, [0])
    assert process != os.getpid()
    assert threads == 1


def test_only_named_variables_go_with_the_tasks(cluster, monkeypatch):
    monkeypatch.setenv("NAMED", "yes")
    monkeypatch.setenv("UNNAMED", "no")
    engine = RayTasks(cluster.address, environment=["NAMED", "NOT_THERE"])
    assert list(engine.run(read_variable, ["NAMED", "UNNAMED", "NOT_THERE"])).count("yes") == 1
    assert "no" not in list(engine.run(read_variable, ["UNNAMED"]))


def test_the_error_of_a_task_is_raised(engine):
    with pytest.raises(PredictionReadError, match="3 is no file"):
        list(engine.run(refuse, range(20)))


def test_tasks_go_on_after_others_were_given_up(engine):
    results = engine.run(square, range(50))
    next(results)
    results.close()
    assert sorted(engine.run(square, range(3))) == [0, 1, 4]
