"""All rows of tables as short texts, which are equal where each bit of them is."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from in_place import TABLES


def fingerprints(store):
    """The number of rows of each table of a pool, and a hash of each of its columns."""
    return {name: fingerprint(store.connection, query) for name, query in TABLES.items()}


def fingerprint(connection, query):
    """The number of rows of a query that has an order, and a hash of each column."""
    reader = connection.sql(query).to_arrow_reader(100_000)
    columns = {name: _Column() for name in reader.schema.names}
    rows = 0
    for batch in reader:
        rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            columns[name].add(column)
    return {"rows": rows, **{name: column.text() for name, column in columns.items()}}


class _Column:
    """A hash of the values of arrays, wherever one ends and the next begins."""

    def __init__(self):
        self.hashes = [hashlib.sha256() for _ in range(3)]
        self.items = None

    def add(self, array):
        valid, lengths, values = self.hashes
        valid.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_list(array.type):
            lengths.update(pc.list_value_length(array).fill_null(0).to_numpy().tobytes())
            self.items = self.items or _Column()
            self.items.add(array.flatten())
        elif pa.types.is_string(array.type):
            lengths.update(pc.binary_length(array).fill_null(0).to_numpy().tobytes())
            values.update("".join(array.drop_null().to_pylist()).encode())
        elif pa.types.is_floating(array.type) or pa.types.is_integer(array.type):
            values.update(np.ascontiguousarray(array.fill_null(0).to_numpy()).tobytes())
        else:
            values.update(repr(array.to_pylist()).encode())

    def text(self):
        own = " ".join(one.hexdigest()[:16] for one in self.hashes)
        return own if self.items is None else f"{own} {self.items.text()}"
