"""Partitions of a pool: each key is a prediction set, and may stand in the names of its files."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from dagster_active_learning.definitions.metadata.tables import Metadata
from dagster_active_learning.errors import PredictionReadError, SettingError
from dagster_active_learning.files.addresses import is_address, shown_address
from dagster_active_learning.text import shown

PREDICTION_SET = "default"
"""The prediction set of a pool that is not partitioned."""

PLACEHOLDER = "{partition_key}"
"""The place of the partition key in the path of prediction files."""

NAME_BYTES, PATH_BYTES = 255, 4_096
"""Length that a file's name and its path can have on nearly every file system."""


@dataclass(frozen=True)
class Materialized:
    """A prediction set of an asset that is in the database.

    Attributes:
        metadata: Its metadata.
        data_version: The hash of its content, where it is known.
    """

    metadata: Metadata
    data_version: str | None = None

    def with_metadata(self, more: Metadata) -> Materialized:
        """The same with more metadata, in place of what has the same names."""
        return replace(self, metadata={**self.metadata, **more})


Done: TypeAlias = dict[dg.AssetKey, dict[str, Materialized]]
"""The prediction sets that are done, by asset and name."""


def check_partitions_def(partitions_def: dg.PartitionsDefinition | None) -> None:
    """Raise SettingError unless a partition key can be the name of a prediction set."""
    if partitions_def is None:
        return
    if isinstance(partitions_def, dg.MultiPartitionsDefinition):
        raise SettingError(
            "partitions_def",
            "partitions_def has several dimensions, expected one, as the partition key is the name "
            "of the prediction set: use static, dynamic or time partitions",
        )
    if not isinstance(partitions_def, dg.PartitionsDefinition):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            "partitions_def",
            f"partitions_def is {partitions_def!r}, expected a PartitionsDefinition",
        )


def check_path(setting: str, path: str, *, partitioned: bool, of: str) -> None:
    """Raise SettingError unless the path of files, one or more per prediction set, says which set.

    The path of a pool with partitions has ``{partition_key}``, and no other braces; that of a pool
    without partitions has no ``{partition_key}``.
    """
    shown_path = shown_address(path)
    if not partitioned:
        if PLACEHOLDER in path:
            raise SettingError(
                setting,
                f"{of} the path {shown_path!r}, but the pool has no partitions: set "
                f"partitions_def, or leave {PLACEHOLDER} out",
            )
        return
    if PLACEHOLDER not in path:
        raise SettingError(
            setting,
            f"{of} the path {shown_path!r}, which is the same for every partition: put "
            f"{PLACEHOLDER} where the partition key stands in the names of the files",
        )
    rest = path.replace(PLACEHOLDER, "")
    if "{" in rest or "}" in rest:
        raise SettingError(
            setting, f"{of} the path {shown_path!r}: expected no braces but those of {PLACEHOLDER}"
        )


def partition_path(path: str, partition_key: str) -> str:
    """The path of one partition's prediction files.

    Wildcards are those of ``path``: in a partition key ``*`` is a character like any other.

    Raises:
        PredictionReadError: If the key would lead out of the folders that ``path`` names.
    """
    literal = literal_path(path, partition_key)
    if os.path.exists(literal):
        # A folder of files, for one, is known as such by its own name only.
        return literal
    return path.replace(PLACEHOLDER, glob.escape(partition_key))


