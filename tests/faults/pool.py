"""The pool that the fault tests fill, its steps, and what its tables hold."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dagster_duckdb import DuckDBResource

from dagster_active_learning import PredictionFiles, active_learning_definitions, flow
from dagster_active_learning.definitions.component import ActiveLearningComponent
from dagster_active_learning.definitions.exports import CandidateFiles
from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.handed_out import begin_export, end_export
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.pool_store import PoolStore
from pools import in_memory, ingest, rank, score
from ranked_pools import manifest

STEPS = {
    "ingest": dg.AssetSelection.assets(["pool", "predictions"]),
    "score": dg.AssetSelection.assets(["pool", "image_scores"]),
    "rank": dg.AssetSelection.key_prefixes(["pool", "labeling_candidates"]),
    "all": dg.AssetSelection.all(),
}

TABLES = (
    "empty_images",
    "former_prediction_sources",
    "image_scores",
    "labeling_candidates",
    "prediction_sets",
    "prediction_sources",
    "predictions",
    "quarantined_predictions",
    "rankings",
    "scorings",
)

# What is another one in every run.
ROWS = """
FROM (SELECT COLUMNS(lambda c: NOT regexp_matches(c, '(run_id|generation|_at)$')) FROM {database}pool.{table})
"""

Tables = dict[str, tuple[int, int]]
"""For each table how many rows it has, and a sum of their hashes: equal for equal rows."""


def write_set(path: Path, rows: int, n_classes: int, seed: int) -> None:
    """Write predictions, of which every thousandth cannot be scored."""
    random = np.random.default_rng(seed)
    class_probs = random.dirichlet(np.ones(n_classes), rows).astype(np.float32)
    class_probs[seed % 1000 :: 1000] = 1
    ids = [f"image_{one:08d}" for one in random.permutation(2 * rows)[:rows]]
    offsets = np.arange(rows + 1, dtype=np.int32) * n_classes
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(class_probs.ravel()))
    table = pa.table({"image_id": ids, "class_probs": lists})
    pq.write_table(table, path, row_group_size=max(rows // 4, 1), write_page_checksum=True)


def materialize(
    component: ActiveLearningComponent,
    database: Path,
    step: str = "all",
    partition_key: str | None = None,
) -> str | None:
    """Materialize a step's assets in a run of their own; returns the error if it fails."""
    result = dg.materialize(
        component.definitions().assets or [],
        selection=STEPS[step],
        resources={"duckdb": DuckDBResource(database=str(database))},
        partition_key=partition_key,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    if result.success:
        return None
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            return str((error.cause or error).message)
    return "the run failed"


def pool(predictions: Path, *, kind: type[ActiveLearningComponent] = ActiveLearningComponent):
    """A pool whose rankings are of the size of their set."""
    return kind(pool="pool", predictions=PredictionFiles(predictions, "parquet"), limit=1_000_000)


BATCH_IDS = [f"image{number:02d}" for number in range(60)]


def write_next_batch(folder: Path, seed: int, labeled: set[str]) -> int:
    """The steps from a manifest and a newly trained model to a file with the images to label.

    Returns:
        The number of images in the batch.
    """
    rules = Rules(in_manifest=True)
    class_probs = np.random.default_rng(seed).dirichlet([1, 1, 1], 60).astype(np.float32)
    table = pa.table({"image_id": BATCH_IDS, "class_probs": list(class_probs)})
    files = CandidateFiles(folder / "batch.csv", partitioned=False)
    with duckdb.connect(str(folder / "work.duckdb")) as connection:
        store = PoolStore(connection, "pool")
        with store.transaction():
            replace_images(store, manifest(BATCH_IDS, dict.fromkeys(labeled, "x")))
        ingest(store, in_memory(table), in_manifest=True)
        score(store, in_manifest=True)
        rank(store, "margin", in_manifest=True)
        selection = flow.select_labeling_batch(
            store,
            "set",
            "margin",
            rules=rules,
            batch_rules=BatchRules(size=6, random_share=0.3),
            seed=0,
            run_id="run",
        ).selection
        if selection.image_count:
            begin = partial(begin_export, store, selection.batch)
            files.write_batch(store, selection.batch, "set", begin)
            end_export(store, selection.batch)
    return selection.image_count


def many_pools() -> dg.JobDefinition:
    """A job of several pools in one database, whose steps run at once, each in its process."""
    folder = Path(os.environ["FAULTS_FOLDER"])
    pools = [
        active_learning_definitions(
            pool=path.stem, predictions=PredictionFiles(path, "parquet"), limit=1_000_000
        )
        for path in sorted(folder.glob("*.parquet"))
    ]
    resources = {"duckdb": DuckDBResource(database=str(folder / "many.duckdb"))}
    definitions = dg.Definitions.merge(
        *pools,
        dg.Definitions(resources=resources, jobs=[dg.define_asset_job("many_pools")]),
    )
    return definitions.resolve_job_def("many_pools")


def broken_copy(path: Path, copy: Path) -> None:
    """A copy that can be opened, and read up to its middle."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half - 1000 : half] = bytes(1000)
    copy.write_bytes(content)


def state(database: Path) -> Tables | None:
    """What the pool's tables hold; None if there are no rows at all."""
    if not database.exists():
        return None
    with duckdb.connect(str(database), read_only=True) as connection:
        made = connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
        if made == [(0,)]:
            return None
        tables: Tables = {}
        for table in TABLES:
            rows = ROWS.format(database="", table=table)
            (found,) = connection.execute(
                f"SELECT count(*), coalesce(sum(hash(one)), 0)::HUGEINT FROM (SELECT one {rows} one)"
            ).fetchall()
            tables[table] = found
    return tables if any(count for count, _ in tables.values()) else None


def differing_rows(one: Path, other: Path) -> dict[str, int]:
    """For each table how many rows only one of two databases has, doubled rows counted."""
    with duckdb.connect() as connection:
        connection.execute(
            f"ATTACH '{one}' AS one (READ_ONLY); ATTACH '{other}' AS other (READ_ONLY)"
        )
        found: dict[str, int] = {}
        for table in TABLES:
            left, right = (
                ROWS.format(database=f"{name}.", table=table) for name in ("one", "other")
            )
            ((found[table],),) = connection.execute(f"""
                SELECT (SELECT count(*) FROM (({left}) EXCEPT ALL ({right})))
                    + (SELECT count(*) FROM (({right}) EXCEPT ALL ({left})))
            """).fetchall()
    return found
