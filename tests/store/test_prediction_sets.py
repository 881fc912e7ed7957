"""Prediction sets by their names."""

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.prediction_sets import (
    PredictionSet,
    add_prediction_set,
    chosen_prediction_set,
    prediction_set,
    prediction_set_names,
)
from dagster_active_learning.store.set_rows import make_set_tables
from pools import ingest
from ranked_pools import HOSTILE_IDS, write_files


def test_the_only_prediction_set_needs_no_name(store, tmp_path):
    with pytest.raises(PoolStateError, match="has 0 prediction sets, .*materialize pool/pred"):
        chosen_prediction_set(store, None)
    stream = read_predictions(
        write_files(tmp_path / "files", [("a", [0.5, 0.5])]), format="parquet"
    )
    ingest(store, stream)
    assert chosen_prediction_set(store, None) == chosen_prediction_set(store, "set") == "set"
    with pytest.raises(PoolStateError, match="has no prediction set 'other'"):
        chosen_prediction_set(store, "other")
    stream = read_predictions(tmp_path / "files" / "*.parquet", format="parquet")
    ingest(store, stream, prediction_set="another")
    with pytest.raises(PoolStateError, match=r"2 prediction sets, \['another', 'set'\]: name one"):
        chosen_prediction_set(store, None)


@pytest.mark.parametrize("class_names", [[], ["car"], HOSTILE_IDS])
def test_a_record_is_read_as_it_was_written(store, class_names):
    tables = make_set_tables(store, "'; DROP")
    given = PredictionSet(
        prediction_set=tables.prediction_set, generation=tables.generation, model=None, source="$model", source_sha256="0f",
        class_names=class_names, prediction_count=7, image_count=5, image_run_count=6,
        quarantined_count=4, score_only_count=3, bbox_unit="pixel", value_type="FLOAT[]",
        run_id="run",
    )  # fmt: skip
    add_prediction_set(store, given)
    assert prediction_set(store, given.prediction_set) == given
    assert prediction_set_names(store) == [given.prediction_set]
