"""Work on the next batch while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

BATCHES_AHEAD = 2
"""Enough that neither side waits for long; each holds ``BATCH_BYTES`` at the most."""

Batch = TypeVar("Batch")


def read_ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches, made in a thread of their own, which ends with the iterator.

    What is raised there is raised here, in the place of the batch.
    """
    iterator = iter(batches)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read_ahead") as thread:
        waiting: deque[Future[Batch | None]] = deque(
            thread.submit(next, iterator, None) for _ in range(BATCHES_AHEAD)
        )
        try:
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, iterator, None))
                yield batch
        finally:
            for future in waiting:
                future.cancel()
