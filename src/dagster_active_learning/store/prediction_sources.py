"""The tables ``prediction_sources`` and ``former_prediction_sources``: the files of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class SourceFile:
    """One row of ``prediction_sources``: a file and the positions its rows have in the set."""

    source: str
    source_sha256: str
    first_prediction_index: int
    row_count: int


INSERT_SOURCES = """
INSERT INTO prediction_sources BY NAME
SELECT $prediction_set AS prediction_set, * FROM active_learning__incoming
"""


def add_sources(store: PoolStore, prediction_set: str, files: Sequence[SourceFile]) -> None:
    """Record the positions of the set that the rows of each file have."""
    rows = pa.Table.from_pylist([asdict(file) for file in files])
    store.insert(INSERT_SOURCES, rows, prediction_set=prediction_set)


SOURCES = """
SELECT source, source_sha256, first_prediction_index, row_count FROM prediction_sources
WHERE prediction_set = $prediction_set ORDER BY first_prediction_index
"""


def sources(store: PoolStore, prediction_set: str) -> list[SourceFile]:
    """The files of a prediction set, in the order they were read."""
    return [SourceFile(*row) for row in store.rows(SOURCES, prediction_set=prediction_set)]


KEEP_FORMER_SOURCES = """
INSERT INTO former_prediction_sources BY NAME
SELECT d.generation, f.* FROM prediction_sources f
JOIN prediction_sets d ON f.prediction_set = d.prediction_set
WHERE f.prediction_set = $prediction_set AND d.generation IN (
    SELECT predictions_generation FROM rankings WHERE prediction_set = $prediction_set
)
"""


def keep_former_sources(store: PoolStore, prediction_set: str) -> None:
    """Keep the files of predictions that are about to be replaced, if a ranking is made of them."""
    store.connection.execute(KEEP_FORMER_SOURCES, {"prediction_set": prediction_set})


DELETE_FORMER_SOURCES = """
DELETE FROM former_prediction_sources
WHERE prediction_set = $prediction_set AND generation NOT IN (
    SELECT predictions_generation FROM rankings
    WHERE prediction_set = $prediction_set AND predictions_generation IS NOT NULL
)
"""


def delete_former_sources(store: PoolStore, prediction_set: str) -> None:
    """Remove the files of which no ranking is made any more."""
    store.connection.execute(DELETE_FORMER_SOURCES, {"prediction_set": prediction_set})
