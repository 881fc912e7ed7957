"""Which files a pool's candidates are exported to, as a user writes it down."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import dagster as dg

from dagster_active_learning.definitions.metadata import Metadata, rows_table
from dagster_active_learning.definitions.partitions import check_path, literal_path
from dagster_active_learning.exporters import EXPORTERS, export_candidates
from dagster_active_learning.files.addresses import is_address

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore

ExportPaths: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]]
"""One path or several."""


class CandidateFiles:
    """The files that a pool's candidates are written to, one a format.

    Args:
        paths: Their paths, one or several; the suffix says the format: ``.parquet`` or ``.csv``. In
            a pool with partitions ``{partition_key}`` stands in each for the partition key.
        partitioned: Whether the pool has partitions.

    Raises:
        ValueError: If there is no path, two have the same format, a suffix is of no format, a path
            is an address or does not say what the partitions need.
    """

    def __init__(self, paths: ExportPaths, *, partitioned: bool) -> None:
        listed = [paths] if isinstance(paths, (str, PathLike)) else paths
        self.paths = [fspath(path) for path in listed]
        self._partitioned = partitioned
        expected = " or ".join(f".{name}" for name in EXPORTERS)
        formats = [_format(path) for path in self.paths]
        if not formats or len(set(formats)) != len(formats) or not {*EXPORTERS} >= {*formats}:
            raise ValueError(
                f"export is {self.paths!r}, expected one file a format, with the suffix {expected}"
            )
        for path in self.paths:
            if is_address(path):
                raise ValueError(
                    f"export is the address {path!r}, expected a local path: let an asset that "
                    "depends on exported_candidates copy the file to where it is wanted"
                )
            check_path(path, partitioned=partitioned, of="export has")

    def write(self, store: PoolStore, prediction_set: str, functions: Sequence[str]) -> Metadata:
        """Write a prediction set's candidates of some functions, and say where they are."""
        files: list[dict[str, str | int]] = []
        rows = 0
        for path in self._of(prediction_set):
            rows = export_candidates(
                store,
                path,
                exporter=_format(path),
                prediction_set=prediction_set,
                functions=functions,
            )
            content = Path(path)
            files.append(
                {
                    "format": _format(path),
                    "path": path,
                    "rows": rows,
                    "bytes": content.stat().st_size,
                    "sha256": _sha256(content),
                }
            )
        return {
            "dagster/row_count": rows,
            "files": rows_table(files),
            **{_format(path): dg.MetadataValue.path(path) for path in self._of(prediction_set)},
        }

    def _of(self, prediction_set: str) -> Iterator[str]:
        for path in self.paths:
            yield literal_path(path, prediction_set) if self._partitioned else path


def _format(path: str) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
