"""The whole loop with the real Label Studio: rank, batch, send, label, read, train, rank again.

Digits of scikit-learn, a classifier that has seen 50 of them, and people who annotate by the API.
"""

import json

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dagster_active_learning import (
    LabelingBatch,
    LabelStudio,
    PredictionFiles,
    active_learning_definitions,
    load_batch,
)
from dagster_active_learning.errors import LabelingToolError
from dagster_active_learning.labeling import label_studio_sending
from dagster_active_learning.labeling.label_studio_client import LabelStudioClient
from label_studio import BATCH, LEGACY, annotate, checks, delete_annotation, next_task, numbers, run

pytestmark = pytest.mark.slow

POOL, LABELED, BATCH_SIZE = 1200, 50, 50


class Digits:
    """A folder with the pool's files, and what a model learns from them."""

    def __init__(self, folder):
        self.folder = folder
        self.pixels, self.truth = load_digits(return_X_y=True)
        self.ids = [f"digit_{number:04d}" for number in range(POOL)]
        (folder / "images").mkdir()
        for image_id, row in zip(self.ids, self.pixels, strict=False):
            shades = (255 - np.kron(row.reshape(8, 8), np.ones((8, 8))) * (255 / 16)).astype(
                np.uint8
            )
            Image.fromarray(shades).save(folder / "images" / f"{image_id}.png")
        pl.DataFrame(
            {
                "image_id": self.ids,
                "uri": [str(folder / "images" / f"{image_id}.png") for image_id in self.ids],
                "width": 64,
                "height": 64,
                "label": [
                    str(digit) if n < LABELED else None for n, digit in enumerate(self.truth[:POOL])
                ],
            }
        ).write_csv(folder / "manifest.csv")

    def said(self, image_id):
        return str(self.truth[self.ids.index(image_id)])

    def train(self, manifest):
        """Train on a manifest, predict the pool; the labels, and the accuracy on other digits."""
        labels = pl.read_csv(self.folder / manifest, schema_overrides={"label": pl.String})
        labels = labels.filter(pl.col("label").is_not_null())
        rows = [self.ids.index(image_id) for image_id in labels["image_id"]]
        model = LogisticRegression(max_iter=2_000).fit(
            self.pixels[rows], labels["label"].to_numpy()
        )
        table = pa.table(
            {"image_id": self.ids, "class_probs": list(model.predict_proba(self.pixels[:POOL]))}
        )
        metadata = {"class_names": json.dumps(model.classes_.tolist())}
        pq.write_table(table.replace_schema_metadata(metadata), self.folder / "p.parquet")
        return len(rows), model.score(self.pixels[POOL:], self.truth[POOL:].astype(str))

    def definitions(self, **labeling):
        return active_learning_definitions(
            pool="pool",
            predictions=PredictionFiles(self.folder / "p.parquet", "parquet"),
            images=self.folder / "manifest.csv",
            acquisition_functions=["margin"],
            batch=LabelingBatch(size=BATCH_SIZE),
            labeling=LabelStudio(
                project="digits of the loop",
                embed_max_bytes=10_000,
                export=self.folder / "labels.csv",
                **labeling,
            ),
        )

    def query(self, sql):
        with duckdb.connect(str(self.folder / "labeling.duckdb")) as connection:
            return connection.execute(f"USE pool; {sql}").fetchall()

    def column(self, sql):
        return {value for (value,) in self.query(sql)}


def people_label(server, digits, project, tasks):
    """Annotate in the order of the ranks: right, wrong, skipped and withdrawn ones; some wait."""
    ids = list(tasks)
    right, wrong, skipped, withdrawn, waiting = (
        ids[:34],
        ids[34:38],
        ids[38:43],
        ids[43:46],
        ids[46:],
    )
    for rank, image_id in enumerate(right, 1):
        if rank <= 3:
            assert next_task(server, project)["data"]["image_id"] == image_id
        annotate(server, tasks[image_id], digits.said(image_id))
    for image_id in wrong:
        annotate(server, tasks[image_id], str((int(digits.said(image_id)) + 1) % 10))
    for image_id in skipped:
        annotate(server, tasks[image_id], None)
    for image_id in withdrawn:
        delete_annotation(server, annotate(server, tasks[image_id], digits.said(image_id)))
    return right, wrong, skipped, withdrawn, waiting


