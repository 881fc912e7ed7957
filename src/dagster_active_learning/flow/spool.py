"""Rows put aside on disk until a running statement has ended."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import TracebackType

import pyarrow as pa


class RowSpool:
    """Batches of one schema in a temporary file, so that memory does not hold them."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._writer: pa.RecordBatchStreamWriter | None = None
        self.row_count = 0

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Put rows aside; all of them have the columns of the first.

        Raises:
            OSError: If the folder of temporary files takes no more.
        """
        try:
            if self._writer is None:
                self._writer = pa.ipc.new_stream(self._file, rows.schema)
            self._writer.write_table(rows)
        except OSError as error:
            # It does not say where.
            words = f"{error.strerror}, for rows that are put aside; make room or set TMPDIR"
            raise OSError(error.errno, words, tempfile.gettempdir()) from error
        self.row_count += rows.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, once no more are added."""
        if self._writer is not None:
            self._writer.close()
            self._file.seek(0)
            yield from pa.ipc.open_stream(self._file)
