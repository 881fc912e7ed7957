"""Some rows of a table as a reader has them, before they are made predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.readers.columns import is_text
from dagster_active_learning.readers.quarantine import RejectedRow
from dagster_active_learning.text import raw_text


@dataclass(frozen=True)
class TableBatch:
    """Rows of a table.

    Attributes:
        columns: The rows.
        row_numbers: Their positions in the table, from 1.
        rejected: The rows that have no columns.
        empty_images: Ids of images in which no object was found, which have no row.
    """

    columns: pa.RecordBatch
    row_numbers: npt.NDArray[np.int64]
    rejected: Sequence[RejectedRow] = field(default=())
    empty_images: Sequence[str] = field(default=())


def raw_values(columns: pa.RecordBatch, row: int) -> str:
    """A row as the text of the quarantine table."""
    # Value by value: Arrow takes no rows from the text columns of polars, which are views.
    return raw_text({name: _shown(columns.column(name)[row]) for name in columns.schema.names})


def _shown(value: pa.Scalar) -> Any:
    r"""A value for the quarantine table: text where it is bytes, as ``\xff`` what is not UTF-8."""
    try:
        shown = value.as_py()
    except UnicodeDecodeError:
        if not is_text(value.type):
            return f"{value.type} with text that is not UTF-8"
        shown = value.as_buffer().to_pybytes()
    return shown.decode("utf-8", errors="backslashreplace") if isinstance(shown, bytes) else shown
