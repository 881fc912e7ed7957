"""Pools with predictions from several files, ranked, for tests of what is said about them."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_active_learning import ACQUISITION_FUNCTIONS, read_predictions
from pools import RULES, ingest, rank, score

HOSTILE_IDS = [
    'it\'s "quoted"',
    "line\nbreak\r\nand another",
    "nul\0inside",
    "🦊 ä 中文",
    "=HYPERLINK(1)",
    "'; DROP TABLE images; --",
    "$image_id",
    "x" * 10_000,
    " ",
]


def manifest(image_ids, labeled=None):
    """A manifest of images; ``labeled`` maps those that have a label to it."""
    labels = labeled or {}
    return pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "uri": pa.array([f"s3://images/{one}" for one in image_ids], pa.string()),
            "width": pa.array([640] * len(image_ids), pa.int32()),
            "height": pa.array([480] * len(image_ids), pa.int32()),
            "labeled": pa.array([one in labels for one in image_ids]),
            "label": pa.array([labels.get(one) for one in image_ids], pa.string()),
        }
    )


def write_files(folder, *files):
    """Parquet files of (image_id, class_probs) rows in a folder of their own; their glob."""
    folder.mkdir()
    for number, rows in enumerate(files):
        ids, class_probs = zip(*rows, strict=True) if rows else ((), ())
        table = pa.table(
            {
                "image_id": pa.array(ids, pa.string()),
                "class_probs": pa.array(class_probs, pa.list_(pa.float64())),
            }
        )
        pq.write_table(table, folder / f"part{number}.parquet")
    return folder / "*.parquet"


def ranked(store, stream, *, functions=None, limit=1000, in_manifest=False, rules=RULES):
    """Ingest, score and rank a stream as the prediction set ``set``."""
    ingest(store, stream, in_manifest=in_manifest, rules=rules)
    score(store, in_manifest=in_manifest, rules=rules)
    for name, function in ACQUISITION_FUNCTIONS.items():
        if name in functions if functions else rules.objects or function.level == "image":
            rank(store, name, limit=limit, in_manifest=in_manifest, rules=rules)


def ranked_files(store, path, **settings):
    """The same from Parquet files."""
    ranked(store, read_predictions(path, format="parquet"), **settings)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
