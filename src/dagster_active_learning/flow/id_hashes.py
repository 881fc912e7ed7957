"""Hashes of image ids that are the same in every process, on every machine and in every release."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.compilation import compiled

_FNV_OFFSET = 14695981039346656037
_FNV_PRIME = 1099511628211


def id_hashes(image_ids: pa.Array) -> npt.NDArray[np.uint64]:
    """FNV-1a of 64 bits over the UTF-8 bytes of ids, (n_images,); none of them is null."""
    hashes = np.empty(len(image_ids), np.uint64)
    if len(image_ids):
        ids = image_ids.cast(pa.large_string())
        _, offsets, data = ids.buffers()
        starts = np.frombuffer(offsets, np.int64, len(ids) + 1, ids.offset * 8)
        _hash(starts, np.frombuffer(data, np.uint8), hashes)
    return hashes


@compiled
def _hash(
    starts: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], hashes: npt.NDArray[np.uint64]
) -> None:
    for row in range(len(hashes)):
        value = np.uint64(_FNV_OFFSET)
        for position in range(starts[row], starts[row + 1]):
            value = (value ^ np.uint64(data[position])) * np.uint64(_FNV_PRIME)
        # Its low bits alone are worse than its high ones.
        hashes[row] = value ^ (value >> np.uint64(32))
