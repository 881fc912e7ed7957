"""Asset checks: each passes on a sound pool, and fails on what it is there to find."""

import shutil
from functools import partial

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pytest
from dagster_duckdb import DuckDBResource
from dagster_shared.serdes import serialize_value

from dagster_active_learning import (
    PredictionFiles,
    PredictionQuery,
    active_learning_definitions,
)
from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS
from dagster_active_learning.definitions.checks.image_scores import SCORE_TOLERANCE
from dagster_active_learning.errors import PoolStateError

KEYS = ["may", "june", "july"]
STATIC = dg.StaticPartitionsDefinition(KEYS)
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

OF_PREDICTIONS = [
    "valid_class_probabilities", "no_duplicate_predictions", "no_undeclared_committee",
    "class_names_unchanged", "pool_coverage", "ids_as_in_the_manifest",
]  # fmt: skip
OF_SCORES = ["every_image_scored", "scores_in_bounds"]
OF_CANDIDATES = [
    "queue_is_not_empty", "ranks_without_gaps", "candidates_are_fresh", "no_labeled_candidates",
    "like_the_sets_before",
]  # fmt: skip


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


# With their checks, as far as the definitions that are given have any.
PREDICTIONS = dg.AssetSelection.assets(["pool", "predictions"])
INPUT = PREDICTIONS | dg.AssetSelection.assets(["pool", "images"])
SCORED = PREDICTIONS | dg.AssetSelection.assets(["pool", "image_scores"])
MARGIN = dg.AssetSelection.assets(["pool", "labeling_candidates", "margin"])


def materialize(
    database,
    instance,
    definitions,
    selection=None,
    *,
    keys=(),
    raise_on_error=True,
    run_config=None,
):
    several = {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    } if len(keys) > 1 else None  # fmt: skip
    return dg.materialize(
        [*definitions.assets, *definitions.asset_checks],
        instance=instance,
        resources={"duckdb": DuckDBResource(database=str(database))},
        selection=selection,
        partition_key=keys[0] if len(keys) == 1 else None,
        tags=several,
        raise_on_error=raise_on_error,
        run_config=run_config,
    )


@pytest.fixture
def run(database, instance):
    """Materialize and check what is selected, all by default; returns the run's result."""
    return partial(materialize, database, instance)


@pytest.fixture
def check(run):
    """Run the checks that are selected, all by default, and nothing else; their evaluations."""

    def check(definitions, selection=None):
        checks = dg.AssetSelection.checks(*definitions.asset_checks)
        if selection is not None:
            checks &= selection
        result = run(definitions, checks, raise_on_error=False)
        assert not result.get_asset_materialization_events()
        return evaluations(result)

    return check


def one_check(table, name, *function):
    key = dg.AssetKey(["pool", table, *function])
    return dg.AssetSelection.checks(dg.AssetCheckKey(key, name))


def class_probs(seed=0, **changed):
    """Class probabilities of 12 images."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(3), 12).tolist()
    for row, values in changed.items():
        rows[int(row.removeprefix("row"))] = values
    return rows


@pytest.fixture
def write(write_predictions):
    """Write class probabilities of 12 images as a Parquet file."""

    def write(name="predictions.parquet", seed=0, **changed):
        return write_predictions(class_probs(seed, **changed), name=name)

    return write


def sound_pool(folder):
    """A pool of 12 images with a manifest, of which the first is labeled."""
    ids = [f"image{row}" for row in range(12)]
    predictions = pl.DataFrame({"image_id": ids, "class_probs": class_probs()})
    predictions.write_parquet(folder / "predictions.parquet")
    manifest = pl.DataFrame({"image_id": ids, "labeled": [row == 0 for row in range(12)]})
    manifest.write_csv(folder / "manifest.csv")
    return definitions_of(folder)


@pytest.fixture
def sound(tmp_path):
    return sound_pool(tmp_path)


@pytest.fixture(scope="module")
def database_of_sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(folder / "test.duckdb", instance, sound_pool(folder))
    return folder / "test.duckdb"


@pytest.fixture
def materialized(sound, database_of_sound, database):
    """The pool of ``sound`` in a database that has all of it: a copy, for the test to break."""
    shutil.copyfile(database_of_sound, database)
    return sound


def definitions_of(folder, **settings):
    return active_learning_definitions(
        **{
            "pool": "pool",
            "predictions": PredictionFiles(folder / "predictions.parquet", "parquet"),
            "images": folder / "manifest.csv",
            "acquisition_functions": ["margin", "entropy"],
            "limit": 5,
            **settings,
        }
    )


def evaluations(result):
    """Evaluations by the names of the checks; those of candidates with their function's."""
    found = {}
    for one in result.get_asset_check_evaluations():
        *_, last = one.asset_key.path
        function = f"{last}." if last in ACQUISITION_FUNCTIONS else ""
        found[function + one.check_name] = one
    return found


def failed(found):
    """The checks that fail, but for the queues that a detector with one score per box leaves empty.

    Those of class probabilities warn of it, whatever else is wrong.
    """
    return {
        name
        for name, one in found.items()
        if not one.passed and "no class probabilities; leave" not in one.description
    }


def number(evaluation, name):
    return evaluation.metadata[name].value


def examples(evaluation):
    return [record.data for record in evaluation.metadata["examples"].records]


ALL_CHECKS = {
    *OF_PREDICTIONS, *OF_SCORES,
    *(f"{function}.{name}" for function in ("margin", "entropy") for name in OF_CANDIDATES),
}  # fmt: skip


