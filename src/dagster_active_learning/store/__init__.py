"""A pool's tables in DuckDB; the only place with SQL."""

from dagster_active_learning.store.lookup import (
    ImageRecord as ImageRecord,
)
from dagster_active_learning.store.lookup import (
    candidate_rows as candidate_rows,
)
from dagster_active_learning.store.lookup import (
    chosen_prediction_set as chosen_prediction_set,
)
from dagster_active_learning.store.lookup import (
    existing_pool as existing_pool,
)
from dagster_active_learning.store.lookup import (
    image_record as image_record,
)
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
