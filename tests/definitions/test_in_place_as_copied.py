"""All that a pool says of a set in place is what it says where the files are copied."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    ModelChurn,
    NearDuplicates,
    PredictionFiles,
    RuleEvaluation,
    active_learning_definitions,
    compare_prediction_sets,
    explain_candidate,
)
from dagster_active_learning.flow import best_images
from in_place import InThisProcess, random_probs, write

IMAGES = 240
FILES = 3
KEYS = ("may", "june")

# What is of a run, and not of what is read.
OF_A_RUN = r"^(?:generation|scored_by)$|_(?:generation|at)$|run_id$"
TEXT_OF_A_RUN = r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d[ T][\d:.+]+|\d{10}\.\d+"


def rows_of(file, per_file):
    """The ids of a file, in their order."""
    return [f"{number:04d}" for number in range(file, IMAGES, per_file)]


def own_images(folder, key="p"):
    """Each image in one file."""
    rng = np.random.default_rng(len(key))
    for file in range(FILES):
        probs = random_probs(rng, IMAGES // FILES).tolist()
        probs[7] = None
        write(folder / f"{key}{file}.parquet", rows_of(file, FILES), probs)


def shared_images(folder, key="p"):
    """Each image in all files."""
    rng = np.random.default_rng(len(key))
    for file in range(FILES):
        probs = random_probs(rng, IMAGES).tolist()
        probs[file] = None
        write(folder / f"{key}{file}.parquet", rows_of(0, 1), probs)


def two_sets(folder):
    for key in KEYS:
        own_images(folder, key)


def several_each(folder):
    """Each image has two predictions, side by side in one file; some are the same."""
    rng = np.random.default_rng(0)
    for file in range(FILES):
        ids = [name for name in rows_of(file, FILES) for _ in range(2)]
        probs = random_probs(rng, len(ids))
        probs[21] = probs[20]
        write(folder / f"p{file}.parquet", ids, probs)


def objects(folder):
    """Boxes of an image are in several files, some of them twice, some beyond the image."""
    rng = np.random.default_rng(0)
    for file in range(FILES):
        ids = [name for name in rows_of(0, 1)[file:] for _ in range(rng.integers(0, 3))]
        ids += ids[:2]
        boxes = rng.integers(0, 600, (len(ids), 2)).astype(float)
        boxes = np.hstack([boxes, boxes + rng.integers(1, 100, (len(ids), 2))])
        boxes[-2:] = boxes[:2]
        probs = random_probs(rng, len(ids))
        probs[-2:] = probs[:2]
        write(folder / f"p{file}.parquet", ids, probs, bbox=pa.array(boxes.tolist()))
    drawn = [
        {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [10, 10, 80, 80]}
        for number in range(0, IMAGES, 5)
    ]
    images = [
        {"id": number, "file_name": name, "width": 640, "height": 480}
        for number, name in enumerate(rows_of(0, 1))
    ]
    content = {"images": images, "categories": [{"id": 1, "name": "1"}], "annotations": drawn}
    (folder / "boxes.json").write_text(json.dumps(content))


@dataclass(frozen=True)
class Case:
    """Files, what the pool is like, and what its predictions are read with."""

    make: Any
    settings: Any = lambda _: {}
    options: dict[str, Any] = field(default_factory=dict)
    keys: tuple[str | None, ...] = (None,)


CASES = {
    "an image per row": Case(
        own_images,
        lambda _: {"evaluation": RuleEvaluation(labels_drawn_at_random=True)},
    ),
    "badge": Case(
        own_images,
        lambda folder: {"batch": batch(folder, choose_by="badge")},
    ),
    "typical images": Case(
        shared_images, lambda folder: {"batch": batch(folder, choose_by="typical")}
    ),
    "votes": Case(
        shared_images,
        lambda _: {
            "committee": True,
            "evaluation": RuleEvaluation(labels_drawn_at_random=True),
        },
    ),
    "several predictions": Case(several_each, lambda _: {"aggregation": "max"}),
    "predictions in several files": Case(
        shared_images, lambda _: {"aggregation": "sum", "images_without_predictions": "first"}
    ),
    "objects": Case(
        objects,
        lambda folder: {
            "task": "detection",
            "evaluation": RuleEvaluation(
                labels_drawn_at_random=True, boxes=folder / "boxes.json", boxes_image_id="file_name"
            ),
        },
        {"box": "xyxy", "bbox_column": "bbox"},
    ),
    "two sets": Case(
        two_sets,
        lambda _: {
            "partitions_def": dg.StaticPartitionsDefinition(list(KEYS)),
            "churn": ModelChurn(),
        },
        keys=KEYS,
    ),
}


def batch(folder, **settings):
    return LabelingBatch(
        size=12, near_duplicates=NearDuplicates(path=folder / "e.parquet"), **settings
    )


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "an image per row")) for name in CASES],
)
def test_a_pool_in_place_is_the_pool_of_copied_files(tmp_path, case, monkeypatch):
    # Few images are kept: some of those that are looked at are not among them.
    monkeypatch.setattr(best_images, "BEST_IMAGES", 40)
    monkeypatch.setattr(best_images, "IMAGES_WITH_PREDICTIONS", 15)
    made = CASES[case]
    made.make(tmp_path)
    names = [*rows_of(0, 1)[:-6], "unseen", "unseen too"]  # and some that the manifest lacks
    labels = [f"{number % 5}" if number % 3 == 0 else None for number in range(len(names))]
    manifest = {"image_id": names, "label": labels, "width": 640, "height": 480}
    pl.DataFrame(manifest).write_csv(tmp_path / "m.csv")
    vectors = np.random.default_rng(1).normal(size=(len(names), 4)).astype(np.float32)
    embeddings = pa.table({"image_id": names, "embedding": list(vectors)})
    pq.write_table(embeddings, tmp_path / "e.parquet")
    found, expected = (
        pool(tmp_path, tmp_path / way, made, in_place=way == "in place")
        for way in ("in place", "copied")
    )
    assert found.keys() == expected.keys()
    for name, what in expected.items():
        assert found[name] == what, name


def pool(folder, own, made, *, in_place):
    """All that is written of a pool, and said about it."""
    own.mkdir()
    settings = {"storage": own / "storage", "engine": InThisProcess()} if in_place else {}
    partitioned = made.keys != (None,)
    files = PredictionFiles(
        str(folder / ("{partition_key}*.parquet" if partitioned else "p*.parquet")),
        "parquet",
        in_place=in_place,
        model="may",
        **made.options,
    )
    defs = active_learning_definitions(
        **{
            "pool": "pool",
            "predictions": files,
            "images": folder / "m.csv",
            "limit": 30,
            "batch": LabelingBatch(size=12, random_share=0.25),
            "export": [own / ("{partition_key}.csv" if partitioned else "candidates.csv")],
            "report": own / "reports",
            "max_quarantined_share": 0.5,
            **made.settings(folder),
            **settings,
        }
    )
    said: dict[str, Any] = {}
    database = own / "labeling.duckdb"
    for key in made.keys:
        result = dg.materialize(
            [*(defs.assets or ()), *(defs.asset_checks or ())],
            resources={"duckdb": DuckDBResource(database=str(database))},
            partition_key=key,
        )
        for event in result.get_asset_materialization_events():
            of_asset = event.materialization.metadata.items()
            said[f"{key} {event.asset_key}"] = {
                name: normal(value, own) for name, value in of_asset if name != "files"
            }
        for one in result.get_asset_check_evaluations():
            values = {name: normal(value, own) for name, value in one.metadata.items()}
            said[f"{key} {one.check_name} {one.asset_key}"] = (
                one.passed,
                normal(one.description, own),
                values,
            )
    with duckdb.connect(str(database)) as connection:
        said |= tables(connection)
        candidates = connection.execute(
            "SELECT DISTINCT prediction_set, image_id FROM pool.labeling_candidates ORDER BY ALL"
        ).fetchall()
        for name, image_id in [*candidates[::4], (candidates[0][0], "unseen")]:
            page = explain_candidate(connection, image_id, pool="pool", prediction_set=name)
            said[f"explained {name} {image_id}"] = normal(page, own)
        if partitioned:
            compared = compare_prediction_sets(connection, pool="pool")
            said["compared"] = repr(compared.rows())
    for path in sorted({*own.rglob("*.csv"), *own.rglob("*.html")}):
        if "storage" not in path.parts:
            said[f"file {path.relative_to(own)}"] = normal(path.read_text(), own)
    return said


def tables(connection):
    """The rows of all tables and views of the pool, but those that say where a set is."""
    names = connection.execute(
        "SELECT DISTINCT table_name, list(column_name ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'pool' "
        "AND NOT regexp_matches(table_name, '^in_place_|^schema_version$|_[0-9]+$') GROUP BY table_name"
    ).fetchall()
    found = {}
    for name, columns in names:
        kept = ", ".join(f'"{column}"' for column in columns if not re.search(OF_A_RUN, column))
        rows = connection.execute(f'SELECT {kept} FROM pool."{name}"').fetchall()
        found[f"table {name}"] = sorted(map(repr, rows))
    assert found["table image_scores"]
    return found


def normal(value, own: Path) -> Any:
    """A value as text, without what is of a run and where the pool is."""
    text = value if isinstance(value, str) else repr(value)
    return re.sub(TEXT_OF_A_RUN, "…", text.replace(str(own), "…"))
