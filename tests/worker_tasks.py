"""Functions that tests give to workers, which find them by name."""

import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.storage import Storage


def square(number):
    return number * number


def process_and_threads(_):
    from numba.core import config

    return os.getpid(), config.NUMBA_NUM_THREADS


def loaded_packages(module):
    """Large packages that are loaded by a module, by pyarrow's arrays and by Numba's functions."""
    import_module(module)
    pa.array(np.empty(0))
    import_module("numba.np.arraymath")
    return sorted({"dagster", "duckdb", "pandas", "polars", "scipy"} & set(sys.modules))


def killed_once(place):
    """Ends its process the first time that it is called with a path."""
    path = Path(place)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return place


def killed_at_its_end(function, notes, name, task):
    """Run a task of a set, and note that; one of them is killed before it says that it is done."""
    Path(notes, f"{task.name} {uuid4().hex}").touch()
    if task.name == name and len(list(Path(notes).glob(f"{name} *"))) == 1:
        write = Storage.write

        def dying(storage, file, content):
            if file == f"done/{name}.json":
                os.kill(os.getpid(), signal.SIGKILL)
            write(storage, file, content)

        Storage.write = dying
    return function(task)


def always_killed(_):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number):
    if number == 3:
        raise PredictionReadError("3 is no file")
    time.sleep(0.01)
    return number


def refuse_and_note(folder):
    """Refuse a file, and write down that it did."""
    Path(folder, uuid4().hex).touch()
    raise PredictionReadError(f"{folder} is no file")


def note_process(folder):
    """Write down which process it is, and take its time."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def square_or_wait(task):
    return square(task) if isinstance(task, int) else note_process(task)


def read_variable(name):
    return os.environ.get(name)


class NeedsTwo(Exception):  # noqa: N818 - an error of somebody else's
    """It cannot be made again of what is pickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def cannot_be_sent(how):
    """Ends, gives or raises what cannot be sent."""
    if how == "exit":
        raise SystemExit(3)
    if how == "result":
        return lambda: None
    if how == "error":
        error = ValueError("with a lock")
        error.lock = threading.Lock()  # pyright: ignore[reportAttributeAccessIssue]
        raise error
    raise NeedsTwo("one", "two")


def not_enough_memory(_):
    raise MemoryError


def not_installed(_):
    raise ModuleNotFoundError("No module named 's3fs'")


def variables(names):
    return {name: os.environ.get(name) for name in names}


def ray_name(_):
    import ray

    return ray.get_runtime_context().get_task_name()


def note_node(place):
    """Write down on which node of Ray it begins, and take a moment."""
    import ray

    with Path(place).open("a") as notes:
        notes.write(f"{ray.get_runtime_context().get_node_id()}\n")
    time.sleep(0.3)
    return place