def literal_path(path: str, partition_key: str) -> str:
    """The path with the partition key in it, as it is.

    Raises:
        PredictionReadError: If the key would lead out of the folders that ``path`` names, or is
            longer than a file's name can be.
    """
    parts = partition_key.split("/")
    if any(part in ("", ".", "..") for part in parts) or set(partition_key) & {"\\", "\0"}:
        raise PredictionReadError(
            f"the partition key {partition_key!r} cannot stand in the path {shown_address(path)}: "
            "expected names of files or folders but '.' and '..', separated by '/', without "
            "backslashes and NUL"
        )
    literal = path.replace(PLACEHOLDER, partition_key)
    encoded = literal.encode(errors="surrogatepass")
    too_long = len(encoded) > PATH_BYTES or max(map(len, encoded.split(b"/"))) > NAME_BYTES
    # How long an address may be is for its file system to say.
    if too_long and not is_address(path):
        raise PredictionReadError(
            f"the partition key {shown(partition_key)!r} of {len(partition_key):,} characters "
            f"cannot stand in the path {path}: expected names of at most {NAME_BYTES} bytes and "
            f"a path of at most {PATH_BYTES:,}"
        )
    return literal


def partition_value(value: Any, partition_key: str, partition_count: int) -> Any:
    """One partition's part of what an upstream asset returned.

    For a run of several partitions Dagster's IO managers for files load a mapping from partition
    key to value; those for databases load one table, of which nothing says what belongs where.

    Raises:
        PredictionReadError: If there is no value for the partition.
    """
    if isinstance(value, Mapping):
        if partition_key not in value:
            raise PredictionReadError(
                f"the upstream asset has no value for the partition {partition_key!r}: materialize "
                "this partition of it first"
            )
        return value[partition_key]
    if partition_count > 1:
        raise PredictionReadError(
            f"the upstream asset gives one {type(value).__name__} for {partition_count} "
            "partitions, expected a mapping from partition key to value: materialize one partition "
            "per run, or use an IO manager that loads such a mapping"
        )
    return value


def prediction_sets(context: dg.AssetExecutionContext) -> Sequence[str]:
    """The prediction sets of the step: the partition keys of its run."""
    return [PREDICTION_SET] if context.assets_def.partitions_def is None else context.partition_keys


@contextmanager
def collected(context: dg.AssetExecutionContext) -> Generator[Done]:
    """Collect the work of the block; if it fails, Dagster is told what the database has already.

    Each prediction set is committed by itself: a file that is broken does not undo those before.
    """
    done: Done = defaultdict(dict)
    try:
        yield done
    except BaseException:
        partitioned = context.assets_def.partitions_def is not None
        for key, of_asset in done.items():
            for name, stored in of_asset.items():
                metadata, version = stored.metadata, stored.data_version
                context.log_event(
                    dg.AssetMaterialization(
                        key,
                        metadata=_of_partition(metadata) if partitioned else metadata,
                        partition=name if partitioned else None,
                        tags={DATA_VERSION_TAG: version} if version else None,
                    )
                )
        raise


def materialized(
    context: dg.AssetExecutionContext, done: Done
) -> Iterator[dg.MaterializeResult[Any]]:
    """Report for each asset the metadata and data version of each prediction set that was done.

    Dagster keeps the metadata of each partition, but one data version for all partitions of a run:
    it is another one when that of any of them is.
    """
    for key, of_asset in done.items():
        versions = [stored.data_version for stored in of_asset.values() if stored.data_version]
        data_version = dg.DataVersion(_combined(versions)) if versions else None
        if context.assets_def.partitions_def is None:
            (stored,) = of_asset.values()
            yield dg.MaterializeResult(
                asset_key=key, metadata=stored.metadata, data_version=data_version
            )
            continue
        for partition_key, stored in of_asset.items():
            context.add_asset_metadata(_of_partition(stored.metadata), key, partition_key)
        yield dg.MaterializeResult(asset_key=key, data_version=data_version)


def _of_partition(metadata: Metadata) -> Metadata:
    """The metadata with the row count as that of a partition, not of the whole asset."""
    rest = {name: value for name, value in metadata.items() if name != "dagster/row_count"}
    return {"dagster/partition_row_count": metadata["dagster/row_count"], **rest}


def _combined(versions: Sequence[str]) -> str:
    """The version itself, or that of several together."""
    if len(versions) == 1:
        return versions[0]
    return hashlib.sha256("\n".join(versions).encode()).hexdigest()
