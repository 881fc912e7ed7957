"""Tasks in processes of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from dagster_active_learning.errors import ActiveLearningError, EngineError, SettingError

if TYPE_CHECKING:
    from dagster_active_learning.flow.engine import Result, Task
    from dagster_active_learning.flow.progress import Report

ENDING_SECONDS = 5.0
"""For how long the exit code of a lost process is waited for."""

TRIES = 3
"""How often a task is begun whose worker is gone before it has ended."""

ENVIRONMENT = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
"""What a worker's environment has: there are as many workers as should run at a time."""

NOT_LOADED = frozenset({"pandas", "scipy"})
"""Packages that pyarrow and Numba load where they find them, and tasks do not use: they took a
third of the start of a worker."""


@dataclass(frozen=True)
class LocalWorkers:
    """A pool of processes; a task whose process is killed is run again in a new one.

    Args:
        workers: How many tasks run at a time, each in a process with one thread; by default one
            per processor.

    Raises:
        SettingError: If it is no number of at least 1.

    Example:
        >>> sorted(LocalWorkers(workers=2).run(abs, [-3, 1, -2]))
        [1, 2, 3]
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise SettingError(
                "engine", f"workers is {self.workers!r}, expected an integer of at least 1"
            )

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        report: Report = lambda _: None,
    ) -> Generator[Result, Any, None]:
        """The results of all tasks, each as soon as it is there; see ``flow.engine.Engine``."""
        most = self.workers or os.cpu_count() or 1
        waiting = deque((task, 1) for task in tasks)
        running: dict[Connection, tuple[_Worker, Any, int]] = {}
        idle: list[_Worker] = []
        try:
            while waiting or running:
                while waiting and len(running) < most:
                    task, tries = waiting.popleft()
                    worker = idle.pop() if idle else _Worker(function)
                    running[worker.connection] = worker, task, tries
                    worker.begin(task)
                for connection in wait(list(running)):
                    worker, task, tries = running.pop(connection)  # pyright: ignore[reportArgumentType]
                    try:
                        result, error = worker.connection.recv()
                    except (EOFError, OSError):
                        worker.end(seconds=ENDING_SECONDS)
                        if tries == TRIES:
                            raise EngineError(
                                f"{tries} workers were lost over one task, the last with exit code "
                                f"{worker.exit_code}, which is minus the signal that ended it (9 "
                                "where memory ran out), or 1 where a script has no `if __name__ == "
                                f'"__main__":`: {task}; where memory ran out, use fewer workers, '
                                "or files with smaller row groups"
                            ) from None
                        report(
                            f"a worker was lost, with exit code {worker.exit_code}; its task "
                            f"begins again: {task}"
                        )
                        waiting.append((task, tries + 1))
                        continue
                    idle.append(worker)
                    if error is not None:
                        raise error
                    yield result
        finally:
            for worker in [*idle, *(worker for worker, _, _ in running.values())]:
                worker.end()


class _Worker:
    """A process that runs one task after the other."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # A forked process would have locks that threads of this one hold.
        context = multiprocessing.get_context("spawn")
        self.connection, end = context.Pipe()
        self._process = context.Process(target=_work, args=(end,), daemon=True)
        self._process.start()
        end.close()
        self._function: Callable[[Any], Any] | None = function

    def begin(self, task: Any) -> None:
        """Send a task, the first one with the function before it."""
        try:
            if self._function is not None:
                self.connection.send(self._function)
                self._function = None
            self.connection.send(task)
        except (BrokenPipeError, ConnectionError):
            pass  # Receiving the result finds the process gone.

    @property
    def exit_code(self) -> int | None:
        """Exit code of a process that has ended."""
        return self._process.exitcode

    def end(self, seconds: float = 0.0) -> None:
        """End the process, whatever it does; one that ends by itself has some seconds for it."""
        self.connection.close()
        self._process.join(seconds)
        self._process.kill()
        self._process.join()


def sendable(error: Exception, task: Any) -> Exception:
    """What a task has raised, as it can be sent to another process and says there where it was."""
    if isinstance(error, MemoryError):
        return EngineError(
            f"memory ran out over {task}: use fewer workers, or files with smaller row groups"
        )
    if not isinstance(error, ActiveLearningError):
        place = "".join(traceback.format_tb(error.__traceback__))
        error.add_note(f"in a worker, over {task}:\n{place}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was made in this line
    except Exception:
        # Some errors cannot be sent, or not be made again of what is sent.
        notes = "\n".join(getattr(error, "__notes__", []))
        return EngineError(f"{type(error).__name__}: {error}\n{notes}")
    return error


def _work(connection: Connection) -> None:
    """Run the tasks of a connection until its other end is closed, also by a killed process."""
    # Before anything is loaded that reads it; the function brings that along.
    os.environ.update(ENVIRONMENT)
    # Who presses Ctrl-C means the process that gave the tasks, and that ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.meta_path.insert(0, _NotLoaded())
    # What is loaded stays: to look through it for garbage took a tenth of the time.
    gc.disable()
    try:
        function = connection.recv()
        import pyarrow as pa

        gc.freeze()
        gc.enable()

        pa.set_cpu_count(1)
        while True:
            connection.send_bytes(_answer(function, connection.recv()))
    except (EOFError, ConnectionError):
        return


class _NotLoaded(MetaPathFinder):
    """Says of the packages ``NOT_LOADED`` that they are not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Look for a module, as ``import`` does.

        Raises:
            ModuleNotFoundError: If it is one of these packages.
        """
        if fullname in NOT_LOADED:
            raise ModuleNotFoundError(f"a worker does not load {fullname}", name=fullname)


def _end_with_parent() -> None:
    """End this process when the one that gave the tasks is gone, whatever it waits for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(function: Callable[[Any], Any], task: Any) -> bytes:
    """The pickled result of a task, and what it has raised; one of the two is None."""
    try:
        return pickle.dumps((function(task), None))
    except Exception as error:
        return pickle.dumps((None, sendable(error, task)))
