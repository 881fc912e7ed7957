"""Rows in are rows stored and rows in quarantine, and what is stored has its scores.

Tables are generated row by row, each row known to be a prediction or not, and written in several
formats; nothing of the package says what is expected of them. ROW_CONSERVATION_EXAMPLES=20000 is
how many are tried; by default it is a few hundred.
"""

import bz2
import gzip
import json
import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from pools import ingest, rows, score

EXAMPLES = int(os.environ.get("ROW_CONSERVATION_EXAMPLES", "300"))
NAMES = ["cat", "dog", "eel"]
CLASS_SCORES = ("entropy", "least_confidence", "margin", "variance")


@dataclass(frozen=True)
class Row:
    """A row as it is written, and whether it is a prediction.

    Attributes:
        values: image_id, class_probs and score, or text that is no row of the format.
        image_id: The image's id as text, None where the row is no prediction.
        has_probs: Whether all class scores can be computed from it.
    """

    values: tuple[Any, Any, Any] | str
    image_id: str | None = None
    has_probs: bool = False


def _valid_probs(counts):
    return [count / sum(counts) for count in counts]


ids = st.text(min_size=1, max_size=8) | st.sampled_from(
    [
        "a",
        "b",
        "=1+1",
        "'; DROP TABLE predictions; --",
        'say "x"',
        "a,b",
        "a\nb",
        "\u202e",
        "../a",
        "🦊",
    ]
)
good_probs = st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(sum).map(_valid_probs)
bad_probs = st.sampled_from(
    [
        *(None, [], [1.0], [0.5, 0.5], [0.25] * 4, [0.5, 0.25, 0.0], [0.5, 0.5, 0.5]),
        *([math.nan, 0.5, 0.5], [math.inf, 0.0, 0.0], [-0.5, 1.0, 0.5], [1.5, 0.0, -0.5]),
        [0.5, None, 0.5],
    ]
)
bad_ids = st.sampled_from([None, ""])
good_scores = st.floats(0, 1)
bad_scores = st.sampled_from([math.nan, math.inf, -0.25, 1.25])


def row(image_id, probs, score=None, *, valid):
    has_probs = valid and probs is not None
    return Row((image_id, probs, score), image_id if valid else None, has_probs)


class_rows = (
    st.builds(lambda i, p: row(i, p, valid=True), ids, good_probs)
    | st.builds(lambda i, p: row(i, p, valid=False), ids, bad_probs)
    | st.builds(lambda i, p: row(i, p, valid=False), bad_ids, good_probs)
)
broken_probs = bad_probs.filter(bool)
object_rows = (
    st.builds(lambda i, p, s: row(i, p, s, valid=True), ids, good_probs | st.none(), good_scores)
    | st.builds(lambda i, p: row(i, p, valid=True), ids, good_probs)
    | st.builds(lambda i: row(i, None, valid=False), ids)
    | st.builds(lambda i, s: row(i, None, s, valid=False), ids, bad_scores)
    | st.builds(lambda i, s: row(i, None, s, valid=False), bad_ids, good_scores)
    | st.builds(lambda i, p: row(i, p, valid=False), ids, broken_probs)
)
no_csv_rows = st.sampled_from(["a", "a,b,c,d,e", '"a"', ",,,,"]).map(Row)
no_objects = ["[1]", "null", '{"image_id": 1.5}', '{"image_id": true, "score": 0.5}']
no_array_rows = st.sampled_from(no_objects).map(Row)
no_json_rows = st.sampled_from([*no_objects, "{", "\x00"]).map(Row)


def write_parquet(folder, table, objects):
    path = folder / "p.parquet"
    pq.write_table(arrow_table(table, objects), path, row_group_size=7)
    return path


def arrow_table(table, objects):
    columns = list(zip(*(one.values for one in table), strict=True)) or [(), (), ()]
    found = {
        "image_id": pa.array(columns[0], pa.string()),
        "class_probs": pa.array(columns[1], pa.list_(pa.float64())),
    }
    return pa.table({**found, "score": pa.array(columns[2], pa.float64())} if objects else found)


def write_csv(folder, table, objects, delimiter=","):
    n_columns = 3 if objects else 2
    lines = [delimiter.join(["image_id", "class_probs", "score"][:n_columns])]
    for one in table:
        if isinstance(one.values, str):
            lines.append(one.values)
        else:
            image_id, probs, score = one.values
            fields = [image_id, None if probs is None else " ".join(map(str, probs)), score]
            lines.append(delimiter.join(map(csv_field, fields[:n_columns])))
    (folder / "p.csv").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder / "p.csv"


def csv_field(value):
    """Null is nothing between two commas; a text without characters has quotes."""
    return "" if value is None else '"' + str(value).replace('"', '""') + '"'


def write_semicolons(folder, table, objects):
    return write_csv(folder, table, objects, ";")


def json_rows(table, objects, class_probs=lambda probs: probs):
    rows = []
    for one in table:
        if isinstance(one.values, str):
            rows.append(one.values)
        else:
            image_id, probs, score = one.values
            found = {"image_id": image_id, "class_probs": class_probs(probs)}
            rows.append(json.dumps({**found, "score": score} if objects else found))
    return rows


def write_lines(folder, lines):
    (folder / "p.jsonl").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder / "p.jsonl"


def write_jsonl(folder, table, objects):
    return write_lines(folder, json_rows(table, objects))


