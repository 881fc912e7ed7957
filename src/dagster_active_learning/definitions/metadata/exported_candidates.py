"""Metadata of ``<pool>/exported_candidates``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import Metadata, rows_table

if TYPE_CHECKING:
    from dagster_active_learning.definitions.exports import WrittenFile


def batch_file_metadata(files: Sequence[WrittenFile], batch: int) -> Metadata:
    """The place and content of each file of a batch."""
    return {
        "dagster/row_count": files[0].rows,
        "batch": f"{batch:,}",
        "batch_files": rows_table([asdict(file) for file in files]),
        **{f"batch_{file.format}": dg.MetadataValue.path(file.path) for file in files},
    }


def file_metadata(files: Sequence[WrittenFile], left_out: int) -> Metadata:
    """The place and content of each file, and the number of candidates that are in none."""
    return {
        "dagster/row_count": files[0].rows,
        "left_out": left_out,
        "files": rows_table([asdict(file) for file in files]),
        **{file.format: dg.MetadataValue.path(file.path) for file in files},
    }
