"""A pool's tables in DuckDB; the only place with SQL."""

from dagster_active_learning.store.pool_store import (
    PoolStore as PoolStore,
)
from dagster_active_learning.store.pool_store import (
    PredictionSet as PredictionSet,
)
from dagster_active_learning.store.pool_store import (
    SourceFile as SourceFile,
)
from dagster_active_learning.store.pool_store import (
    image_score_schema as image_score_schema,
)
from dagster_active_learning.store.pool_store import (
    prediction_schema as prediction_schema,
)
from dagster_active_learning.store.pool_store import (
    release_results as release_results,
)
