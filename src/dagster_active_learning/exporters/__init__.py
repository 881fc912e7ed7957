"""Candidates and labels out, in files that other tools read.

An exporter is one module with a function ``write_candidates(candidates, path)`` and one line in
``EXPORTERS``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.files.addresses import shown_address
from dagster_active_learning.files.temporary import temporary_folder

if TYPE_CHECKING:
    from dagster_active_learning.exporters.candidates import Candidates
    from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class Exporter:
    """A module that writes candidates to a file of one format.

    Attributes:
        module: Name of the module. Its function ``write_candidates(candidates, path)`` takes
            ``Candidates``, writes a new file and returns the number of candidates written. It is
            imported when the first such file is written.
        suffix: The suffix of its files, in lower case. Several exporters may have the same. None
            where only the exporter's name says that a file is to be its own.
    """

    module: str
    suffix: str | None = None


EXPORTERS: dict[str, Exporter] = {
    "csv": Exporter(f"{__name__}.csv", ".csv"),
    "parquet": Exporter(f"{__name__}.parquet", ".parquet"),
    "spreadsheet": Exporter(f"{__name__}.spreadsheet"),
    "coco": Exporter(f"{__name__}.coco"),
    "cvat": Exporter(f"{__name__}.cvat"),
    "cvat_manifest": Exporter(f"{__name__}.cvat_manifest"),
    "label_studio": Exporter(f"{__name__}.label_studio"),
    "label_studio_config": Exporter(f"{__name__}.label_studio_config"),
    "yolo": Exporter(f"{__name__}.yolo"),
}
"""The exporters by name. An exporter of your own is one more entry."""

LABEL_FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "coco"}
"""The formats of files of labels by their suffixes; ``labels`` has a function for each."""


def exporter_of_path(path: str | PathLike[str]) -> str:
    """The name of the only exporter that writes files with a path's suffix.

    Raises:
        ValueError: If no exporter has the suffix, or several have it.
    """
    shown = shown_address(fspath(path))
    suffix = Path(path).suffix.lower()
    names = [name for name, exporter in EXPORTERS.items() if exporter.suffix == suffix]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(
            f"{shown!r} may be a file of several exporters, expected the name of one of "
            f"them: {', '.join(names)}"
        )
    suffixes = dict.fromkeys(each.suffix for each in EXPORTERS.values() if each.suffix)
    raise ValueError(
        f"{shown!r} is a file of no exporter, expected the suffix {' or '.join(suffixes)}"
    )


def export_candidates(
    store: PoolStore,
    path: str | PathLike[str],
    *,
    exporter: str,
    prediction_set: str,
    functions: Sequence[str] | None = None,
    limit: int | None = None,
) -> int:
    """Write a prediction set's candidates to a file, in the order of their ranks.

    The file is there as a whole or not at all: it is written beside ``path`` under another name,
    which it then takes over, in place of an older one. Folders on the way are made. Memory holds
    one batch of candidates or of their predictions. Images that have their label by now, or have
    left the manifest, are left out; ``done_candidates`` counts them.

    Args:
        store: The pool.
        path: The file to write.
        exporter: Name of one of ``EXPORTERS``.
        prediction_set: Name of the set.
        functions: Names of the acquisition functions whose candidates are written, one after the
            other; all without it.
        limit: The last rank wanted of each function.

    Returns:
        The number of candidates written.

    Raises:
        ValueError: If the exporter or an acquisition function is unknown or the limit is below 1.
        PoolStateError: If the prediction set is not in the database, a ranking of it is of other
            predictions or scores than are stored, or the file is the database.
    """
    from dagster_active_learning.exporters.candidates import Candidates
    from dagster_active_learning.store import prediction_sets
    from dagster_active_learning.store.rankings import check_rankings

    stored = prediction_sets.prediction_set(store, prediction_set)
    check_rankings(
        store, prediction_set, [*ACQUISITION_FUNCTIONS] if functions is None else functions
    )
    return _write(
        store, path, exporter, lambda closing: Candidates(store, stored, functions, limit, closing)
    )


def export_batch(
    store: PoolStore,
    path: str | PathLike[str],
    *,
    exporter: str,
    batch: int,
    prediction_set: str,
    before_replacing: Callable[[], None] = lambda: None,
) -> int:
    """Write the images of a labeling batch to a file, as ``export_candidates`` writes candidates.

    Args:
        store: The pool.
        path: The file to write.
        exporter: Name of one of ``EXPORTERS``.
        batch: The number of the batch.
        prediction_set: Name of the set whose ranking it was made of.
        before_replacing: Called when the file is written and about to take the name ``path``.

    Returns:
        The number of images written.

    Raises:
        ValueError: If the exporter is unknown.
        PoolStateError: If the prediction set is not in the database or the file is the database.
    """
    from dagster_active_learning.exporters.candidates import BatchCandidates
    from dagster_active_learning.store import prediction_sets

    stored = prediction_sets.prediction_set(store, prediction_set)
    return _write(
        store,
        path,
        exporter,
        lambda closing: BatchCandidates(store, stored, batch, closing),
        before_replacing,
    )


def export_labels(store: PoolStore, path: str | PathLike[str]) -> int:
    """Write the labels of a pool to a file: as a whole or not at all.

    Args:
        store: The pool.
        path: The file to write. Its suffix, one of ``LABEL_FORMATS``, says the format: a manifest
            of the labeled images, or the objects that people see in images.

    Returns:
        The number of images written.

    Raises:
        PoolStateError: If the file is the database.
    """
    from dagster_active_learning.exporters import labels

    write = getattr(labels, f"write_{LABEL_FORMATS[Path(path).suffix.lower()]}")
    return _write_file(store, path, lambda unfinished: write(store, unfinished))


def _write(
    store: PoolStore,
    path: str | PathLike[str],
    exporter: str,
    candidates: Callable[[ExitStack], Candidates],
    before_replacing: Callable[[], None] = lambda: None,
) -> int:
    """Write candidates to a new file, which then takes the place of an older one."""
    if exporter not in EXPORTERS:
        raise ValueError(f"unknown exporter {exporter!r}: expected one of {', '.join(EXPORTERS)}")
    module = import_module(EXPORTERS[exporter].module)

    def write(unfinished: Path) -> int:
        with ExitStack() as closing:
            return module.write_candidates(candidates(closing), unfinished)

    return _write_file(store, path, write, before_replacing)


def _write_file(
    store: PoolStore,
    path: str | PathLike[str],
    write: Callable[[Path], int],
    before_replacing: Callable[[], None] = lambda: None,
) -> int:
    """Write a new file, which then takes the place of an older one."""
    target = Path(path)
    if store.is_database_file(target):
        raise PoolStateError(
            f"nothing can be exported to {target}, which is the database itself: name another file"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of its own name, whatever else is written here now, and short: `path` may be as long as a
    # file system allows.
    with temporary_folder(target.parent, ".unfinished_") as folder:
        unfinished = folder / "export"
        written = write(unfinished)
        before_replacing()
        os.replace(unfinished, target)
    return written
