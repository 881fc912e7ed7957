"""What predictions, scores and rankings were made of: stored with them, and checked at each step."""

from dataclasses import replace

import pytest

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    explain_candidate,
    flow,
    read_predictions,
)
from dagster_active_learning.acquisition.validity import PROBABILITY_TOLERANCE
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.rules import SCORING_RULES, Rules
from dagster_active_learning.store.candidate_findings import missing_candidates
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_candidates import candidate_rows
from dagster_active_learning.store.prediction_sets import former_class_names
from dagster_active_learning.store.rankings import check_rankings, outdated_rankings
from dagster_active_learning.store.score_statistics import unlabeled_count
from pools import column, ingest, on_tables, rank, rows, score
from ranked_pools import manifest, ranked_files, sha256, write_files

FIRST = [("a", [0.5, 0.5]), ("b", [0.75, 0.25])]
SECOND = [("a", [0.875, 0.125]), ("b", [0.5, 0.5]), ("c", [1.0, 0.0])]

OTHER = {
    "task": "segmentation",
    "inputs": "independent",
    "aggregation": "max",
    "score_only": "binary",
    "in_manifest": True,
    "sum_tolerance": 0.01,
    "committee": True,
}
"""Another value for each rule of scores than ``RULES`` has."""

RULES = Rules(task="detection")


def rules_without(name):
    """Rules whose rule of that name can have its other value: objects have no committees."""
    return Rules() if name == "committee" else RULES


def read(store, path, *, rules=RULES, run_id="run", model="model", prediction_set="set"):
    flow.ingest_predictions(
        store, read_predictions(path, format="parquet"), prediction_set=prediction_set,
        model=model, run_id=run_id, rules=rules, report=lambda _: None,
    )  # fmt: skip


def make_scores(store, *, rules=RULES, run_id="run", prediction_set="set"):
    flow.score_prediction_set(
        store, prediction_set, rules=rules, run_id=run_id, report=lambda _: None
    )


def make_rankings(store, *names, rules=RULES, run_id="run", prediction_set="set"):
    functions = [ACQUISITION_FUNCTIONS[name] for name in names]
    flow.rank_candidates(
        store, prediction_set, functions, rules=rules, limit=10, seed=0, run_id=run_id
    )


# Rules


@pytest.mark.parametrize("name", SCORING_RULES)
def test_scores_of_another_rule_are_not_ranked(store, tmp_path, name):
    """Each rule alone: the error names both values, and the former ranking stays as it was."""
    replace_images(store, manifest(["a", "b"]))
    path = write_files(tmp_path / "files", FIRST)
    rules = rules_without(name)
    other = replace(rules, **{name: OTHER[name]})
    for made, wanted in ((rules, other), (other, rules)):
        read(store, path, rules=made)
        make_scores(store, rules=made)
        make_rankings(store, "margin", rules=made)
        before = rows(store, "FROM labeling_candidates"), rows(store, "FROM rankings")
        values = [f"{name} {getattr(rules, name)!r}" for rules in (made, wanted)]
        words = (
            f"made with {values[0]}, and the pool has {values[1]}: materialize pool/image_scores"
        )
        with pytest.raises(PoolStateError, match=words):
            make_rankings(store, "margin", "entropy", rules=wanted)
        assert (rows(store, "FROM labeling_candidates"), rows(store, "FROM rankings")) == before


def test_several_other_rules_are_all_named(store, tmp_path):
    read(store, write_files(tmp_path / "files", FIRST))
    make_scores(store)
    wanted = replace(RULES, aggregation="sum", score_only="binary")
    words = "with aggregation 'mean', score_only None, and the pool has aggregation 'sum', score_only 'binary'"
    with pytest.raises(PoolStateError, match=words):
        make_rankings(store, "margin", rules=wanted)
    make_scores(store, rules=wanted)
    make_rankings(store, "margin", rules=wanted)


@pytest.mark.parametrize("name", SCORING_RULES)
def test_predictions_read_under_another_rule_are_not_scored(store, tmp_path, name):
    replace_images(store, manifest(["a", "b"]))
    read(store, write_files(tmp_path / "files", FIRST), rules=rules_without(name))
    make_scores(store, rules=rules_without(name))
    before = rows(store, "FROM image_scores"), rows(store, "FROM scorings")
    wanted = replace(rules_without(name), **{name: OTHER[name]})
    if name in ("aggregation", "score_only", "committee"):  # rules of scores alone
        make_scores(store, rules=wanted)
        return
    words = f"were read with {name} {getattr(RULES, name)!r}, and the pool has {name} {OTHER[name]!r}: materialize pool/predictions"
    with pytest.raises(PoolStateError, match=words):
        make_scores(store, rules=wanted)
    assert (rows(store, "FROM image_scores"), rows(store, "FROM scorings")) == before


