"""Committees as Dagster runs them: what only they may ask for, and members by a query."""

# What a test expects to be there may be None, or of another type, for the types.
# pyright: reportOptionalMemberAccess=false, reportOptionalIterable=false, reportOperatorIssue=false
# pyright: reportAttributeAccessIssue=false

import dagster as dg
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    PredictionFiles,
    PredictionQuery,
    RuleEvaluation,
    active_learning_definitions,
)
from dagster_active_learning.errors import SettingError

FILES = PredictionFiles("p.parquet", "parquet")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"acquisition_functions": ["margin", "vote_entropy"]}, r"expected different ones of entropy, .*; vote_entropy compare the members of a committee: set committee to true"),
        ({"batch": LabelingBatch(size=10, rank_by="mutual_information")}, r"rank_by is 'mutual_information'.*set committee to true"),
        ({"acquisition_functions": ["votes"], "committee": True}, r"expected different ones of .*, variance, mutual_information, vote_entropy for the task"),
    ],
)  # fmt: skip
def test_only_a_committee_may_ask_for_functions_of_its_members(settings, words):
    with pytest.raises(SettingError, match=words):
        active_learning_definitions(pool="pool", predictions=FILES, **settings)


def test_a_committee_has_a_ranking_by_each_function_and_others_have_none_by_members():
    def functions(**settings):
        defs = active_learning_definitions(pool="pool", predictions=FILES, **settings)
        keys = {key for asset in defs.assets for key in asset.keys}
        return {key.path[-1] for key in keys if key.path[-2] == "labeling_candidates"}

    assert functions(committee=True) - functions() == {"mutual_information", "vote_entropy"}


def test_prediction_sets_of_another_pool_are_members_by_a_query(tmp_path):
    random = np.random.default_rng(2)
    ids = [f"image{number:03d}" for number in range(200)]
    truth = random.integers(3, size=200)
    for name, strength in (("strong", 2.0), ("also_strong", 2.0), ("weak", -2.0)):
        logits = random.normal(size=(200, 3)) + strength * np.eye(3)[truth]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        kept = ids[:190] if name == "strong" else ids
        pq.write_table(pa.table({"image_id": kept, "class_probs": list(probs[: len(kept)])}), tmp_path / f"{name}.parquet")  # fmt: skip
    pl.DataFrame({"image_id": ids, "label": map(str, truth)}).write_csv(tmp_path / "m.csv")
    networks = active_learning_definitions(
        pool="networks",
        predictions=PredictionFiles(tmp_path / "{partition_key}.parquet", "parquet"),
        partitions_def=dg.StaticPartitionsDefinition(["also_strong", "strong", "weak"]),
    )
    committee = active_learning_definitions(
        pool="committee",
        predictions=PredictionQuery(
            "FROM networks.predictions WHERE prediction_set IN ('also_strong', 'strong', 'weak') "
            "ORDER BY prediction_set, prediction_index"
        ),
        images=tmp_path / "m.csv",
        committee=True,
        acquisition_functions=["margin", "vote_entropy"],
        evaluation=RuleEvaluation(labels_drawn_at_random=True),
    )
    resources = {"duckdb": DuckDBResource(database=str(tmp_path / "labeling.duckdb"))}
    for key in ("also_strong", "strong", "weak"):
        assets = [*networks.assets, *networks.asset_checks]
        selection = ["networks/predictions"]
        assert dg.materialize(assets, resources=resources, partition_key=key, selection=selection).success  # fmt: skip
    result = dg.materialize([*committee.assets, *committee.asset_checks], resources=resources)
    metadata = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    scores = metadata["image_scores"]
    assert [scores[name].value for name in ("members", "images_with_missing_members")] == [3, 10]
    assert 0 < scores["mean_vote_entropy"].value < 1
    evaluation = metadata["rule_evaluation"]
    members = [record.data for record in evaluation["members"].records]
    assert [row["better without it"] for row in members] == ["not found", "not found", "yes"]
    assert [row["labels"] for row in members] == [190] * 3
    answer = " ".join(evaluation["answer_about_members"].value.split())
    assert answer.startswith("the committee is better without prediction 3 of each image")
