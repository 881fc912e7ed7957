"""Row groups of Parquet files as batches."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning.limits import BATCH_BYTES
from dagster_active_learning.readers.formats import parquet
from dagster_active_learning.readers.formats.parquet import read_columns

COLUMNS = ["image_id", "class_probs"]


def write(path: Path, group_sizes: list[int], n_classes: int = 2) -> pa.Table:
    rng = np.random.default_rng(0)
    groups = []
    for group, size in enumerate(group_sizes):
        probs = rng.dirichlet(np.ones(n_classes), size).astype(np.float32)
        ids = [f"{group}-{row}" for row in range(size)]
        groups.append(pa.table({"image_id": ids, "class_probs": list(probs)}))
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for table in groups:
            writer.write_table(table)
    return pa.concat_tables(groups)


@pytest.mark.parametrize(
    ("group_sizes", "batches"),
    [
        ([3] * 200, [600]),
        ([400, 400, 400, 400], [800, 800]),
        ([10, 2500, 10, 10], [10, 1000, 1000, 500, 20]),
        ([1000, 1, 999, 1], [1000, 1000, 1]),
    ],
)
def test_small_row_groups_are_one_batch(tmp_path, monkeypatch, group_sizes, batches):
    monkeypatch.setattr(parquet, "DEFAULT_BATCH_ROWS", 1000)
    monkeypatch.setattr(parquet, "rows_for", lambda _: 1000)
    table = write(tmp_path / "p.parquet", group_sizes)
    found = list(read_columns(tmp_path / "p.parquet", COLUMNS))
    assert [len(batch) for batch in found] == batches
    assert pa.Table.from_batches(found).equals(table)


def test_row_groups_of_many_numbers_are_not_read_together(tmp_path):
    # 4 MiB of class probabilities each, which pyarrow says take twice as much.
    table = write(tmp_path / "p.parquet", [1024] * 6, n_classes=1024)
    found = list(read_columns(tmp_path / "p.parquet", COLUMNS))
    assert [len(batch) for batch in found] == [3072, 3072]
    assert pa.Table.from_batches(found).equals(table)


@pytest.mark.parametrize("first", [10, 0])
def test_long_texts_after_short_ones_are_not_read_together(tmp_path, first):
    """Encoded, hundreds of equal texts of 256 KiB take one."""
    path, schema = tmp_path / "p.parquet", pa.schema({"image_id": pa.string()})
    with pq.ParquetWriter(path, schema, store_schema=False) as writer:
        for texts in (map(str, range(first)), *[["x" * 2**18] * 200] * 3):
            writer.write_table(pa.table([pa.array(texts, pa.string())], schema))
    assert path.stat().st_size < 2**20
    found = [len(batch) for batch in read_columns(path, ["image_id"])]
    assert sum(found) == first + 600
    assert max(found) <= BATCH_BYTES // 2**18


def test_dictionaries_of_like_row_groups_are_not_read(tmp_path, monkeypatch):
    table = write(tmp_path / "p.parquet", [500] * 20)
    read = []
    first_row = parquet._first_row

    def noted(source, opened, group, columns):
        read.append(group)
        return first_row(source, opened, group, columns)

    monkeypatch.setattr(parquet, "_first_row", noted)
    found = list(read_columns(tmp_path / "p.parquet", COLUMNS))
    assert pa.Table.from_batches(found).equals(table)
    assert read == [0]