def test_a_rule_that_scores_do_not_depend_on_is_the_rankings_own(store, tmp_path):
    ranked_files(store, write_files(tmp_path / "files", FIRST))
    rank(store, "margin", rules=Rules(images_without_predictions="first"))


@pytest.mark.parametrize("tolerance", [0.0, PROBABILITY_TOLERANCE * 2])
def test_scores_of_another_tolerance_are_not_ranked(store, tmp_path, tolerance):
    read(store, write_files(tmp_path / "files", FIRST))
    make_scores(store)
    store.connection.execute("UPDATE scorings SET sum_tolerance = ?", [tolerance])
    with pytest.raises(PoolStateError, match=f"with sum_tolerance {tolerance}, and the pool has"):
        make_rankings(store, "margin")


def test_scores_of_other_predictions_are_not_ranked(store, tmp_path):
    """As a writer leaves them who knows nothing of scorings."""
    path = write_files(tmp_path / "files", FIRST)
    read(store, path, run_id="first reading")
    make_scores(store)
    kept = store.relation("FROM scorings").to_arrow_table()
    scores = store.relation("FROM image_scores").to_arrow_table()
    read(store, path, run_id="second reading")
    with pytest.raises(PoolStateError, match="'set' of pool 'pool' has no scores: mat"):
        make_rankings(store, "margin")
    statement = "INSERT INTO image_scores BY NAME SELECT * EXCLUDE (prediction_set) FROM active_learning__incoming"
    store.connection.execute(
        on_tables(store.connection, "ALTER TABLE image_scores ADD COLUMN margin DOUBLE")
    )
    scores = scores.select(["prediction_set", "image_id", "prediction_count", "margin"])
    store.insert(on_tables(store.connection, statement), scores)
    with pytest.raises(PoolStateError, match="scores of an earlier version.*pool/image_scores"):
        make_rankings(store, "margin")
    store.insert("INSERT INTO scorings BY NAME FROM active_learning__incoming", kept)
    words = "that run first reading read, and those that run second reading read are stored: mat"
    with pytest.raises(PoolStateError, match=words):
        make_rankings(store, "margin")


def test_the_rules_and_runs_are_stored(store, tmp_path):
    replace_images(store, manifest(["a", "b"]))
    rules = Rules(
        task="detection", aggregation="min", score_only="binary", in_manifest=True
    )  # fmt: skip
    path = write_files(tmp_path / "files", FIRST)
    read(store, path, rules=rules, run_id="r1", model="m1")
    make_scores(store, rules=rules, run_id="r2")
    make_rankings(store, "margin", "entropy", rules=rules, run_id="r3")
    kept = "task, inputs, aggregation, score_only, in_manifest, sum_tolerance"
    expected = ("detection", "probabilities", "min", "binary", True, PROBABILITY_TOLERANCE)
    assert rows(store, f"SELECT {kept}, prediction_run_id, run_id FROM scorings") == [
        (*expected, "r1", "r2")
    ]
    ranking = (
        f"SELECT {kept}, prediction_run_id, scoring_run_id, run_id, model, source FROM rankings"
    )
    assert rows(store, ranking) == [(*expected, "r1", "r2", "r3", "m1", str(path))] * 2
    assert rows(store, "SELECT task, inputs, in_manifest, sum_tolerance, run_id FROM prediction_sets") == [
        ("detection", "probabilities", True, PROBABILITY_TOLERANCE, "r1")
    ]  # fmt: skip


# Origin

LINEAGE = """
SELECT acquisition_function, image_id, model, prediction_set_source, prediction_run_id,
    scoring_run_id, source, source_sha256, row_number, class_probs, class_names, is_current
FROM candidate_lineage WHERE image_id = 'a' ORDER BY ALL
"""


