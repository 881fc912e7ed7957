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
from dagster_active_learning.store.opening import (
    connect as connect,
)
from dagster_active_learning.store.overview import (
    FormerCandidates as FormerCandidates,
)
from dagster_active_learning.store.overview import (
    ScoreBins as ScoreBins,
)
from dagster_active_learning.store.overview import (
    candidates_by_class as candidates_by_class,
)
from dagster_active_learning.store.overview import (
    candidates_without_predictions as candidates_without_predictions,
)
from dagster_active_learning.store.overview import (
    common_candidates as common_candidates,
)
from dagster_active_learning.store.overview import (
    common_with as common_with,
)
from dagster_active_learning.store.overview import (
    former_candidates as former_candidates,
)
from dagster_active_learning.store.overview import (
    predictions_by_class as predictions_by_class,
)
from dagster_active_learning.store.overview import (
    predictions_of_first as predictions_of_first,
)
from dagster_active_learning.store.overview import (
    quarantined_of_first as quarantined_of_first,
)
from dagster_active_learning.store.overview import (
    score_bins as score_bins,
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
    prediction_schema as prediction_schema,
)
from dagster_active_learning.store.pool_store import (
    release_results as release_results,
)
