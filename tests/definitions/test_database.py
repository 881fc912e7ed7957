"""Opening the user's database: who waits for whom, for how long, and what is closed again."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import dagster as dg
import duckdb
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import PredictionFiles, active_learning_definitions
from dagster_active_learning.definitions import database as database_module
from dagster_active_learning.definitions.database import open_pool
from dagster_active_learning.errors import DatabaseUnavailableError, PoolStateError
from dagster_active_learning.store.images import ImageCounts, image_counts

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reader")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def opened(database):
    """Open the pool of the test's database; what is reported goes to a list."""

    def run(*, timeout=10.0, report=lambda _: None, resource=None, read_only=False):
        return open_pool(
            resource or DuckDBResource(database=str(database)),
            "pool",
            lock_timeout_seconds=timeout,
            report=report,
            read_only=read_only,
        )

    return run


@contextmanager
def holding(database, kind):
    """Another process that has the database open until its input is closed."""
    command = [sys.executable, "-c", HOLDER, str(database), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        yield process


@pytest.fixture
def existing(database):
    duckdb.connect(str(database)).close()
    return database


def check_closed(database):
    # DuckDB refuses it as long as the process has a connection of another configuration.
    duckdb.connect(str(database), config={"threads": 1}).close()


@pytest.mark.parametrize("kind", ["writer", "reader"])
def test_a_step_waits_for_another_process_and_says_which(existing, opened, kind):
    told = []
    with holding(existing, kind) as process:

        def report(message):
            told.append(message)
            process.communicate()

        with opened(report=report) as store:
            assert image_counts(store) == ImageCounts(0, 0)
    assert len(told) == 1
    for words in (str(existing), f"(PID {process.pid})", "lock_timeout_seconds"):
        assert words in told[0]


@pytest.mark.parametrize("timeout", [0, 0.5])
def test_after_the_deadline_the_error_names_file_holder_and_setting(existing, opened, timeout):
    with holding(existing, "writer") as process:
        start = time.monotonic()
        with pytest.raises(DatabaseUnavailableError) as error, opened(timeout=timeout):
            pass
        waited = time.monotonic() - start
        process.communicate()
    assert timeout <= waited < timeout + 2
    for words in (str(existing), f"(PID {process.pid})", "lock_timeout_seconds", f"{timeout:g} s"):
        assert words in str(error.value)
    with opened():
        pass


def test_the_waits_have_jitter_and_reports_are_rare(existing, opened, monkeypatch):
    clock, waits, told = [0.0], [], []

    def sleep(seconds):
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(database_module.time, "sleep", sleep)
    monkeypatch.setattr(database_module.time, "monotonic", lambda: clock[0])
    # A connection of this process makes the same waiting without a process.
    with (
        duckdb.connect(str(existing), config={"threads": 1}),
        pytest.raises(DatabaseUnavailableError, match="another configuration"),
        opened(timeout=100, report=told.append),
    ):
        pass
    assert sum(waits) == pytest.approx(100)
    low, high = database_module.SECONDS_BETWEEN_TRIES
    assert all(low <= wait <= high for wait in waits[:-1])
    assert len(set(waits)) > 0.9 * len(waits)
    assert len(told) == 4
    assert all(f"this process (PID {os.getpid()})" in message for message in told)


def test_a_notebook_in_the_same_process_is_waited_for(existing, opened):
    notebook = duckdb.connect(str(existing))
    with opened(report=lambda _: notebook.close()) as store:
        assert image_counts(store) == ImageCounts(0, 0)


def test_threads_take_turns(opened):
    inside, most, errors = [], [], []

    def work():
        try:
            with opened(timeout=60) as store:
                inside.append(store)
                most.append(len(inside))
                time.sleep(0.01)
                inside.remove(store)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, most) == ([], [1] * 6)


def test_a_link_to_the_file_is_the_same_file(existing, opened, tmp_path):
    (tmp_path / "link").symlink_to(existing)
    link = DuckDBResource(database=str(tmp_path / "link"))
    with (
        opened(),
        pytest.raises(DatabaseUnavailableError, match="another step of this process"),
        opened(resource=link, timeout=0),
    ):
        pass


def test_the_connection_has_the_configuration_of_the_resource(database, opened):
    config = {"threads": 1, "custom_user_agent": "ours"}
    resource = DuckDBResource(database=str(database), connection_config=config)
    with opened(resource=resource) as store:
        ((threads, agent),) = store.connection.execute(
            "SELECT current_setting('threads'), user_agent FROM pragma_user_agent()"
        ).fetchall()
        with resource.get_connection():
            pass
    assert threads == 1
    assert agent.endswith("ours")


def test_everything_is_closed_after_the_block(database, opened):
    with opened():
        pass
    check_closed(database)


@pytest.mark.parametrize("case", ["block", "schema"])
def test_everything_is_closed_after_an_error(database, opened, case):
    kind = RuntimeError
    if case == "schema":
        kind = PoolStateError
        with duckdb.connect(str(database)) as connection:
            connection.execute("CREATE SCHEMA pool; CREATE TABLE pool.images (a INT)")

    def step(store):
        # A result that has not been read to its end keeps the database open.
        result = store.connection.cursor().execute("FROM range(1_000_000)")
        assert result.fetchone()
        raise RuntimeError

    with pytest.raises(kind), opened() as store:
        step(store)
    check_closed(database)
    with duckdb.connect(str(database)) as connection:
        connection.execute("DROP SCHEMA IF EXISTS pool CASCADE")
    with opened(timeout=0):
        pass


