"""What a labeling batch adds to a pool that is ranked: the draw, turns, distances and gradients."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow, read_predictions
from dagster_active_learning.ranking.batch import Embeddings
from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from measuring import Settings, Table, Times, in_fresh_process, times_in_turn
from pipeline_benchmarks import connect, new_database, write_predictions

DIMENSIONS = 128
RULES = Rules()


def tables(settings: Settings) -> Iterator[Table]:
    n_images = 5_000 if settings.quick else min(settings.rows, 10_000_000)
    size, queue_length = (20, 200) if settings.quick else (1000, 10_000)
    parquet = write_predictions(settings.folder, n_images)
    measured = in_fresh_process(batches, parquet, size, queue_length, 1 if settings.quick else 3)
    targets = {"badge": ""}
    yield Table(
        f"A labeling batch of {size:,} of {n_images:,} images",
        f"From a queue of {queue_length:,}, a tenth of it drawn at random; embeddings of {DIMENSIONS} "
        "dimensions are there for those that can be chosen. What it adds to ingest, score and rank.",
        ("images chosen by", "seconds", "CPU s", "target, CPU s"),
        [
            [name, f"{times.wall:.2f}", f"{times.cpu:.2f}", targets.get(name, "< 2")]
            for name, times in measured.items()
        ],
    )


def batches(parquet: Path, size: int, queue_length: int, runs: int) -> Mapping[str, Times]:
    """Median times of batches that are chosen in several ways."""
    with connect(new_database(parquet)) as connection:
        store = PoolStore(connection, "pool")
        stream = read_predictions(parquet, format="parquet")
        record: dict[str, Any] = {"rules": RULES, "run_id": "benchmark"}
        told: dict[str, Any] = {"report": lambda _: None}
        flow.ingest_predictions(store, stream, prediction_set="set", model=None, **record, **told)
        flow.score_prediction_set(store, "set", **record, **told)
        margin = [ACQUISITION_FUNCTIONS["margin"]]
        flow.rank_candidates(store, "set", margin, limit=2 * queue_length, seed=0, **record)
        select = partial(
            flow.select_labeling_batch, store, "set", "margin", seed=0, **record,
        )  # fmt: skip
        common = {"size": size, "queue_length": queue_length}
        ways = {
            "turns": partial(select, batch_rules=BatchRules(**common)),
            "turns, near-duplicates out": partial(
                select,
                batch_rules=BatchRules(max_distance=8.0, **common),
                read_embeddings=_embeddings,
            ),
            "badge": partial(
                select,
                batch_rules=BatchRules(choose_by="badge", **common),
                read_embeddings=_embeddings,
            ),
        }
        for way in ways.values():  # compiles
            way()
        times = times_in_turn(list(ways.values()), runs)
    new_database(parquet)
    return dict(zip(ways, times, strict=True))


def _embeddings(_: PoolStore, wanted: Sequence[str], known: Sequence[str]) -> Embeddings:
    ids = list(dict.fromkeys(wanted))
    vectors = np.random.default_rng(0).standard_normal((len(ids), DIMENSIONS), np.float32)
    return Embeddings(ids, vectors, known)
