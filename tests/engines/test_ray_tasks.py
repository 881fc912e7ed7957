"""Tasks on a cluster of two Ray nodes: what processes of the machine give, also when one is lost."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dagster_active_learning import RayTasks
from dagster_active_learning.engines import ray_tasks
from dagster_active_learning.engines.local_workers import ENVIRONMENT
from dagster_active_learning.errors import EngineError, PredictionReadError
from in_place import assert_equal, bits, copied, in_place, random_probs, tables, write
from object_store import KEY, SECRET, object_store
from two_nodes import MEMORY, two_nodes
from worker_tasks import (
    killed_once,
    not_enough_memory,
    not_installed,
    note_node,
    process_and_threads,
    ray_name,
    read_variable,
    refuse,
    square,
    variables,
)


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.fixture(scope="module")
def client_port():
    return free_port()


@pytest.fixture(scope="module")
def cluster(client_port):
    with two_nodes(ray_client_server_port=client_port) as running:
        yield running


@pytest.fixture
def engine(cluster):
    return RayTasks(cluster.address)


class LosingANode:
    """The tasks of a cluster, of which one of the two nodes goes in each wave of tasks."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.lost = 0
        self.lost_node = None

    def run(self, function, tasks, *report):
        for number, result in enumerate(
            RayTasks(self.cluster.address).run(function, tasks, *report)
        ):
            if number == 0:
                node = next(node for node in self.cluster.worker_nodes)
                self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
                self.cluster.remove_node(node, allow_graceful=False)
                self.lost += 1
                self.lost_node = node.node_id
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


CREDENTIALS = [
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
]


def test_a_set_in_an_object_store_is_what_it_is_and_no_secret_is_in_rays_files(tmp_path, cluster):
    path = predictions(tmp_path, spread=True)
    with object_store() as filesystem:
        for file in tmp_path.glob("*.parquet"):
            filesystem.put(str(file), f"bucket/may/{file.name}")
        files = "s3://bucket/may/*.parquet"
        engine = RayTasks(cluster.address, environment=CREDENTIALS)
        found = tables(in_place(files, "s3://bucket/scores", engine=engine))
        stored = b"".join(filesystem.cat(filesystem.find("bucket/scores")).values())
    expected = tables(copied(path))
    for name in ("predictions", "scores", "candidates", "classes"):
        assert bits(found[name]) == bits(expected[name]), name
    session = Path(cluster.head_node.get_session_dir_path())
    logs = b"".join(file.read_bytes() for file in session.rglob("*") if file.is_file())
    assert b"Raylet" in logs
    for secret in (KEY, SECRET):
        assert secret.encode() not in logs + stored


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


BY_CLIENT = """
import sys
from dagster_active_learning import RayTasks
from in_place import bits, copied, in_place, tables

files, folder, address, *credentials = sys.argv[1:]
engine = RayTasks(address, environment=credentials)
found = tables(in_place(files, "s3://bucket/scores", engine=engine))
expected = tables(copied(folder + "/*.parquet"))
for name in ("predictions", "scores", "candidates", "classes"):
    assert bits(found[name]) == bits(expected[name]), name
"""


def test_objects_by_the_address_of_the_client_server_are_what_they_are(
    tmp_path, cluster, client_port
):
    predictions(tmp_path, spread=True)
    # After a client, Ray connects to nothing else in a process.
    path = os.pathsep.join(filter(None, sys.path))
    with object_store() as filesystem:
        for file in tmp_path.glob("*.parquet"):
            filesystem.put(str(file), f"bucket/may/{file.name}")
        command = [sys.executable, "-c", BY_CLIENT, "s3://bucket/may/*.parquet", str(tmp_path)]
        command += [f"ray://127.0.0.1:{client_port}", *CREDENTIALS]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)


def test_a_cluster_that_the_process_is_connected_to_is_used_and_stays_connected(cluster):
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        assert sorted(RayTasks("127.0.0.1:9").run(square, range(3))) == [0, 1, 4]
        assert ray.is_initialized()
    finally:
        ray.shutdown()


ADDRESSES = ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "http://127.0.0.1:{port}"]


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_without_a_cluster_is_named(monkeypatch, address, listens):
    import ray

    monkeypatch.setattr(ray_tasks, "SECONDS_FOR_ANSWER", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        address = address.format(port=silent.getsockname()[1])
        with pytest.raises(EngineError, match=rf"cluster at '{address}' cannot be used"):
            list(RayTasks(address).run(square, [1]))
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(EngineError, match=rf"cluster at '{address}' cannot be used"):
            list(RayTasks("auto").run(square, [1]))
    assert not ray.is_initialized()


def test_the_handler_of_terminations_stays_the_one_it_was(engine):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        list(engine.run(square, [1]))
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_task_has_a_name_and_an_environment_for_one_thread(engine, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/tmp/cache")
    wanted = {**ENVIRONMENT, "NUMBA_CACHE_DIR": "/tmp/cache"}
    assert list(engine.run(variables, [tuple(wanted)])) == [wanted]
    assert list(engine.run(ray_name, ["may"])) == ["ray_name: may"]


FAULTS = {
    "memory": (not_enough_memory, "memory ran out over the task"),
    "package": (not_installed, "a node cannot run the task: No module named 's3fs'"),
    "version": (square, "a node cannot run the task: it has .* and the step has 9.9: expected the"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_node_lacks_is_said_in_words(engine, monkeypatch, fault):
    function, words = FAULTS[fault]
    if fault == "version":
        monkeypatch.setattr(ray_tasks, "version", lambda _: "9.9")
    with pytest.raises(EngineError, match=f"^{words}"):
        list(engine.run(function, ["the task"]))


def test_only_tasks_of_a_lost_node_begin_again(tmp_path, cluster):
    places = [str(tmp_path / f"{number}") for number in range(12)]
    engine = LosingANode(cluster)
    assert sorted(engine.run(note_node, places)) == sorted(places)
    begun = [(tmp_path / place).read_text().split() for place in places]
    assert engine.lost == 1
    again = [nodes for nodes in begun if len(nodes) > 1]
    assert {nodes[0] for nodes in again} <= {engine.lost_node}
