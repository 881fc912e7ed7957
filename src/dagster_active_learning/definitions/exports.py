"""The files that a pool's candidates and labels are exported to, as a user writes them down."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dagster_active_learning.definitions.partitions import check_path, literal_path
from dagster_active_learning.errors import SettingError
from dagster_active_learning.exporters import (
    EXPORTERS,
    LABEL_FORMATS,
    export_batch,
    export_candidates,
    export_labels,
    exporter_of_path,
)
from dagster_active_learning.files.addresses import at_home, is_address, shown_address

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore

FilePath: TypeAlias = str | PathLike[str]

Export: TypeAlias = FilePath | Sequence[FilePath] | Mapping[str, FilePath]
"""A path, several, or paths by the names of their exporters."""


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written: in which format, where, and what it holds."""

    format: str
    path: str
    rows: int
    bytes: int
    sha256: str


class CandidateFiles:
    """The files that a pool's candidates are written to, one per exporter.

    Args:
        export: Their paths: by the names of their exporters, or one or several of which the suffix
            says the exporter, such as ``.parquet`` or ``.csv``. In a pool with partitions
            ``{partition_key}`` stands in each for the partition key.
        partitioned: Whether the pool has partitions.

    Attributes:
        paths: The paths by the names of their exporters.

    Raises:
        SettingError: If there is no path, two have the same exporter, an exporter is unknown, no
            suffix says it, a path is an address or does not say what the partitions need.
    """

    def __init__(self, export: Export, *, partitioned: bool) -> None:
        self.paths = _paths_by_exporter(export)
        self._partitioned = partitioned
        for path in self.paths.values():
            _check_local(path, "exported_candidates")
            check_path("export", path, partitioned=partitioned, of="export has")

    def write(
        self, store: PoolStore, prediction_set: str, functions: Sequence[str]
    ) -> list[WrittenFile]:
        """Write a prediction set's candidates of some functions."""
        written: list[WrittenFile] = []
        for exporter, setting in self.paths.items():
            path = literal_path(setting, prediction_set) if self._partitioned else setting
            rows = export_candidates(
                store,
                path,
                exporter=exporter,
                prediction_set=prediction_set,
                functions=functions,
            )
            written.append(_written(exporter, path, rows))
        return written

    def write_batch(
        self,
        store: PoolStore,
        batch: int,
        prediction_set: str,
        before_replacing: Callable[[], None],
    ) -> list[WrittenFile]:
        """Write a labeling batch, made of the ranking of a prediction set.

        ``before_replacing`` is called when a file is about to be there for others.
        """
        return [
            _written(
                exporter,
                path,
                export_batch(
                    store,
                    path,
                    exporter=exporter,
                    batch=batch,
                    prediction_set=prediction_set,
                    before_replacing=before_replacing,
                ),
            )
            for exporter, path in self.paths.items()
        ]


class LabelFiles:
    """The files that a pool's labels are written to.

    Args:
        export: Their paths; the suffix says the format: ``.csv`` or ``.parquet`` for a manifest of
            the labeled images, ``.json`` for a COCO file of objects.

    Attributes:
        paths: The paths by the names of their formats.

    Raises:
        SettingError: If there is no path, two have the same format, a suffix says none, or a path
            is an address.
    """

    def __init__(self, export: FilePath | Sequence[FilePath]) -> None:
        paths = [at_home(path) for path in _listed(export)]
        self.paths = {LABEL_FORMATS.get(Path(path).suffix.lower(), ""): path for path in paths}
        for path in paths:
            _check_local(path, "labels")
        if "" in self.paths or not paths or len(self.paths) != len(paths):
            raise SettingError(
                "export",
                f"export is {paths!r}, expected files of labels with the suffixes "
                f"{', '.join(LABEL_FORMATS)}, one of each at the most",
            )

    def write(self, store: PoolStore) -> list[WrittenFile]:
        """Write the labels to each file."""
        return [
            _written(name, path, export_labels(store, path)) for name, path in self.paths.items()
        ]


def _listed(export: FilePath | Sequence[FilePath]) -> Sequence[FilePath]:
    return [export] if isinstance(export, (str, PathLike)) else export


def _check_local(path: str, asset: str) -> None:
    if is_address(path):
        raise SettingError(
            "export",
            f"export is the address {shown_address(path)!r}, expected a local path: let an asset "
            f"that depends on {asset} copy the file to where it is wanted",
        )


def _written(exporter: str, path: str, rows: int) -> WrittenFile:
    content = Path(path)
    return WrittenFile(exporter, path, rows, content.stat().st_size, _sha256(content))


def _paths_by_exporter(export: Export) -> dict[str, str]:
    if isinstance(export, Mapping):
        unknown = [name for name in export if name not in EXPORTERS]
        shown = {name: shown_address(fspath(path)) for name, path in export.items()}
        if unknown or not export:
            raise SettingError(
                "export",
                f"export is {shown!r}, expected paths by the names of exporters: "
                f"{', '.join(EXPORTERS)}",
            )
        return {name: at_home(path) for name, path in export.items()}
    paths = [at_home(path) for path in _listed(export)]
    shown_paths = [shown_address(path) for path in paths]
    try:
        exporters = [exporter_of_path(path) for path in paths]
    except ValueError as error:
        raise SettingError(
            "export", f"export is {shown_paths!r}, expected one file per format: {error}"
        ) from error
    if not exporters or len(set(exporters)) != len(exporters):
        raise SettingError(
            "export",
            f"export is {shown_paths!r}, expected one file per format: {', '.join(EXPORTERS)}",
        )
    return dict(zip(exporters, paths, strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
