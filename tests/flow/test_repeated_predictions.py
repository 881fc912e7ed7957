"""What is repeated of predictions is what a look at each pair of them finds."""

from collections import defaultdict
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.flow.repeated_predictions import (
    RepeatedPredictions,
    prediction_contents,
)
from dagster_active_learning.store.repeated import join_repeated
from dagster_active_learning.store.set_tables import prediction_schema

# The image, two class probabilities, the score, the category and the box of a prediction.
PREDICTIONS = st.tuples(
    st.integers(0, 3),
    st.sampled_from([None, (0.5, 0.5), (0.0, 1.0), (-0.0, 1.0)]),
    st.sampled_from([None, 0.5, 0.0, -0.0]),
    st.sampled_from([None, "", "cat"]),
    st.sampled_from([None, (0.0, 1.0, 2.0, 3.0), (-0.0, 1.0, 2.0, 3.0), (0.0, 1.0, 2.0, 4.0)]),
)


def table(predictions, first):
    """Predictions as a worker has them."""
    _, class_probs, scores, categories, boxes = zip(*predictions, strict=True)
    columns = {
        "image_id": [f"{image}" for image, *_ in predictions],
        "prediction_index": [*range(first, first + len(predictions))],
        "class_probs": class_probs,
        "score": scores,
        "category": categories,
        "bbox": boxes,
        "segmentation": [None] * len(predictions),
    }
    schema = prediction_schema(pa.float32())
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def counted(predictions, first, batch_rows, *, objects):
    repeated = RepeatedPredictions()
    rows = table(predictions, first)
    for start in range(0, len(predictions), batch_rows):
        batch = rows.slice(start, batch_rows)

        def contents(start, batch=batch):
            return prediction_contents(batch.slice(start), objects=objects)

        index = batch.column("prediction_index").to_numpy()
        repeated.add(batch.column("image_id"), index, contents)
    return repeated.found()


def found_in_pairs(predictions, *, objects):
    """Duplicates and differing images, with all examples."""
    same, images = defaultdict(list), defaultdict(list)
    for index, (image, *values) in enumerate(predictions):
        images[image].append((index, values[0]))
        if not objects or values[-1] is not None:
            # -0.0 equals 0.0, as keys of a dictionary too.
            same[image, *values].append(index)
    most = sorted(
        (
            (f"{key[0]}", len(rows), rows[0], rows[-1])
            for key, rows in same.items()
            if len(rows) > 1
        ),
        key=lambda example: (-example[1], example[2]),
    )
    differing = sorted(
        (
            (f"{image}", len(rows), rows[0][0], rows[-1][0])
            for image, rows in images.items()
            if any(one[1] != other[1] for one, other in pairwise(rows))
        ),
        key=lambda example: example[2],
    )
    return sum(times - 1 for _, times, *_ in most), most, len(differing), differing


@settings(deadline=None)
@given(
    predictions=st.lists(PREDICTIONS, min_size=1, max_size=20).map(
        lambda rows: sorted(rows, key=lambda row: row[0])
    ),
    batch_rows=st.integers(1, 21),
    objects=st.booleans(),
    data=st.data(),
)
def test_duplicates_and_differing_predictions(predictions, batch_rows, objects, data):
    expected = found_in_pairs(predictions, objects=objects)
    found = counted(predictions, 0, batch_rows, objects=objects)
    assert tuple(map(_plain, found)) == tuple(map(_plain, expected))
    # Parts have whole images, and come in any order.
    parts, first = [], 0
    for _, rows in groupby(predictions, key=lambda row: row[0]):
        part = [*rows]
        parts.append(counted(part, first, batch_rows, objects=objects))
        first += len(part)
    joined = join_repeated(data.draw(st.permutations(parts)))
    assert tuple(map(_plain, joined)) == tuple(map(_plain, expected))


def _plain(value):
    return value if isinstance(value, int) else [tuple(example) for example in value]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_hashes_are_of_the_values(kind):
    """Not of where they stand in memory, and of each of them."""
    rows = np.random.default_rng(0).random((50, 7)).astype(kind)
    lists = pa.array([*rows, *rows[::-1]], pa.list_(pa.from_numpy_dtype(kind)))
    nulls = [pa.nulls(100, kind) for kind in (pa.float64(), pa.string(), pa.list_(pa.float64()))]
    columns = [lists, *nulls, pa.array(range(100))]
    names = ["class_probs", "score", "category", "bbox", "prediction_index"]
    contents = prediction_contents(pa.RecordBatch.from_arrays(columns, names=names), objects=False)
    assert contents[:50].tolist() == contents[50:][::-1].tolist()
    assert len({*contents[:, 0].tolist()}) == len({*contents[:, 1].tolist()}) == 50
