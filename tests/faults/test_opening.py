"""A commit between another process's look at the file and its lock is not lost."""

import subprocess
import sys
import time

import duckdb
import pytest

pytestmark = pytest.mark.faults

OPEN_AND_WRITE = """
import sys
from dagster_active_learning.store.opening import connect
print("ready", flush=True)
sys.stdin.readline()
with connect(sys.argv[1]) as connection:
    connection.execute("CREATE TABLE other AS SELECT 1")
"""


def test_a_commit_while_another_process_opens_the_file_is_kept(tmp_path):
    database = str(tmp_path / "test.duckdb")
    with duckdb.connect(database) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")
    command = [sys.executable, "-c", OPEN_AND_WRITE, database]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "ready\n"
        # It gets its locks two seconds later than it asks for them.
        delay = ["-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=2s", "-p", str(other.pid)]
        with subprocess.Popen(
            ["strace", "-f", *delay], stderr=subprocess.PIPE, text=True
        ) as delayed:
            assert delayed.stderr
            assert "attached" in delayed.stderr.readline()
            with duckdb.connect(database) as connection:
                other.stdin.write("\n")
                other.stdin.flush()
                time.sleep(0.7)  # it has looked at the file and waits for its lock
                connection.execute("INSERT INTO numbers FROM range(100_000)")
            other.stdin.close()
            assert other.wait() == 0
    with duckdb.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM numbers, other").fetchall() == [(100_000,)]
