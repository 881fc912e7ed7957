"""Numba's compiler, with its cache where there is a writable place for one."""

from collections.abc import Callable
from typing import Any, cast

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of one thread, which lets other threads run meanwhile."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast("Callable[..., Any]", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # "no locator available": a read-only package and no writable home
        return cast("Callable[..., Any]", numba.njit(**options)(function))


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function into those that call it: a call counts the references of its arrays."""
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options |= {"error_model": "numpy", "forceinline": True}
    return cast("Callable[..., Any]", numba.njit(**options)(function))