@pytest.mark.parametrize("path", [":memory:", ":memory:named", ""])
def test_a_database_in_memory_is_refused(opened, path):
    with (
        pytest.raises(dg.DagsterInvalidDefinitionError, match="give it the path of a file"),
        opened(resource=DuckDBResource(database=path)),
    ):
        pass


def test_a_new_database_is_whole_before_it_is_there(database, opened, monkeypatch):
    """Killed while DuckDB writes a new file, a process leaves one that cannot be opened."""

    def link(new, file):
        assert not file.exists()
        duckdb.connect(str(new), read_only=True).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(database_module.os, "link", link)
    with pytest.raises(KeyboardInterrupt), opened():
        pass
    assert list(database.parent.iterdir()) == []


KILLED = """
import os, signal, sys
from dagster_active_learning.definitions import database
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
database.os.link = kill
database._create(sys.argv[1], {})
"""


@pytest.mark.parametrize("exists", [False, True])
def test_what_a_killed_step_left_beside_the_database_goes_with_the_next_step(
    database, opened, exists
):
    (database.parent / f".{database.name}.notes").mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(database)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = database.parent.glob(f".{database.name}.*_*")
    assert (leftover / database.name).exists()
    if exists:
        duckdb.connect(str(database)).close()
    with opened():
        pass
    assert {file.name for file in database.parent.iterdir()} == {
        database.name,
        f".{database.name}.notes",
    }


def test_a_file_system_without_links_has_a_database_too(database, opened, monkeypatch):
    def link(new, file):
        raise PermissionError

    monkeypatch.setattr(database_module.os, "link", link)
    with opened():
        pass
    assert list(database.parent.iterdir()) == [database]


@pytest.mark.parametrize("name", ["junk.duckdb", "missing/a.duckdb"])
def test_what_is_no_database_fails_at_once(tmp_path, opened, name):
    (tmp_path / "junk.duckdb").write_text("junk" * 5_000)
    resource = DuckDBResource(database=str(tmp_path / name))
    with pytest.raises(duckdb.IOException, match=name), opened(resource=resource):
        pass


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
    ids=["pipe", "folder", "device"],
)  # fmt: skip
def test_what_is_no_file_is_refused(database, opened, make, read_only):
    make(database)
    with (
        pytest.raises(DatabaseUnavailableError, match="expected a regular file") as error,
        opened(read_only=read_only),
    ):
        pass
    assert str(database) in str(error.value)


def test_a_reader_does_not_make_the_database(database, opened):
    with (
        pytest.raises(PoolStateError, match="does not exist: materialize pool/predictions first"),
        opened(read_only=True),
    ):
        pass
    assert list(database.parent.iterdir()) == []


@pytest.mark.parametrize("statement", ["DELETE FROM images", "ALTER TABLE images ADD COLUMN a INT"])
def test_a_transaction_of_the_same_process_in_the_way_says_so(database, opened, statement):
    with opened() as store:
        store.connection.execute("INSERT INTO images (image_id, labeled) VALUES ('a', false)")
    # As the resource configures it: DuckDB would not open the file beside another configuration.
    with duckdb.connect(str(database), config={"custom_user_agent": "dagster"}) as notebook:
        notebook.begin()
        notebook.execute(f"USE pool; {statement}")
        with (
            pytest.raises(DatabaseUnavailableError, match="Commit or roll back") as error,
            opened() as store,
            store.transaction(),
        ):
            store.connection.execute(statement)
        for words in (str(database), f"this process (PID {os.getpid()})"):
            assert words in str(error.value)
        notebook.rollback()
    with opened() as store:
        assert image_counts(store) == ImageCounts(1, 0)


def test_a_database_that_is_open_read_only_says_so(database, write_predictions, query):
    definitions = active_learning_definitions(
        pool="pool", predictions=PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet")
    )
    writable = DuckDBResource(database=str(database))
    assert dg.materialize(definitions.assets, resources={"duckdb": writable}).success
    before = query("FROM pool.prediction_sets")
    read_only = DuckDBResource(
        database=str(database), connection_config={"access_mode": "READ_ONLY"}
    )
    for asset in ("predictions", "image_scores", "labeling_candidates/entropy"):
        with pytest.raises(DatabaseUnavailableError, match="cannot be written.*access_mode") as e:
            dg.materialize(
                definitions.assets,
                selection=f"key:pool/{asset}",
                resources={"duckdb": read_only},
            )
        assert str(database) in str(e.value)
    assert query("FROM pool.prediction_sets") == before


def test_a_full_disk_of_temporary_files_says_so(database, opened):
    """The rows of the quarantine are put aside in a temporary file."""
    with pytest.raises(DatabaseUnavailableError, match="full.*temporary") as error, opened():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(database) in str(error.value)


def test_an_error_about_another_file_stays_as_it_is(opened, tmp_path):
    with pytest.raises(PermissionError), opened():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), tmp_path / "a.csv")


def test_the_pool_s_setting_is_the_deadline_of_its_steps(existing, write_predictions):
    definitions = active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(write_predictions([[0.5, 0.5]]), "parquet"),
        lock_timeout_seconds=0.25,
    )
    with holding(existing, "writer") as process:
        with pytest.raises(DatabaseUnavailableError, match=r"after 0\.25 seconds"):
            dg.materialize(
                definitions.assets, resources={"duckdb": DuckDBResource(database=str(existing))}
            )
        process.communicate()
