"""Prediction sets by their names."""

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.store.prediction_sets import chosen_prediction_set
from pools import ingest
from ranked_pools import write_files


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
