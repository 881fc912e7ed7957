"""The steps of a pool as tests call them: one prediction set, one run."""

import re
from dataclasses import replace

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.rules import Rules

RULES = Rules()


def rows(store, sql):
    return store.connection.execute(sql).fetchall()


def column(store, sql):
    return [value for (value,) in rows(store, sql)]


def ingest(
    store, stream, *, in_manifest=False, prediction_set="set", rules=RULES, report=lambda _: None
):
    return flow.ingest_predictions(
        store,
        stream,
        prediction_set=prediction_set,
        model="model",
        run_id="run",
        rules=replace(rules, in_manifest=in_manifest),
        report=report,
    )


def score(store, batch_rows=None, *, in_manifest=False, rules=RULES):
    flow.score_prediction_set(
        store,
        "set",
        rules=replace(rules, in_manifest=in_manifest),
        run_id="run",
        batch_rows=batch_rows,
        report=lambda _: None,
    )
    relation = store.connection.sql("SELECT * EXCLUDE (prediction_set) FROM image_scores")
    return relation.pl().sort("image_id")


def rank(store, name, limit=1000, seed=0, rules=RULES, *, in_manifest=False):
    ranking = flow.rank_candidates(
        store,
        "set",
        [ACQUISITION_FUNCTIONS[name]],
        rules=replace(rules, in_manifest=in_manifest),
        limit=limit,
        seed=seed,
        run_id="run",
    )[name]
    return ranking, rows(
        store,
        f"""SELECT image_id, rank, score, uncertainty, predicted_class
        FROM labeling_candidates WHERE acquisition_function = '{name}' ORDER BY rank""",
    )


def on_tables(connection, statement):
    """A statement that changes ``predictions`` or ``image_scores`` of a pool's only set.

    Those are views: what it changes are the tables in them, which get all columns before.
    """
    ((number,),) = connection.execute("SELECT generation FROM pool.prediction_sets").fetchall()
    kind = "SELECT count(*) FROM duckdb_views() WHERE view_name = ?"
    if connection.execute(kind, [f"image_scores_{number}"]).fetchall() == [(1,)]:
        # The scores are columns of the predictions.
        connection.execute(f"CREATE TABLE pool.scores AS FROM pool.image_scores_{number}")
        connection.execute(f"DROP VIEW pool.image_scores_{number}")
        connection.execute(f"ALTER TABLE pool.scores RENAME TO image_scores_{number}")
    of_objects = "ADD COLUMN IF NOT EXISTS mean_object_score DOUBLE"
    connection.execute(f"ALTER TABLE pool.image_scores_{number} {of_objects}")
    return re.sub(r"\b(predictions|image_scores)\b", rf"\1_{number}", statement)


def in_memory(table):
    return read_table(table, name="table", options=TableOptions())