def test_the_whole_loop(server, proxy, faults, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(label_studio_sending, "SETTLE_SECONDS", 0.5)
    digits = Digits(tmp_path)
    _, accuracy_before = digits.train("manifest.csv")
    defs = digits.definitions()
    run(tmp_path, defs, proxy, *BATCH)
    ids = load_batch(tmp_path / "labeling.duckdb", pool="pool")["image_id"].to_list()
    assert len(ids) == BATCH_SIZE
    # Away, with a wrong token, out of order: what is to be sent is known, and nothing else happens.
    faults.how, faults.before = 503, True
    for url, token in (("http://127.0.0.1:9", LEGACY), (proxy, "wrong" * 8), (proxy, LEGACY)):
        with pytest.raises(LabelingToolError):
            run(tmp_path, defs, url, token=token)
        assert digits.query("SELECT state, count(*) FROM labeling_tasks GROUP BY state") == [
            ("pending", BATCH_SIZE)
        ]
    faults.how, faults.before = None, False
    sent = run(tmp_path, defs, proxy)
    assert numbers(sent, "labeling_tasks")["sent"] == BATCH_SIZE
    assert all(checks(sent).values())
    client = LabelStudioClient(server, LEGACY)
    project = client.project("digits of the loop")
    assert project is not None
    assert [task.image_id for task in client.tasks(project.id)] == ids
    tasks = {task.image_id: task.id for task in client.tasks(project.id)}
    imports = faults.imports
    assert numbers(run(tmp_path, defs, proxy), "labeling_tasks")["sent"] == 0
    assert faults.imports == imports
    right, wrong, skipped, withdrawn, waiting = people_label(server, digits, project.id, tasks)
    read = run(tmp_path, defs, server, "labels")
    found = numbers(read, "labels")
    counts = ("labeled", "skipped", "conflicts", "quarantined", "waiting", "newly_labeled")
    assert [found[name] for name in counts] == [38, 5, 0, 0, 7, 38]
    assert all(checks(read).values())
    assert digits.column("SELECT image_id FROM labels") == {*right, *wrong}
    # Labeled images are gone; the others are in flight, also those that were skipped.
    again = run(tmp_path, defs, server, *BATCH[3:])
    queue = digits.column("SELECT image_id FROM labeling_candidates")
    assert not queue & {*right, *wrong}
    assert queue >= {*skipped, *withdrawn}
    assert numbers(again, "labeling_batch")["in_flight"] == 12
    chosen = set(load_batch(tmp_path / "labeling.duckdb", pool="pool")["image_id"])
    assert len(chosen) == BATCH_SIZE
    assert not chosen & set(ids)
    # Where that is wanted, they come back.
    returning = digits.definitions(return_skipped=True)
    run(tmp_path, returning, server, "labels")
    assert (
        numbers(run(tmp_path, returning, server, "labeling_batch"), "labeling_batch")["in_flight"]
        == 7
    )
    assert digits.column("SELECT image_id FROM labeling_batches WHERE returned_at IS NOT NULL") == {
        *skipped
    }
    # The next model reads the labels, and ranks again.
    labels, accuracy_after = digits.train("labels.csv")
    assert labels == LABELED + 38
    with capsys.disabled():
        print(
            f"\naccuracy on {len(digits.truth) - POOL} other digits: {accuracy_before:.1%} with {LABELED} labels, "
            f"{accuracy_after:.1%} with {labels}, of which {len(wrong)} are wrong"
        )
    run(tmp_path, returning, server, *BATCH[1:])
    assert not digits.column("SELECT image_id FROM labeling_candidates") & {*right, *wrong}
    assert not set(load_batch(tmp_path / "labeling.duckdb", pool="pool")["image_id"]) & {
        *right,
        *wrong,
        *withdrawn,
        *waiting,
    }
