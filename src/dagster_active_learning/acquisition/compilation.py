"""Numba's compiler, with its cache where there is a writable place for one."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, cast

import numba

# The workqueue threading layer aborts the process when two threads launch at once. A launch uses
# every core, so waiting costs nothing.
launch_lock = threading.Lock()


def parallel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of several threads, which is called under the ``launch_lock``."""
    return _cached(function, parallel=True)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of one thread, which lets other threads run meanwhile."""
    return _cached(function, nogil=True, error_model="numpy")


@contextmanager
def one_thread() -> Generator[None]:
    """Run kernels of the block in the calling thread alone, with the same results.

    The threads of OpenMP spin for a while after each launch: beside a reader and a database that
    need every core, they took a sixth of all processor time for nothing.
    """
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _cached(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    try:
        return cast("Callable[..., Any]", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # "no locator available": a read-only package and no writable home
        return cast("Callable[..., Any]", numba.njit(**options)(function))


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function into those that call it: a call counts the references of its arrays."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options |= {"error_model": "numpy", "forceinline": True}
    return cast("Callable[..., Any]", numba.njit(**options)(function))
