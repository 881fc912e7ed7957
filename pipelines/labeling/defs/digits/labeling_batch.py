"""What a labeling tool would fetch: the next images, in the order in which to label them."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from labeling.defs.digits.image_files import FOLDER

BATCH_SIZE = 10
BATCH = FOLDER / "labeling_batch.csv"

NEXT_IMAGES = """
SELECT c.rank, c.image_id, c.score AS margin, c.uncertainty, c.predicted_class, i.uri
FROM digits.labeling_candidates c JOIN digits.images i USING (image_id)
WHERE c.acquisition_function = 'margin' ORDER BY c.rank LIMIT $batch_size
"""


@dg.asset(
    key=["digits", "labeling_batch"],
    deps=[["digits", "labeling_candidates", "margin"]],
    group_name="digits",
    kinds={"duckdb", "csv"},
    pool="duckdb",
)
def labeling_batch(
    context: dg.AssetExecutionContext, duckdb: DuckDBResource
) -> dg.MaterializeResult:
    """The ten images between whose two most probable classes the classifier can decide least."""
    import polars as pl

    with duckdb.get_connection() as connection:
        batch = connection.sql(NEXT_IMAGES, params={"batch_size": BATCH_SIZE}).pl()
    batch.write_csv(BATCH)
    with pl.Config(tbl_rows=BATCH_SIZE, tbl_hide_dataframe_shape=True, float_precision=4):
        table = str(batch.drop("uri"))
    context.log.info(f"Label these next (smallest margin first):\n{table}")
    context.log.info(
        f"All candidates are in the table digits.labeling_candidates of {duckdb.database}"
    )
    return dg.MaterializeResult(
        metadata={"dagster/row_count": batch.height, "batch": dg.MetadataValue.path(BATCH)}
    )
