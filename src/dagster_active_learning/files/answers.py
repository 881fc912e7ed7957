"""Questions to filesystems: several at a time, each answered within a time, or an error.

The packages of filesystems try again where a server accepts a connection and says nothing, some
of them for half an hour. Here they have a minute, whatever they do in it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import redacted, shown_address

Item = TypeVar("Item")
Result = TypeVar("Result")

FILES_AT_A_TIME = 16
"""Files that are looked at at a time: one at an address takes some hundredths of a second."""

SECONDS_FOR_ANSWER = 60.0
"""For how long a filesystem is asked about a file, or for bytes of it."""

SECONDS_FOR_LISTING = 120.0
"""For how long it is asked for the names in a folder: those of 500,000 objects take as long."""

BYTES_PER_SECOND = 2**18
"""What a filesystem has to give or take besides: less is as good as nothing."""


def answer(
    function: Callable[..., Result],
    *arguments: Any,
    seconds: float | None = None,
    size: int = 0,
) -> Result:
    """What a function of a filesystem returns.

    Args:
        function: The function; where it is late it goes on in a thread that nobody waits for.
        arguments: Its arguments.
        seconds: How long it may take, by default ``SECONDS_FOR_ANSWER``.
        size: The bytes that it reads or writes, for which it has more time.

    Raises:
        TimeoutError: If it takes longer.
    """
    seconds = SECONDS_FOR_ANSWER if seconds is None else seconds
    seconds += max(size, 0) / BYTES_PER_SECOND
    asked = Future[Result]()
    # A thread of its own, which does not keep the process alive.
    Thread(target=_fill, args=(asked, function, *arguments), daemon=True).start()
    if not _is_done(asked, seconds):
        raise TimeoutError(
            f"no answer within {seconds:,.0f} seconds; expected a server that answers: see whether "
            "it runs and can be reached from here, and run the step again"
        )
    return asked.result()


def answers(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function for some items, in their order, of several at a time.

    Whoever stops in between, or is ended, waits for none of them.
    """
    waiting: deque[Future[Result]] = deque()
    tasks = SimpleQueue[tuple[Future[Result], Item] | None]()

    def work() -> None:
        while (task := tasks.get()) is not None:
            future, item = task
            _fill(future, function, item)

    threads: list[Thread] = []
    try:
        for item in items:
            if len(threads) < FILES_AT_A_TIME:
                threads.append(Thread(target=work, daemon=True))
                threads[-1].start()
            future = Future[Result]()
            tasks.put((future, item))
            waiting.append(future)
            if len(waiting) == FILES_AT_A_TIME:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        for _ in threads:
            tasks.put(None)


def _result(asked: Future[Result]) -> Result:
    _is_done(asked, math.inf)
    return asked.result()


def _is_done(asked: Future[Any], seconds: float) -> bool:
    """Whether there is a result within a time.

    A signal that comes just before a wait is not seen until it is over: it is a short one.
    """
    end = time.monotonic() + seconds
    while not wait([asked], min(1.0, max(end - time.monotonic(), 0.0))).done:
        if time.monotonic() >= end:
            return False
    return True


def _fill(future: Future[Result], function: Callable[..., Result], *arguments: Any) -> None:
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)


@contextmanager
def named_errors(
    path: str, verb: str = "read", kind: type[Exception] = PredictionReadError
) -> Generator[None]:
    """Errors of a filesystem name the file, and hold no secret.

    Those of libraries do not name it, and some cannot be sent to another process.

    Raises:
        PredictionReadError: In place of any error but an ImportError; or one of another kind.
    """
    try:
        yield
    except (ImportError, PredictionReadError):
        raise
    except FileNotFoundError as error:
        if verb != "read":
            missing = redacted(f"{error}", path)
            raise kind(f"{shown_address(path)} cannot be {verb}: {missing}") from None
        raise kind(
            f"{shown_address(path)} is gone: it is read in place; put it back, or materialize the "
            "predictions again"
        ) from None
    except Exception as error:
        text = redacted(f"{type(error).__name__}: {error}", path)
        raise kind(f"{shown_address(path)} cannot be {verb}: {text}") from None