def test_an_old_rank_has_the_origin_that_it_was_made_of(store, tmp_path):
    """Predictions are read, then scored again; the rankings are made again one after the other."""
    first, second = (
        write_files(tmp_path / name, some[:1], some[1:]) for name, some in (("first", FIRST), ("second", SECOND))
    )  # fmt: skip
    read(store, first, run_id="r1", model="m1")
    make_scores(store, run_id="s1")
    make_rankings(store, "margin", "entropy")
    file = first.parent / "part0.parquet"
    now = ("m1", str(first), "r1", "s1", str(file), sha256(file), 1, [0.5, 0.5], ["0", "1"], True)
    assert rows(store, LINEAGE) == [(name, "a", *now) for name in ("entropy", "margin")]
    digest = column(store, "SELECT DISTINCT source_sha256 FROM rankings")

    read(store, second, run_id="r2", model="m2")
    gone = ("m1", str(first), "r1", "s1", None, None, None, None, None, False)
    for step in (lambda: None, lambda: make_scores(store, run_id="s2")):
        step()
        assert rows(store, LINEAGE) == [(name, "a", *gone) for name in ("entropy", "margin")]
        assert column(store, "SELECT DISTINCT source_sha256 FROM rankings") == digest
        assert candidate_rows(store, "set").read_all().num_rows == 4

    make_rankings(store, "margin")
    file = second.parent / "part0.parquet"
    new = (
        "m2",
        str(second),
        "r2",
        "s2",
        str(file),
        sha256(file),
        1,
        [0.875, 0.125],
        ["0", "1"],
        True,
    )
    assert rows(store, LINEAGE) == [("entropy", "a", *gone), ("margin", "a", *new)]


def test_the_files_of_a_ranking_stay_as_long_as_it_does(store, tmp_path):
    files = "SELECT source, source_sha256, first_prediction_index, row_count FROM {} ORDER BY 3"
    former = files.format("former_prediction_sources")
    first = write_files(tmp_path / "first", FIRST[:1], FIRST[1:])
    second = write_files(tmp_path / "second", SECOND)
    read(store, first)
    make_scores(store)
    read(store, first)
    assert rows(store, former) == [], "nothing was ranked"
    make_scores(store)
    make_rankings(store, "margin", "entropy")
    of_first = rows(store, files.format("prediction_sources"))
    assert len(of_first) == 2
    read(store, second, prediction_set="other")
    assert rows(store, former) == []
    for _ in range(2):
        read(store, second)
        assert rows(store, former) == of_first
    of_second = rows(store, files.format("prediction_sources WHERE prediction_set = 'set'"))
    make_scores(store)
    make_rankings(store, "margin")
    assert rows(store, former) == of_first, "entropy is still of them"
    read(store, first)
    assert sorted(rows(store, former)) == sorted([*of_first, *of_second])
    make_scores(store)
    make_rankings(store, "margin", "entropy")
    assert rows(store, former) == []


def test_a_reading_that_fails_changes_nothing(store, tmp_path):
    ranked_files(store, write_files(tmp_path / "first", FIRST))
    before = [rows(store, f"FROM {table}") for table in ("rankings", "scorings", "prediction_sources", "former_prediction_sources")]  # fmt: skip
    bad = write_files(tmp_path / "bad", [("a", [1.0, 1.0])])
    with pytest.raises(Exception, match="no prediction that can be scored"):
        ingest(store, read_predictions(bad, format="parquet"))
    assert before == [rows(store, f"FROM {table}") for table in ("rankings", "scorings", "prediction_sources", "former_prediction_sources")]  # fmt: skip
    assert outdated_rankings(store, ["set"], ["margin"]).count == 0


# Order


def test_a_clock_that_goes_back_changes_nothing(store, tmp_path):
    """Ranked at a time before that of the reading, and read at a time before that of the ranking."""
    path = write_files(tmp_path / "files", FIRST)
    ranked_files(store, path)
    store.connection.execute("UPDATE rankings SET ranked_at = ranked_at - INTERVAL 1 HOUR")
    store.connection.execute("UPDATE scorings SET scored_at = scored_at - INTERVAL 2 HOUR")
    assert outdated_rankings(store, ["set"], [*ACQUISITION_FUNCTIONS]).count == 0
    check_rankings(store, "set", [*ACQUISITION_FUNCTIONS])
    assert column(store, "SELECT DISTINCT is_current FROM candidate_lineage") == [True]

    ingest(store, read_predictions(path, format="parquet"))
    store.connection.execute(
        "UPDATE prediction_sets SET ingested_at = ingested_at - INTERVAL 3 HOUR"
    )
    assert outdated_rankings(store, ["set"], ["margin", "entropy"]).count == 2
    assert column(store, "SELECT DISTINCT is_current FROM candidate_lineage") == [False]
    score(store)
    assert outdated_rankings(store, ["set"], ["margin", "entropy"]).count == 2


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_the_former_set_is_the_one_that_was_read_before(store, tmp_path, hours):
    for number in range(3):
        class_probs = [1.0] + [0.0] * (number + 1)
        path = write_files(tmp_path / str(number), [("a", class_probs)])
        read(store, path, prediction_set=f"set{number}")
        store.connection.execute(
            f"UPDATE prediction_sets SET ingested_at = TIMESTAMPTZ '2026-01-01' + INTERVAL ({number * hours}) HOUR WHERE prediction_set = 'set{number}'"
        )
    classes = [former_class_names(store, f"set{number}") for number in range(3)]
    assert classes == [None, ["0", "1"], ["0", "1", "2"]]


