"""How parallel kernels are compiled and launched."""

import threading
from collections.abc import Callable
from typing import Any, cast

import numba

# The workqueue threading layer aborts the process when two threads launch at once. A launch uses
# every core, so waiting costs nothing.
launch_lock = threading.Lock()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a parallel kernel, from Numba's cache where there is a writable place for one."""
    return _compiled(function, parallel=True)


def compiled_serial(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel of one thread, which needs no ``launch_lock``, in the same way."""
    return _compiled(function, parallel=False)


def _compiled(function: Callable[..., Any], *, parallel: bool) -> Callable[..., Any]:
    try:
        compiled = numba.njit(parallel=parallel, cache=True)(function)
    except RuntimeError:  # "no locator available": a read-only package and no writable home
        compiled = numba.njit(parallel=parallel)(function)
    return cast("Callable[..., Any]", compiled)
