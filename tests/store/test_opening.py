"""A database is opened as the last process has left it, also when that is just now."""

import os
import subprocess
import sys

import duckdb
import pytest

from dagster_active_learning.store import opening
from dagster_active_learning.store.opening import connect

WRITE = "import sys, duckdb; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"


def write(database, statement):
    subprocess.run([sys.executable, "-c", WRITE, str(database), statement], check=True)


@pytest.fixture
def existing(database):
    write(database, "CREATE TABLE numbers AS SELECT 1 AS number")
    return database


@pytest.fixture
def opened(monkeypatch):
    """The connections that DuckDB is asked for; before each, what a list says is done."""
    connections, meanwhile = [], []

    def connect_to(*arguments, **options):
        if meanwhile:
            meanwhile.pop()()
        connections.append(duckdb_connect(*arguments, **options))
        return connections[-1]

    duckdb_connect = duckdb.connect
    monkeypatch.setattr(opening.duckdb, "connect", connect_to)
    return connections, meanwhile


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_written_while_it_is_opened_is_opened_again(existing, opened, read_only):
    connections, meanwhile = opened
    meanwhile += [lambda: write(existing, "INSERT INTO numbers VALUES (2)")] * 2
    with connect(str(existing), read_only=read_only) as connection:
        assert connection.execute("FROM numbers").fetchall() == [(1,), (2,), (2,)]
    first, second, _ = connections
    for stale in (first, second):
        with pytest.raises(duckdb.ConnectionException, match="closed"):
            stale.execute("FROM numbers")


def test_a_file_at_rest_is_opened_once(existing, opened):
    connections, _ = opened
    for _ in range(3):
        connect(str(existing)).close()
    assert len(connections) == 3


def test_a_file_that_takes_the_place_of_another_is_seen(existing, tmp_path):
    connect(str(existing)).close()
    before = len(os.listdir("/proc/self/fd"))
    existing.unlink()
    write(existing, "CREATE TABLE numbers AS SELECT 7 AS number")
    with connect(str(existing)) as connection:
        assert connection.execute("FROM numbers").fetchall() == [(7,)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_of_this_process_lasts_as_long_as_its_connection(existing):
    with connect(str(existing)):
        connect(str(existing)).close()
        with pytest.raises(subprocess.CalledProcessError):
            write(existing, "INSERT INTO numbers VALUES (2)")
    write(existing, "INSERT INTO numbers VALUES (3)")


@pytest.mark.parametrize("path", [":memory:", "missing.duckdb"])
def test_what_is_no_file_yet_is_opened_as_duckdb_does(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with connect(path) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