def test_scores_that_are_made_again_make_a_ranking_outdated(store, tmp_path):
    ranked_files(store, write_files(tmp_path / "files", FIRST))
    score(store)
    (example, *_) = outdated_rankings(store, ["set"], ["margin"]).examples
    assert (example["acquisition_function"], example["ranked_by_run"]) == ("margin", "run")
    assert "its predictions or scores were made again since: materialize pool/lab" in (
        explain_candidate(store.connection, "a", pool="pool", acquisition_function="margin")
    )
    with pytest.raises(PoolStateError, match="materialize pool/labeling_candidates/margin first"):
        check_rankings(store, "set", ["margin"])


def test_generations_rise_over_sets_scores_and_rankings(store, tmp_path):
    path = write_files(tmp_path / "files", FIRST)
    numbers = []
    for name in ("one", "two", "one"):
        read(store, path, prediction_set=name)
        numbers += column(
            store, f"SELECT generation FROM prediction_sets WHERE prediction_set = '{name}'"
        )
        make_scores(store, prediction_set=name)
        numbers += column(store, f"SELECT generation FROM scorings WHERE prediction_set = '{name}'")
        make_rankings(store, "margin", "entropy", prediction_set=name)
        numbers += sorted(
            column(store, f"SELECT generation FROM rankings WHERE prediction_set = '{name}'")
        )
    assert numbers == sorted(set(numbers))


def test_it_is_said_of_an_explained_rank(store, tmp_path):
    first, second = (write_files(tmp_path / name, some) for name, some in (("first", FIRST), ("second", SECOND)))  # fmt: skip
    read(store, first, run_id="r1", model="m1")
    make_scores(store)
    make_rankings(store, "margin")
    digest = column(store, "SELECT source_sha256 FROM rankings")[0]

    def explained(image_id="a"):
        return explain_candidate(
            store.connection, image_id, pool="pool", acquisition_function="margin"
        )

    assert "replaced" not in explained()
    # The same file once more: the rank and its score are what they would be, its origin is not.
    read(store, first, run_id="r2", model="m2")
    make_scores(store, rules=replace(RULES, aggregation="max"))
    said = f"\n  made of predictions that were replaced since: model 'm1', source '{first}', SHA-256 {digest}, read by Dagster run r1\n"
    again = "materialize pool/labeling_candidates/margin again"
    text = explained()
    assert said in text
    assert f"\n  its predictions or scores were made again since: {again}\n" in text
    assert "mean over the image's predictions" in text, "as it was ranked"
    assert "\nmodel: 'm2'\n" in text
    read(store, second, run_id="r3", model="m3")
    make_scores(store)
    assert said in explained()
    assert f"this rank is old, the score is 0.75 now: {again}" in explained()
    make_rankings(store, "margin")
    assert "replaced" not in explained()


# A manifest that the pool has no longer


def test_a_manifest_taken_away_excludes_nothing(store, tmp_path):
    replace_images(store, manifest(["a", "missing"], {"a": "cat"}))
    path = write_files(tmp_path / "files", FIRST)
    with_manifest = replace(RULES, in_manifest=True)
    read(store, path, rules=with_manifest)
    make_scores(store, rules=with_manifest)
    make_rankings(store, "margin", rules=with_manifest)
    assert column(store, "SELECT image_id FROM labeling_candidates") == ["missing"]
    assert unlabeled_count(store, "set", with_manifest) == 1

    read(store, path)
    make_scores(store)
    assert unlabeled_count(store, "set", RULES) == 2
    margin = ACQUISITION_FUNCTIONS["margin"]
    store.connection.execute("DELETE FROM labeling_candidates")
    assert missing_candidates(store, ["set"], margin, RULES, limit=10).count == 2
    make_rankings(store, "margin")
    assert missing_candidates(store, ["set"], margin, RULES, limit=10).count == 0
    for still_to_label in (False, True):
        found = candidate_rows(store, "set", still_to_label=still_to_label).read_all().to_pylist()
        assert [(row["image_id"], row["uri"], row["width"]) for row in found] == [
            ("a", None, None), ("b", None, None),
        ]  # fmt: skip
    assert column(store, "SELECT DISTINCT uri FROM candidate_lineage") == [None]
    text = explain_candidate(store.connection, "a", pool="pool")
    assert "labeled since" not in text
    assert "file:" not in text
    text = explain_candidate(store.connection, "b", pool="pool")
    assert "the pool's manifest" not in text
    with pytest.raises(PoolStateError, match="has no row about it$"):
        explain_candidate(store.connection, "missing", pool="pool")
