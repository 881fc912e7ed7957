"""What all pools use: the DuckDB database, and one process for the steps of a run."""

import dagster as dg
from dagster_duckdb import DuckDBResource

from labeling.paths import DATABASE


@dg.definitions
def shared() -> dg.Definitions:
    """The database, whose folder is made, and the executor.

    DuckDB lets one process write at a time, so nothing is gained by one process per step.
    """
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    return dg.Definitions(
        resources={"duckdb": DuckDBResource(database=str(DATABASE))},
        executor=dg.in_process_executor,
    )
