"""Runs of predictions about one image."""

# The functions of pyarrow.compute are made when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


class Runs:
    """Numbers of predictions, and of runs of them about one image.

    Attributes:
        row_count: Number of predictions.
        run_count: Number of runs.
        ascending: Whether ids never decrease; then each image has one run.
        first_id: The image of the first prediction, None without one.
        last_id: That of the last.
    """

    def __init__(self) -> None:
        self.row_count = 0
        self.run_count = 0
        self.ascending = True
        self.first_id: str | None = None
        self.last_id: str | None = None

    def count(self, image_ids: pa.ChunkedArray) -> None:
        """Count the next predictions by their images."""
        for ids in image_ids.chunks:
            if not len(ids):
                continue
            first = ids[0].as_py()
            # The ids are not put together with the last one: that would copy all of them.
            before, after = ids[:-1], ids[1:]
            self.row_count += len(ids)
            self.run_count += (pc.sum(pc.not_equal(before, after)).as_py() or 0) + (
                first != self.last_id
            )
            if self.ascending:
                self.ascending = pc.all(pc.less_equal(before, after)).as_py() is not False and (
                    self.last_id is None or self.last_id.encode() <= first.encode()
                )
            self.first_id = first if self.first_id is None else self.first_id
            self.last_id = ids[-1].as_py()
