"""Candidates out, in files that other tools read.

A format is one module here with a function ``write_candidates(candidates, path)`` and one line in
``EXPORT_FORMATS``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS

if TYPE_CHECKING:
    from dagster_active_learning.store import PoolStore

EXPORT_FORMATS = ("csv", "parquet")
"""The formats by name, which is also the name of the exporter's module."""


def export_candidates(
    store: PoolStore,
    path: str | PathLike[str],
    *,
    format: str,
    prediction_set: str,
    functions: Sequence[str] = tuple(ACQUISITION_FUNCTIONS),
    limit: int | None = None,
) -> int:
    """Write a prediction set's candidates to a file, in the order of their ranks.

    The file is there as a whole or not at all: it is written beside ``path`` under another name,
    which it then takes over, in place of an older one. Folders on the way are made. Memory holds
    one batch of candidates. Every text is stored as it is, also one that a spreadsheet would take
    for a formula.

    Args:
        store: The pool.
        path: The file to write.
        format: One of ``EXPORT_FORMATS``.
        prediction_set: Name of the set.
        functions: Names of the acquisition functions whose candidates are written, one after the
            other.
        limit: The last rank wanted of each function.

    Returns:
        How many candidates were written. Their columns are those of ``load_candidates``.

    Raises:
        ValueError: If the format or an acquisition function is unknown or the limit is below 1.
        PoolStateError: If the prediction set is not in the database.
    """
    from dagster_active_learning.store import candidate_rows

    if format not in EXPORT_FORMATS:
        raise ValueError(f"unknown format {format!r}: expected one of {', '.join(EXPORT_FORMATS)}")
    exporter = import_module(f"{__name__}.{format}")
    stored = store.prediction_set(prediction_set)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of its own name, whatever else is written here now, and short: `path` may be as long as a
    # file system allows.
    unfinished = target.parent / f".{uuid.uuid4().hex}.unfinished"
    try:
        with candidate_rows(store, stored.prediction_set, functions, limit=limit) as candidates:
            written = exporter.write_candidates(candidates, unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return written