def write_named(folder, table, objects):
    return write_lines(folder, json_rows(table, objects, by_name))


def write_pairs(folder, table, objects):
    """The classes of every other row in reverse."""
    rows = [
        json_rows([one], objects, lambda probs, step=1 - number % 2 * 2: pairs(probs, step))[0]
        for number, one in enumerate(table)
    ]
    return write_lines(folder, rows)


def by_name(probs):
    return probs if probs is None else dict(zip([*NAMES, "fox"], probs, strict=False))


def pairs(probs, step=1):
    named = by_name(probs)
    return named if named is None else [{"label": name, "score": p} for name, p in named.items()][::step]  # fmt: skip


def write_array(folder, table, objects):
    (folder / "p.json").write_text(f"[{', '.join(json_rows(table, objects))}]")
    return folder / "p.json"


def packed(write, suffix, pack):
    """A writer of the same file, packed."""

    def write_packed(folder, table, objects):
        path = write(folder, table, objects)
        new = path.with_name(path.name + suffix)
        new.write_bytes(pack(path.read_bytes()))
        return new

    return write_packed


def zst(content):
    return pa.compress(content, "zstd", asbytes=True)


def write_coco(folder, table, objects):
    detections = []
    for one in table:
        image_id, probs, score = one.values
        detections.append(
            {
                "image_id": image_id,
                "category_id": "cat",
                "bbox": [1, 2, 3, 4],
                **({} if score is None else {"score": _json_number(score)}),
                **({} if probs is None else {"class_probs": [*map(_json_number, probs)]}),
            }
        )
    (folder / "p.json").write_text(json.dumps(detections))
    return folder / "p.json"


def _json_number(value):
    """NaN is no JSON, and would cost the file: a number above 1 costs its row as well."""
    return value if value is None or math.isfinite(value) else 2


WRITERS = {
    "csv": ("csv", write_csv),
    "csv with semicolons": ("csv", write_semicolons),
    "csv.gz": ("csv", packed(write_csv, ".gz", gzip.compress)),
    "jsonl": ("jsonl", write_jsonl),
    "jsonl.zst": ("jsonl", packed(write_jsonl, ".zst", zst)),
    "jsonl by name": ("jsonl", write_named),
    "jsonl with labels": ("jsonl", write_pairs),
    "a JSON array": ("jsonl", write_array),
    "parquet": ("parquet", write_parquet),
    "coco": ("coco", write_coco),
    "coco.bz2": ("coco", packed(write_coco, ".bz2", bz2.compress)),
}
"""A shape of files: the format that it is read as, and what writes it."""


@st.composite
def tables(draw):
    """A format, whether its rows are objects, and the rows."""
    kind = draw(st.sampled_from([*WRITERS, "arrow"]))
    objects = kind.startswith("coco") or draw(st.booleans())
    kinds = object_rows if objects else class_rows
    if kind.startswith("csv"):
        kinds = kinds | no_csv_rows
    elif kind.startswith("jsonl"):
        kinds = kinds | no_json_rows
    elif kind == "a JSON array":
        kinds = kinds | no_array_rows
    table = draw(st.lists(kinds, min_size=1, max_size=25))
    if kind == "a JSON array":  # By its first element it is known to be one of objects.
        table.sort(key=lambda one: isinstance(one.values, str))
    return kind, objects, table


@pytest.fixture(scope="module")
def one_store():
    with duckdb.connect() as connection:
        yield PoolStore(connection, "pool")


def read(folder, kind, objects, table):
    options: dict[str, Any] = {"class_names": NAMES}
    if objects and not kind.startswith("coco"):
        options["score_column"] = "score"
    if kind == "arrow":
        return read_table(arrow_table(table, objects), name="t", options=TableOptions(**options))
    read_as, write = WRITERS[kind]
    path = write(folder, table, objects)
    return read_predictions(path, format=read_as, batch_rows=5, **options)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tables())
def test_rows_in_are_rows_stored_and_rows_in_quarantine(one_store, generated):
    kind, objects, table = generated
    rules = Rules(task="detection") if objects else Rules()
    good = [position for position, one in enumerate(table) if one.image_id is not None]
    with tempfile.TemporaryDirectory() as name:
        if not good:
            with pytest.raises(PredictionReadError):
                ingest(one_store, read(Path(name), kind, objects, table), rules=rules)
            return
        stored = ingest(one_store, read(Path(name), kind, objects, table), rules=rules)
    assert stored.prediction_count == len(good)
    assert stored.quarantined_count == len(table) - len(good)
    index = rows(one_store, "SELECT prediction_index, image_id FROM predictions ORDER BY 1")
    assert index == [(position, table[position].image_id) for position in good]
    refused = rows(one_store, "SELECT row_number, reason FROM quarantined_predictions ORDER BY 1")
    assert [number - 1 for number, _ in refused] == sorted({*range(len(table))} - {*good})

    scored = {one["image_id"]: one for one in score(one_store, rules=rules).to_dicts()}
    counts = Counter(table[position].image_id for position in good)
    assert {image: one["prediction_count"] for image, one in scored.items()} == counts
    for image, one in scored.items():
        about = [table[position] for position in good if table[position].image_id == image]
        # An object with a lone score has no class probabilities; then the image has no class score.
        for name in CLASS_SCORES:
            assert (one[name] is not None) == all(each.has_probs for each in about)
        assert (one["mean_object_score"] is not None) == objects