def test_every_check_passes_on_a_sound_pool(run, check, sound):
    result = run(sound)
    found = evaluations(result)
    assert found.keys() == ALL_CHECKS
    assert failed(found) == set()
    order = [event.step_key for event in result.get_step_success_events()]
    assert order.index("pool__predictions_checks") < order.index("pool__image_scores")
    assert number(found["valid_class_probabilities"], "rows") == 12
    assert number(found["pool_coverage"], "images_without_label") == 11
    assert number(found["every_image_scored"], "rows") == 12
    assert number(found["margin.ranks_without_gaps"], "candidates") == 5
    assert not any("examples" in one.metadata for one in found.values())
    again = check(sound)
    assert again.keys() == ALL_CHECKS
    assert failed(again) == set()


BROKEN = {
    "a prediction twice": (
        ["INSERT INTO predictions FROM predictions WHERE image_id = 'image3'"],
        {"no_duplicate_predictions": (WARN, "duplicates", 1), "every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "a prediction three times": (
        ["INSERT INTO predictions SELECT p.* FROM predictions p, range(2) WHERE p.image_id = 'image3'"],
        {"no_duplicate_predictions": (WARN, "duplicates", 2), "every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "images without predictions": (
        ["INSERT INTO images VALUES ('new', 's3://new', 1, 1, false, NULL), ('old', NULL, 1, 1, true, NULL)"],
        {"pool_coverage": (WARN, "images_without_predictions", 1), "every_image_scored": (ERROR, "wrongly_scored", 2)},
    ),
    "an image without scores": (
        ["DELETE FROM image_scores WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "a score twice": (
        ["INSERT INTO image_scores FROM image_scores WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "a score that is null": (
        ["UPDATE image_scores SET entropy = NULL WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "another score that is null": (
        ["UPDATE image_scores SET variance = NULL WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "all scores are null": (
        ["UPDATE image_scores SET entropy = NULL, least_confidence = NULL, margin = NULL, variance = NULL WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "a score of objects where there are none": (
        ["UPDATE image_scores SET mean_object_score = 0.5 WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "scores of an image that there is not": (
        ["INSERT INTO image_scores SELECT * REPLACE ('ghost' AS image_id) FROM image_scores WHERE image_id = 'image0'"],
        {"every_image_scored": (ERROR, "wrongly_scored", 1)},
    ),
    "scores out of bounds": (
        [
            "UPDATE image_scores SET entropy = log2(3) + 0.02, least_confidence = -0.01 WHERE image_id = 'image0'",
            "UPDATE image_scores SET variance = 'nan' WHERE image_id = 'image0'",
        ],
        {"scores_in_bounds": (ERROR, "out_of_bounds", 3)},
    ),
    "a labeled candidate": (
        # Images that are high in one ranking are in the other one too.
        ["UPDATE images SET labeled = true FROM labeling_candidates c WHERE images.image_id = c.image_id AND rank = 2 AND acquisition_function = 'margin'"],
        {"margin.no_labeled_candidates": (ERROR, "wrong", 1), "entropy.no_labeled_candidates": (ERROR, "wrong", 1)},
    ),
    "a rank that is missing": (
        ["DELETE FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank = 2"],
        {"margin.ranks_without_gaps": (ERROR, "wrong", 1), "margin.candidates_are_fresh": (ERROR, "missing", 1)},
    ),
    "no first rank": (
        ["DELETE FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank = 1"],
        {"margin.ranks_without_gaps": (ERROR, "wrong", 1), "margin.candidates_are_fresh": (ERROR, "missing", 1)},
    ),
    "a rank and its image twice": (
        ["INSERT INTO labeling_candidates FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank = 3"],
        {"margin.ranks_without_gaps": (ERROR, "wrong", 2)},
    ),
    "an image with two ranks": (
        ["INSERT INTO labeling_candidates SELECT * REPLACE (6 AS rank) FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank = 3"],
        {"margin.ranks_without_gaps": (ERROR, "wrong", 2)},
    ),
    "ranks in reverse": (
        ["UPDATE labeling_candidates SET rank = 6 - rank WHERE acquisition_function = 'entropy'"],
        {"entropy.ranks_without_gaps": (ERROR, "wrong", 4)},
    ),
    "no candidates": (
        ["DELETE FROM labeling_candidates WHERE acquisition_function = 'margin'"],
        {"margin.candidates_are_fresh": (ERROR, "missing", 5), "margin.queue_is_not_empty": (WARN, "empty", 1)},
    ),
    "candidates without their last": (
        ["DELETE FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank > 2"],
        {"margin.candidates_are_fresh": (ERROR, "missing", 3)},
    ),
    "an image that was scored after the others were ranked": (
        ["INSERT INTO images SELECT * REPLACE ('new' AS image_id) FROM images WHERE image_id = 'image3'",
         "INSERT INTO predictions SELECT * REPLACE ('new' AS image_id) FROM predictions WHERE image_id = 'image3'",
         "INSERT INTO image_scores SELECT * REPLACE ('new' AS image_id, 0 AS margin, 0 AS entropy) FROM image_scores WHERE image_id = 'image3'"],
        {"margin.candidates_are_fresh": (ERROR, "missing", 1)},
    ),
    "candidates that left the manifest": (
        ["DELETE FROM images USING labeling_candidates c WHERE images.image_id = c.image_id AND rank = 2 AND acquisition_function = 'margin'"],
        {"margin.candidates_are_fresh": (ERROR, "outdated", 1), "entropy.candidates_are_fresh": (ERROR, "outdated", 1)},
    ),
    "other scores than were ranked": (
        ["UPDATE image_scores SET margin = margin / 2 FROM labeling_candidates c WHERE image_scores.image_id = c.image_id AND rank < 3 AND acquisition_function = 'margin'"],
        {"margin.candidates_are_fresh": (ERROR, "outdated", 2)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_check_finds_what_is_broken_and_no_other_does(check, materialized, change, case):
    statements, expected = BROKEN[case]
    for statement in statements:
        change(statement)
    found = check(materialized)
    assert failed(found) == expected.keys()
    for name, (severity, what, count) in expected.items():
        assert found[name].severity == severity
        assert number(found[name], what) == count
        assert len(examples(found[name])) >= 1
        assert "prediction_set" not in examples(found[name])[0]


def test_examples_name_what_is_wrong(check, materialized, change):
    change("INSERT INTO images VALUES ('new', 's3://new', 1, 1, false, NULL)")
    change("DELETE FROM labeling_candidates WHERE rank = 2")
    change("UPDATE image_scores SET margin = 1.5 WHERE image_id = 'image7'")
    found = check(materialized)
    assert examples(found["pool_coverage"]) == [{"image_id": "new", "uri": "s3://new"}]
    assert examples(found["every_image_scored"]) == [
        {"image_id": "new", "predictions": 0, "predictions_scored": None, "problem": "no row in image_scores"}
    ]  # fmt: skip
    (gap,) = examples(found["margin.ranks_without_gaps"])
    assert (gap["rank_before"], gap["rank"], gap["times_in_ranking"]) == (1, 3, 1)
    (wrong,) = examples(found["scores_in_bounds"])
    assert wrong == {
        "image_id": "image7", "acquisition_function": "margin", "score": 1.5, "lowest": 0.0,
        "highest": 1.0,
    }  # fmt: skip


def test_examples_are_few_and_short(check, materialized, change):
    change("INSERT INTO images SELECT repeat('x', 10000) || i, NULL, 1, 1, false, NULL FROM range(500) t(i)")  # fmt: skip
    coverage = check(materialized)["pool_coverage"]
    assert number(coverage, "images_without_predictions") == 500
    assert number(coverage, "coverage") == pytest.approx(11 / 511)
    assert len(examples(coverage)) == 20
    assert all(len(row["image_id"]) <= 201 for row in examples(coverage))


# What cannot be scored


@pytest.mark.parametrize(
    ("allowed", "passes"), [(None, False), (0.0, False), (0.16, False), (2 / 12, True)]
)
def test_quarantined_rows_above_the_threshold_stop_the_run(
    run, write, sound, tmp_path, query, allowed, passes
):
    write(row3=[1, 1, 1], row7=[0.5, 0.5, float("nan")])
    settings = {} if allowed is None else {"max_quarantined_share": allowed}
    result = run(definitions_of(tmp_path, **settings), raise_on_error=False)
    valid = evaluations(result)["valid_class_probabilities"]
    assert (valid.passed, valid.blocking, valid.severity) == (passes, True, ERROR)
    assert (number(valid, "quarantined"), number(valid, "rows")) == (2, 12)
    assert number(valid, "quarantined_share") == 2 / 12
    assert {row["reason"] for row in examples(valid)} == {
        "the class probabilities do not sum to 1", "a class probability is NaN",
    }  # fmt: skip
    assert result.success is passes
    assert len(query("FROM pool.predictions")) == 10, "what was read is there"
    scored = 12 if passes else 0
    assert query("SELECT count(*) FROM pool.image_scores") == [(scored,)]
    assert len(query("FROM pool.labeling_candidates")) == (10 if passes else 0)


@pytest.mark.parametrize(
    ("wanted", "passes"), [(1.0, False), (0.95, False), (11 / 12, True), (0.0, True)]
)
def test_coverage_below_the_threshold_warns(run, sound, tmp_path, wanted, passes):
    with (tmp_path / "manifest.csv").open("a") as manifest:
        manifest.write("without,false\nlabeled,true\n")
    result = run(definitions_of(tmp_path, min_coverage=wanted), INPUT)
    coverage = evaluations(result)["pool_coverage"]
    assert (coverage.passed, coverage.severity) == (passes, WARN)
    assert number(coverage, "images_without_predictions") == 1
    assert number(coverage, "coverage") == pytest.approx(11 / 12)


@pytest.mark.parametrize("share", [-0.1, 1.01, float("nan"), "0.5", True])
@pytest.mark.parametrize("setting", ["max_quarantined_share", "min_coverage"])
def test_a_threshold_is_a_share(tmp_path, setting, share):
    with pytest.raises(ValueError, match=f"{setting} is .*, expected a share from 0 to 1"):
        definitions_of(tmp_path, **{setting: share})


# Objects


OBJECTS = """
SELECT * FROM (VALUES
    ('a', 0.9, 'car', [1.0, 2.0, 3.0, 4.0]), ('a', 0.9, 'car', [1.0, 2.0, 3.0, 5.0]),
    ('b', 0.5, 'car', [1.0, 2.0, 3.0, 4.0]), ('b', 0.5, 'bus', [1.0, 2.0, 3.0, 4.0]),
    ('c', 0.5, 'car', NULL), ('c', 0.5, 'car', NULL)
    {more}
) t(image_id, score, category, bbox)
{limit}
"""


def objects(more="", limit="", **settings):
    source = PredictionQuery(
        OBJECTS.format(more=more, limit=limit), score_column="score", category_column="category",
        bbox_column="bbox", bbox_unit="pixel",
    )  # fmt: skip
    return active_learning_definitions(
        **{
            "pool": "pool", "task": "detection", "predictions": source,
            "acquisition_functions": ["margin", "mean_object_score"], **settings,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("aggregation", "score_only"), [("mean", None), ("max", "binary"), ("sum", None)]
)
def test_objects_without_class_probabilities_are_sound(run, aggregation, score_only):
    found = evaluations(run(objects(aggregation=aggregation, score_only=score_only)))
    assert failed(found) == set()
    empty = [name for name, one in found.items() if "is_not_empty" in name and not one.passed]
    assert empty == (["margin.queue_is_not_empty"] if score_only is None else [])
    assert ("scores_in_bounds" in found) == (aggregation != "sum")
    assert "pool_coverage" not in found, "there is no manifest to cover"
    assert "mean_object_score.no_labeled_candidates" not in found


@pytest.fixture
def object_manifest(tmp_path):
    """The images of the objects, and one in which nothing was found."""
    (tmp_path / "manifest.csv").write_text("image_id\na\nb\nc\nnothing\n")
    return tmp_path / "manifest.csv"


@pytest.mark.parametrize(("wanted", "passes"), [(None, True), (0.75, True), (1.0, False)])
def test_an_image_without_objects_is_covered_unless_it_should_have_some(
    run, object_manifest, wanted, passes
):
    found = evaluations(run(objects(images=object_manifest, min_coverage=wanted), INPUT))
    assert failed(found) == (set() if passes else {"pool_coverage"})
    assert number(found["pool_coverage"], "coverage") == 0.75
    assert number(found["pool_coverage"], "min_coverage") == (wanted or 0.0)


def test_a_detector_that_found_nothing_is_sound(run, object_manifest, query):
    definitions = objects(limit="LIMIT 0", images=object_manifest)
    assert failed(evaluations(run(definitions))) == set()
    candidates = query(
        "SELECT image_id, score FROM pool.labeling_candidates "
        "WHERE acquisition_function = 'mean_object_score' ORDER BY ALL"
    )
    assert candidates == [(image_id, 0.0) for image_id in ("a", "b", "c", "nothing")]


def test_the_same_box_twice_is_an_error(run):
    twice = ", ('a', 0.9, 'car', [1.0, 2.0, 3.0, 4.0])"
    found = evaluations(run(objects(twice), PREDICTIONS))
    assert failed(found) == {"no_duplicate_predictions"}
    assert found["no_duplicate_predictions"].severity == ERROR
    (example,) = examples(found["no_duplicate_predictions"])
    assert example == {"image_id": "a", "times": 2, "first_index": 0, "last_index": 6}


def test_images_that_are_nearly_named_are_unknown_at_any_share(run, tmp_path, query):
    ids = ["images/a.jpg", "b.JPG", "cafe\u0301.jpg", *(f"other{number}" for number in range(200))]
    (tmp_path / "manifest.csv").write_text("image_id\n" + "\n".join([*ids, "nothing"]) + "\n")
    named = ["images\\a.jpg", "b.jpg", "caf\u00e9.jpg", *ids[3:]]
    rows = ", ".join(f"('{image_id}', 0.9)" for image_id in named)
    source = PredictionQuery(f"FROM (VALUES {rows}) t(image_id, score)", score_column="score")
    definitions = active_learning_definitions(
        pool="pool", task="detection", predictions=source, images=tmp_path / "manifest.csv",
        images_without_predictions=None, acquisition_functions=["mean_object_score"],
    )  # fmt: skip
    result = run(definitions)
    found = evaluations(result)
    assert failed(found) == {"ids_as_in_the_manifest"}
    check = found["ids_as_in_the_manifest"]
    assert check.severity == WARN
    assert number(check, "nearly_named") == 3
    assert {row["difference"]: (row["images"], row["predicted_id"], row["image_id"]) for row in examples(check)} == {
        "\\ for /": (1, "'images\\\\a.jpg'", "'images/a.jpg'"),
        "Unicode normal form": (1, "'caf\\xe9.jpg'", "'cafe\\u0301.jpg'"),
        "upper and lower case": (1, "'b.jpg'", "'b.JPG'"),
    }  # fmt: skip
    assert "1 by Unicode normal form ('caf\\xe9.jpg' in the predictions, 'cafe\\u0301.jpg' in the" in check.description  # fmt: skip
    first = "SELECT image_id, score FROM pool.labeling_candidates ORDER BY rank LIMIT 1"
    assert query(first) == [("nothing", 0.0)]
    last = "SELECT image_id, score FROM pool.labeling_candidates WHERE acquisition_function = 'mean_object_score' ORDER BY rank DESC LIMIT 3"
    assert sorted(query(last)) == sorted((image_id, None) for image_id in ids[:3])


@pytest.mark.parametrize(
    ("size", "passes"), [("640,480", True), ("4,6", True), ("3,5", False), (",", True)]
)
def test_boxes_that_leave_their_image_are_a_warning(run, tmp_path, size, passes):
    images = "".join(f"{image},{size}\n" for image in ("a", "b", "c"))
    (tmp_path / "manifest.csv").write_text(f"image_id,width,height\n{images}")
    found = evaluations(run(objects(images=tmp_path / "manifest.csv"), INPUT))
    assert failed(found) == (set() if passes else {"boxes_inside_images"})
    check = found["boxes_inside_images"]
    assert number(check, "boxes_in_images_of_known_size") == (
        0 if size == "," else number(check, "boxes")
    )
    if not passes:
        assert check.severity == WARN
        assert examples(check)[0]["image_id"] == "a"
        assert "[1.0, 2.0, 3.0, 5.0] in 'a' of 3 x 5" in check.description


def test_other_categories_found_are_a_warning(run):
    run(objects(), PREDICTIONS)
    found = evaluations(run(objects(", ('d', 0.5, 'van', [1.0, 2.0, 3.0, 4.0])"), PREDICTIONS))
    assert failed(found) == {"class_names_unchanged"}
    assert found["class_names_unchanged"].severity == WARN


def test_images_in_which_nothing_was_found_have_scores_in_bounds(run, check, tmp_path, change):
    for image in ("a", "b"):
        (tmp_path / f"{image}.txt").touch()
    definitions = active_learning_definitions(
        pool="pool", task="detection", predictions=PredictionFiles(tmp_path, "yolo")
    )
    found = evaluations(run(definitions))
    assert failed(found) == set()
    assert number(found["scores_in_bounds"], "rows") == 2
    change("UPDATE image_scores SET mean_object_score = 1.1 WHERE image_id = 'a'")
    assert number(check(definitions)["scores_in_bounds"], "out_of_bounds") == 1


@pytest.mark.parametrize("score_only", [None, "binary"])
def test_objects_of_which_some_have_class_probabilities_are_sound(run, check, change, score_only):
    source = PredictionQuery(
        """SELECT * FROM (VALUES ('a', 0.9, [0.9, 0.1]), ('a', 0.8, NULL), ('b', 0.5, NULL),
            ('c', 0.6, [0.6, 0.4])) t(image_id, score, class_probs)""",
        score_column="score",
    )
    definitions = active_learning_definitions(
        pool="pool", task="detection", predictions=source, score_only=score_only,
        acquisition_functions=["margin", "mean_object_score"],
    )  # fmt: skip
    assert failed(evaluations(run(definitions))) == set()
    change("UPDATE image_scores SET margin = NULL WHERE image_id = 'c'")
    assert number(check(definitions)["every_image_scored"], "wrongly_scored") == 1


# Class names


def named(folder, *names):
    source = PredictionFiles(folder / "predictions.parquet", "parquet", class_names=list(names))
    return definitions_of(folder, predictions=source)


def test_class_names_are_those_of_the_last_materialization(run, check, sound, tmp_path):
    def unchanged(found):
        return found["class_names_unchanged"]

    first = unchanged(evaluations(run(named(tmp_path, "a", "b", "c"), INPUT)))
    assert (first.passed, number(first, "compared")) == (True, 0)
    same = unchanged(evaluations(run(named(tmp_path, "a", "b", "c"), INPUT)))
    assert (same.passed, number(same, "compared")) == (True, 1)

    other = evaluations(run(named(tmp_path, "a", "c", "b"), INPUT))
    assert failed(other) == {"class_names_unchanged"}
    assert unchanged(other).severity == ERROR
    assert examples(unchanged(other)) == [
        {"class_index": 1, "before": "b", "now": "c"},
        {"class_index": 2, "before": "c", "now": "b"},
    ]
    # The change is still there when the check is run again, and gone with the next predictions.
    of_predictions = dg.AssetSelection.checks_for_assets(["pool", "predictions"])
    for _ in range(2):
        assert failed(check(named(tmp_path, "a", "c", "b"), of_predictions)) == {
            "class_names_unchanged"
        }
    assert unchanged(evaluations(run(named(tmp_path, "a", "c", "b"), INPUT))).passed


def test_a_class_more_is_a_change(run, sound, tmp_path, write_predictions):
    run(sound, INPUT)
    write_predictions(np.full((12, 4), 0.25))
    found = evaluations(run(sound, INPUT))["class_names_unchanged"]
    assert not found.passed
    assert examples(found) == [{"class_index": 3, "before": None, "now": "3"}]


def test_the_classes_of_the_only_partition_are_compared_with_what_they_were(run, tmp_path, write):
    def months(*names):
        source = PredictionFiles(
            f"{tmp_path}/{{partition_key}}.parquet", "parquet", class_names=list(names)
        )
        return definitions_of(tmp_path, predictions=source, images=None, partitions_def=STATIC)

    write("may.parquet")
    for names, passes in [("abc", True), ("abc", True), ("acb", False), ("acb", True)]:
        found = evaluations(run(months(*names), PREDICTIONS, keys=["may"]))["class_names_unchanged"]
        assert found.passed is passes


def test_evaluations_are_small(run, sound, tmp_path, write_predictions):
    ids = [f"{row}{'🦊' * 10_000}{row}" for row in range(40)]
    class_probs = np.full((80, 1000), 1 / 1000)
    class_probs[:30] = 1
    write_predictions(class_probs, image_ids=[*ids, *ids])
    (tmp_path / "manifest.csv").write_text(
        "".join(f"{one}\n" for one in ["image_id", *ids, *(one + "'" for one in ids)])
    )
    for number in range(2):
        names = [f"{number}{'🦊' * 300}{index}" for index in range(1000)]
        definitions = named(tmp_path, *names)
        result = run(definitions, raise_on_error=False)
    assert failed(evaluations(result)) >= {
        "class_names_unchanged",
        "valid_class_probabilities",
        "pool_coverage",
    }
    sizes = {
        event.event_specific_data.check_name: len(serialize_value(event))
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    }
    assert max(sizes.values()) < 100_000, sizes


# Candidates and time


def test_the_limit_is_that_of_the_run(run, check, materialized, change):
    for limit in (3, 8):
        config = {"ops": {"pool__labeling_candidates": {"config": {"limit": limit}}}}
        ranked = evaluations(run(materialized, MARGIN, run_config=config))
        assert ranked.keys() == {f"margin.{name}" for name in OF_CANDIDATES}
        assert failed(ranked) == set()
        assert failed(check(materialized)) == set()
    change("DELETE FROM labeling_candidates WHERE acquisition_function = 'margin' AND rank > 6")  # fmt: skip
    fresh = one_check("labeling_candidates", "candidates_are_fresh", "margin")
    found = check(materialized, fresh)["margin.candidates_are_fresh"]
    assert number(found, "missing") == 2
    assert all(row["prediction_count"] == 1 for row in examples(found))


def test_images_that_were_never_ranked(run, check, sound):
    run(sound, INPUT | SCORED)
    found = check(sound)
    names = ("candidates_are_fresh", "queue_is_not_empty")
    assert failed(found) == {f"{one}.{name}" for one in ("margin", "entropy") for name in names}
    assert number(found["margin.candidates_are_fresh"], "missing") == 5


@pytest.mark.parametrize(
    ("task", "rule", "limit"),
    [
        ("classification", None, 3), ("classification", "last", 100),
        ("classification", "exclude", 3), ("detection", "first", 3), ("detection", "last", 100),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ("classification", "first", 100), ("classification", "last", 3),
                ("detection", None, 100), ("detection", "exclude", 100),
            ]
        ),
    ],
)  # fmt: skip
def test_rankings_are_sound_wherever_images_without_predictions_are(
    run, check, write_predictions, tmp_path, query, change, task, rule, limit
):
    write_predictions([[0.5, 0.5], [0.75, 0.25], [1, 0], [2, 2], [0.75, 0.25]])
    images = ["image_id", *(f"image{number}" for number in range(8))]
    (tmp_path / "manifest.csv").write_text("\n".join(images))
    function = "mean_object_score" if task == "detection" else "entropy"
    definitions = definitions_of(
        tmp_path, task=task, limit=limit, images_without_predictions=rule, acquisition_functions=[function], max_quarantined_share=1, min_coverage=1,
    )  # fmt: skip
    assert failed(evaluations(run(definitions))) <= {"pool_coverage"}
    # Swapped are two images of which one has to come first.
    change(f"UPDATE labeling_candidates SET rank = 3 - rank WHERE rank < 3 AND acquisition_function = '{function}'")  # fmt: skip
    places = query(f"SELECT score, prediction_count FROM pool.labeling_candidates WHERE rank < 3 AND acquisition_function = '{function}'")  # fmt: skip
    found = check(definitions, one_check("labeling_candidates", "ranks_without_gaps", function))
    assert (f"{function}.ranks_without_gaps" in failed(found)) == (len(set(places)) > 1)


def test_candidates_older_than_their_predictions(run, check, materialized, query):
    """The same predictions once more: the scores are what they were, the ranking is older."""
    run(materialized, SCORED)
    found = check(materialized)
    stale = {"margin.candidates_are_fresh", "entropy.candidates_are_fresh"}
    assert failed(found) == stale
    for name in stale:
        assert (number(found[name], "outdated"), number(found[name], "older_rankings")) == (0, 1)
        assert found[name].severity == WARN
    (example,) = examples(found["margin.candidates_are_fresh"])
    assert query("SELECT DISTINCT run_id FROM pool.labeling_candidates") == [(example["ranked_by_run"],)]  # fmt: skip

    ranked = evaluations(run(materialized, MARGIN))
    assert ranked.keys() == {f"margin.{name}" for name in OF_CANDIDATES}, "only its own checks"
    assert failed(ranked) == set()
    assert failed(check(materialized)) == {"entropy.candidates_are_fresh"}


def test_candidates_whose_scores_are_gone(run, check, materialized):
    """New predictions take the former scores away: nothing the candidates show is true any more."""
    run(materialized, PREDICTIONS)
    found = check(materialized)
    assert number(found["margin.candidates_are_fresh"], "outdated") == 5
    assert found["margin.candidates_are_fresh"].severity == ERROR
    assert number(found["every_image_scored"], "wrongly_scored") == 12


@pytest.mark.parametrize(
    ("rule", "value", "wrong"),
    # Scores that are declared to be probabilities give all scores.
    [("aggregation", "min", 0), ("score_only", "binary", 3), ("inputs", "independent", 0)],
)
def test_scores_of_rules_that_the_settings_have_no_longer(run, check, query, rule, value, wrong):
    run(objects())
    changed = objects(**{"task": "detection", rule: value})
    found = check(changed)["every_image_scored"]
    assert (found.passed, found.severity) == (False, ERROR)
    assert (number(found, "wrongly_scored"), number(found, "other_scores")) == (wrong, 1)
    assert f"and the pool has {rule} {value!r}" in found.description

    before = query("FROM pool.labeling_candidates")
    ranking = dg.AssetSelection.assets(["pool", "labeling_candidates", "mean_object_score"])
    with pytest.raises(PoolStateError, match=f"has {rule} {value!r}: materialize pool/image_score"):
        run(changed, ranking)
    assert query("FROM pool.labeling_candidates") == before
    assert failed(evaluations(run(changed))) == set()


def test_a_manifest_that_the_settings_have_no_longer(run, check, object_manifest, query):
    object_manifest.write_text("image_id,labeled\na,true\nb,false\nnothing,false\n")
    run(objects(images=object_manifest, max_quarantined_share=1))
    ranked = "SELECT image_id FROM pool.labeling_candidates WHERE acquisition_function = 'mean_object_score' ORDER BY 1"
    assert query(ranked) == [("b",), ("nothing",)]
    result = run(objects())
    assert query(ranked) == [("a",), ("b",), ("c",)]
    assert failed(evaluations(result)) == set()
    assert failed(check(objects())) == set()
    for event in result.get_asset_materialization_events():
        assert "labeled_share" not in event.materialization.metadata


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_was_set_back_makes_no_ranking_old_or_fresh(
    run, check, materialized, query, hours
):
    for table, column in (("prediction_sets", "ingested_at"), ("rankings", "ranked_at")):
        sign = 1 if table == "rankings" else -1
        query(f"UPDATE pool.{table} SET {column} = {column} + INTERVAL ({sign * hours}) HOUR")
    assert failed(check(materialized)) == set()
    run(materialized, SCORED)
    query(
        f"UPDATE pool.prediction_sets SET ingested_at = ingested_at + INTERVAL ({3 * hours}) HOUR"
    )
    found = check(materialized)
    assert failed(found) == {"margin.candidates_are_fresh", "entropy.candidates_are_fresh"}
    assert number(found["margin.candidates_are_fresh"], "older_rankings") == 1


# Bounds


@pytest.mark.parametrize("end", [0, 1])
def test_the_tolerance_is_a_share_of_the_bounds(check, materialized, change, end):
    scores_in_bounds = one_check("image_scores", "scores_in_bounds")
    functions = [one for one in ACQUISITION_FUNCTIONS.values() if one.level != "committee"]
    for share, wrong in [(0.99, set()), (1.01, {one.name for one in functions})]:
        for function in functions:
            ends = function.bounds(3)
            beyond = (1 if end else -1) * SCORE_TOLERANCE * (ends[1] - ends[0])
            score = ends[end] + share * beyond
            change(f"UPDATE image_scores SET {function.name} = ? WHERE image_id = 'image0'", score)
        found = check(materialized, scores_in_bounds)["scores_in_bounds"]
        assert found.passed is (not wrong)
        assert number(found, "out_of_bounds") == len(wrong)
        if wrong:
            assert {row["acquisition_function"] for row in examples(found)} == wrong


LEGAL = {
    "two classes, each off by 1e-3": [[1.001, -0.001]] * 12,
    "a thousand classes, in sum off by 1e-3": [np.full(1000, 1.0009 / 1000)] * 12,
    "certain": [[1.0, 0.0, 0.0]] * 12,
    "uniform": [[0.25] * 4] * 12,
}


@pytest.mark.parametrize("case", LEGAL)
def test_whatever_is_accepted_has_scores_in_bounds(run, write_predictions, sound, query, case):
    write_predictions(LEGAL[case])
    found = evaluations(run(sound, INPUT | SCORED))
    assert query("SELECT count(*) FROM pool.predictions") == [(12,)]
    assert found["scores_in_bounds"].passed


# Partitions


@pytest.fixture
def months(write, tmp_path):
    """A pool of three prediction sets; every other row of july cannot be scored."""
    for seed, key in enumerate(KEYS):
        broken = {f"row{row}": [1, 1, 1] for row in range(0, 12, 2)} if key == "july" else {}
        write(f"{key}.parquet", seed, **broken)
    source = PredictionFiles(f"{tmp_path}/{{partition_key}}.parquet", "parquet")
    return definitions_of(tmp_path, predictions=source, images=None, partitions_def=STATIC)


@pytest.mark.parametrize(
    ("keys", "passes"),
    [(["may"], True), (["july"], False), (["may", "june"], True), (["june", "july"], False)],
)
def test_a_run_checks_its_own_partitions(run, months, query, keys, passes):
    result = run(months, keys=keys, raise_on_error=False)
    assert result.success is passes
    found = evaluations(result)
    assert failed(found) == (set() if passes else {"valid_class_probabilities"})
    assert {number(one, "prediction_sets") for one in found.values()} == {len(keys)}
    assert number(found["valid_class_probabilities"], "rows") == 12 * len(keys)
    scored = query("SELECT DISTINCT prediction_set FROM pool.image_scores ORDER BY ALL")
    assert scored == ([(key,) for key in sorted(keys)] if passes else [])


def test_checks_that_are_run_alone_look_at_all_partitions(run, check, months, query):
    for key in KEYS:
        run(months, keys=[key], raise_on_error=False)
    query("DELETE FROM pool.labeling_candidates WHERE prediction_set = 'june' AND rank = 2 AND acquisition_function = 'margin'")  # fmt: skip
    found = check(months)
    assert failed(found) == {
        "valid_class_probabilities", "every_image_scored", "margin.ranks_without_gaps",
        "margin.candidates_are_fresh",
    }  # fmt: skip
    assert {number(one, "prediction_sets") for one in found.values()} == {3}
    (gap,) = examples(found["margin.ranks_without_gaps"])
    assert gap["prediction_set"] == "june"
    assert {row["prediction_set"] for row in examples(found["every_image_scored"])} == {"july"}
    assert "'july'" in found["valid_class_probabilities"].description


def test_class_names_are_those_of_the_set_read_before(run, check, months, write_predictions):
    write_predictions([[0.25] * 4] * 12, name="june.parquet")
    for key in ["may", "june"]:
        found = evaluations(run(months, keys=[key]))["class_names_unchanged"]
        assert found.passed is (key == "may")
    assert examples(found) == [
        {"prediction_set": "june", "class_index": 3, "before": None, "now": "3"}
    ]
    again = evaluations(run(months, keys=["may", "june"]))["class_names_unchanged"]
    assert number(again, "changed") == 2, "may after june as it was, and june after may"


def test_a_ranking_of_a_partition_is_older_by_its_own_time(run, check, months):
    for key in ["may", "june"]:
        run(months, keys=[key])
    run(months, SCORED, keys=["may"])
    found = check(months)
    assert failed(found) == {"margin.candidates_are_fresh", "entropy.candidates_are_fresh"}
    assert {row["prediction_set"] for row in examples(found["margin.candidates_are_fresh"])} == {"may"}  # fmt: skip


# The database


def test_checks_before_anything_is_there_say_what_to_materialize(run, sound, months):
    for definitions in (sound, months):
        alone = dg.AssetSelection.checks(*definitions.asset_checks)
        with pytest.raises(PoolStateError, match="materialize pool/predictions first"):
            run(definitions, alone)


def test_checks_only_read(check, materialized, database):
    content = database.read_bytes()
    database.chmod(0o444)
    with duckdb.connect(str(database), read_only=True, config={"custom_user_agent": "dagster"}):
        assert failed(check(materialized)) == set(), "beside another reader"
    assert database.read_bytes() == content


def test_checks_leave_no_open_connection(check, materialized, query):
    query("DROP TABLE pool.prediction_sets")
    assert "every_image_scored" not in check(materialized), "the step failed"
    query("CREATE TABLE pool.anything AS SELECT 1")


def test_definitions_are_checked_under_translated_keys(run, sound, tmp_path):
    from dagster_active_learning import ActiveLearningComponent

    component = ActiveLearningComponent(
        pool="pool",
        predictions=PredictionFiles(tmp_path / "predictions.parquet", "parquet"),
        translation=lambda spec, _: spec.replace_attributes(key=spec.key.with_prefix("team")),
    )
    result = run(component.definitions())
    assert {one.asset_key.path[0] for one in result.get_asset_check_evaluations()} == {"team"}
    assert failed(evaluations(result)) == set()


def test_duplicates_are_found_as_polars_finds_them(run, check, sound, query, write_predictions):
    """Against another engine, on rows of which many are alike."""
    draw = np.random.default_rng(1)
    ids = [f"image{row}" for row in draw.integers(0, 12, 200)]
    kinds = draw.dirichlet(np.ones(3), 4).astype(np.float32)
    chosen = draw.integers(0, 4, 200)
    write_predictions(kinds[chosen], image_ids=ids)
    found = evaluations(run(sound, INPUT))["no_duplicate_predictions"]
    rows = pl.DataFrame({"image_id": ids, "kind": chosen})
    assert number(found, "duplicates") == 200 - rows.unique().height


@pytest.mark.parametrize("committee", [False, True])
def test_votes_that_are_not_declared_are_found_as_polars_finds_them(
    run, tmp_path, sound, write_predictions, committee
):
    """Images with rows that differ; equal rows are the matter of another check."""
    draw = np.random.default_rng(2)
    ids = [f"image{row}" for row in [*range(12), *draw.integers(0, 12, 10)]]
    kinds = draw.dirichlet(np.ones(3), 2).astype(np.float32)
    chosen = draw.integers(0, 2, len(ids))
    write_predictions(kinds[chosen], image_ids=ids)
    found = evaluations(run(definitions_of(tmp_path, committee=committee)))
    if committee:
        assert found.keys() == ALL_CHECKS - {"no_undeclared_committee"}
        assert found["every_image_scored"].passed
        return
    rows = pl.DataFrame({"image_id": ids, "kind": chosen}).with_row_index()
    several = rows.group_by("image_id").agg(
        pl.len().alias("predictions"),
        pl.col("index").min().alias("first_index"),
        pl.col("index").max().alias("last_index"),
        pl.col("kind").n_unique().alias("kinds"),
    )
    expected = several.filter(pl.col("kinds") > 1).drop("kinds").sort("first_index").to_dicts()
    one = found["no_undeclared_committee"]
    assert (one.passed, one.severity) == (False, WARN)
    assert number(one, "images_with_different_predictions") == len(expected)
    assert examples(one) == expected
    first = expected[0]
    words = f"{len(expected)} of 12 images have several different predictions, such as {first['image_id']!r} with {first['predictions']}"
    assert one.description.startswith(words)
    assert "committee: true" in one.description


def test_rows_that_are_alike_are_no_votes(run, sound, write_predictions):
    rows = [[0.5, 0.25, 0.25]] * 3 + [[1.0, 0.0, 0.0]] * 10
    write_predictions(rows, image_ids=["image0"] * 3 + [f"image{row}" for row in range(1, 11)])
    found = evaluations(run(sound, INPUT))
    assert found["no_undeclared_committee"].passed
    assert not found["no_duplicate_predictions"].passed


def test_objects_have_no_committees(run):
    found = evaluations(run(objects(), PREDICTIONS))
    assert found
    assert "no_undeclared_committee" not in found
