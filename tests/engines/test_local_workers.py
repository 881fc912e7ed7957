"""Tasks in processes: all results, also where a process is killed; no process is left."""

import multiprocessing
import os
import re
import time

import pytest

from dagster_active_learning import LocalWorkers
from dagster_active_learning.errors import EngineError, PredictionReadError
from worker_tasks import (
    always_killed,
    cannot_be_sent,
    killed_once,
    loaded_packages,
    not_enough_memory,
    process_and_threads,
    refuse,
    square,
    square_or_wait,
)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_has_a_result(workers):
    results = list(LocalWorkers(workers).run(square, range(20)))
    assert sorted(results) == [number * number for number in range(20)]


def test_no_tasks_are_no_results():
    assert list(LocalWorkers(2).run(square, [])) == []


def test_a_worker_is_another_process_with_one_thread():
    ((process, threads),) = LocalWorkers(1).run(process_and_threads, [0])
    assert process != os.getpid()
    assert threads == 1


def test_a_worker_loads_no_more_than_it_needs():
    modules = [f"dagster_active_learning.flow.{name}" for name in ("file_scores", "bucket_scores")]
    assert list(LocalWorkers(1).run(loaded_packages, modules)) == [[], []]


def test_a_task_whose_worker_is_killed_runs_again(tmp_path):
    places, said = [str(tmp_path / name) for name in "abc"], []
    assert sorted(LocalWorkers(2).run(killed_once, places, said.append)) == places
    words = "a worker was lost, with exit code -9; its task begins again: "
    assert sorted(said) == [words + place for place in places]


def test_a_task_that_kills_every_worker_is_an_error_that_names_it():
    with pytest.raises(EngineError, match=r"3 workers were lost .* exit code -9.*: the task"):
        list(LocalWorkers(2).run(always_killed, ["the task"]))


def test_a_task_that_cannot_get_its_memory_is_named():
    with pytest.raises(EngineError, match="memory ran out over the task: use fewer workers"):
        list(LocalWorkers(1).run(not_enough_memory, ["the task"]))


def test_the_error_of_a_task_is_raised_and_ends_the_others():
    with pytest.raises(PredictionReadError, match="3 is no file"):
        list(LocalWorkers(2).run(refuse, range(100)))


def test_an_error_that_nobody_expects_says_where_it_was():
    with pytest.raises(TypeError) as error:
        list(LocalWorkers(1).run(square, ["the task"]))
    (note,) = error.value.__notes__
    assert re.match(r"in a worker, over the task:\n(.*\n)*.*in square\n", note)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_ends_the_processes(tmp_path):
    results = LocalWorkers(3).run(square_or_wait, [*[str(tmp_path)] * 2, 5])
    assert next(results) == 25
    while len(processes := list(tmp_path.iterdir())) < 2:
        time.sleep(0.05)
    results.close()
    assert not any(is_running(int(path.name)) for path in processes)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", "3 workers were lost .* exit code 3,"),
        ("result", "local object"),
        ("error", "^ValueError: with a lock\nin a worker, over error:\n"),
        ("two", "^NeedsTwo: one and two\nin a worker, over two:\n"),
    ],
)
def test_what_cannot_be_sent_is_said_in_words(how, words):
    with pytest.raises(Exception, match=words) as error:
        list(LocalWorkers(1).run(cannot_be_sent, [how]))
    assert "memory ran out" not in str(error.value) or how == "exit"
    assert not multiprocessing.active_children()
