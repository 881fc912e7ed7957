"""Servers that accept a connection and stall, and what waits for them."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import fsspec
import pytest

from dagster_active_learning.errors import PredictionReadError, StorageError
from dagster_active_learning.files import answers
from dagster_active_learning.files.answers import answer
from dagster_active_learning.files.in_place import FileElsewhere, FileInPlace, check_all
from dagster_active_learning.files.storage import Storage

BODY = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "a"\r\n\r\n'

STALLS = {"before the answer": b"", "in the body": BODY + b"a" * 10}


@contextmanager
def stalling_server(beginning):
    """A server that takes all connections, and of each answer gives the beginning alone."""
    listening = socket.create_server(("127.0.0.1", 0))
    held = []

    def accept():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            held.append(connection)
            if beginning:
                connection.recv(65_536)
                connection.sendall(beginning)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in held:
            connection.close()
        thread.join()


@pytest.fixture
def stalling(request, monkeypatch):
    """S3 at a server that stalls, which is waited for half a second."""
    monkeypatch.setattr(answers, "SECONDS_FOR_ANSWER", 0.5)
    with stalling_server(STALLS[request.param]) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").connect()
        yield
        fsspec.get_filesystem_class("s3").clear_instance_cache()


ADDRESS = "s3://bucket/may.parquet"

NAMED = r"s3://bucket/may\.parquet cannot be {}: TimeoutError: no answer within \d+ seconds; expect"


@pytest.mark.parametrize("stalling", STALLS, indirect=True)
def test_a_file_whose_server_stalls_is_named(stalling):
    file = FileElsewhere(ADDRESS, {"name": "bucket/may.parquet", "size": 1000, "ETag": '"a"'})
    with pytest.raises(PredictionReadError, match=NAMED.format("read")):
        file.read(10)
    with pytest.raises(StorageError, match=NAMED.format("written")):
        Storage("s3://bucket").write("may.parquet", b"x")
    with pytest.raises(PredictionReadError, match=NAMED.format("read")):
        Storage("s3://bucket").read("may.parquet")


@pytest.mark.parametrize("stalling", ["before the answer"], indirect=True)
def test_a_check_of_files_whose_server_stalls_names_one(stalling):
    with pytest.raises(PredictionReadError, match=NAMED.format("read")):
        check_all([FileInPlace(ADDRESS, 1000, '"a"')] * 100)


@pytest.fixture
def interruptible():
    """Who starts processes in the background, such as a shell, lets them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_who_waits_for_an_answer_can_be_interrupted():
    here = threading.get_ident()
    threading.Timer(0.2, signal.pthread_kill, [here, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        answer(threading.Event().wait)
    threading.Timer(0.2, signal.pthread_kill, [here, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        list(answers.answers(lambda _: answer(threading.Event().wait), range(100)))


NOBODY_WAITS = """
import threading
from dagster_active_learning.files.answers import answer

answer(threading.Event().wait, seconds=0.1)
"""


def test_a_process_ends_whose_question_has_no_answer():
    done = subprocess.run(
        [sys.executable, "-c", NOBODY_WAITS], check=False, capture_output=True, text=True
    )
    assert "TimeoutError: no answer within 0 seconds" in done.stderr


def test_results_come_in_order_and_so_does_an_error():
    def root(number):
        time.sleep(0.001 * (number % 3))
        return number**0.5 if number != 70 else 1 / 0

    results = answers.answers(root, range(100))
    assert [next(results) for _ in range(70)] == [number**0.5 for number in range(70)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_large_reads_and_writes_have_more_time(monkeypatch):
    monkeypatch.setattr(answers, "SECONDS_FOR_ANSWER", 0.1)
    assert answer(lambda: time.sleep(0.5) or "read", size=2**20) == "read"
    with pytest.raises(TimeoutError):
        answer(time.sleep, 0.5)
