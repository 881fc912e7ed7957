"""A ranking as a whole: what the database counts is what NumPy and Python count."""

from collections import Counter

import numpy as np
import pytest

from dagster_active_learning.store.image_scores import score_bins
from dagster_active_learning.store.images import replace_images
from dagster_active_learning.store.labeling_candidates import (
    candidates_by_class,
    candidates_without_predictions,
    common_candidates,
    common_with,
    former_candidates,
)
from dagster_active_learning.store.predictions import predictions_by_class, predictions_of_first
from dagster_active_learning.store.quarantined_predictions import quarantined_of_first
from pools import rows
from ranked_pools import manifest, ranked_files, write_files

IDS = [f"image{number}" for number in range(200)]
NAMES = ["entropy", "least_confidence", "margin", "variance"]


@pytest.fixture
def filled(store, tmp_path):
    """200 images in five classes, 40 of them candidates; one in quarantine, one that is missing."""
    class_probs = np.random.default_rng(0).dirichlet(np.ones(5), len(IDS))
    class_probs[7] = 1
    replace_images(store, manifest([*IDS, "missing"]))
    path = write_files(tmp_path / "files", list(zip(IDS, class_probs, strict=True)))
    ranked_files(store, path, in_manifest=True, limit=40)
    return store


def column(store, sql):
    return [value for (value,) in rows(store, sql)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bins", [1, 60])
def test_bins_are_those_of_numpy(filled, name, bins):
    scores = column(filled, f"SELECT {name} FROM image_scores WHERE {name} IS NOT NULL")
    found = score_bins(filled, "set", name, bins)
    assert found is not None
    counts, edges = np.histogram(scores, bins)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_allclose(found.edges, edges)


@pytest.mark.parametrize("scores", [[0.5], [0.5, np.nextafter(0.5, 1)], [0.0, 0.0]])
def test_scores_that_are_all_the_same_are_in_one_bin(store, scores):
    for number, score in enumerate(scores):
        store.connection.execute(
            "INSERT INTO image_scores VALUES ('set', ?, 1, ?, 0, 0, 0, NULL)", [str(number), score]
        )
    found = score_bins(store, "set", "entropy", 60)
    assert found is not None
    assert found.counts.sum() == found.counts.max() == len(scores)
    assert (np.diff(found.edges) > 0).all()


def test_no_scores_are_no_bins(filled):
    assert score_bins(filled, "set", "mean_object_score", 60) is None
    assert score_bins(filled, "other", "margin", 60) is None


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_counted_by_class_and_in_common(filled, name):
    lists = {
        one: set(
            column(
                filled,
                f"SELECT image_id FROM labeling_candidates WHERE acquisition_function = '{one}'",
            )
        )
        for one in NAMES
    }
    others = [one for one in NAMES if one != name]
    common = {one: len(lists[one] & lists[name]) for one in others}
    assert common_candidates(filled, "set", name, others) == common
    assert common_candidates(filled, "set", name, others[:1]) == {others[0]: common[others[0]]}
    classes = column(
        filled,
        f"SELECT predicted_class FROM labeling_candidates WHERE acquisition_function = '{name}'",
    )
    counted = candidates_by_class(filled, "set", name)
    assert dict(counted) == Counter(classes)
    assert [count for _, count in counted] == sorted(Counter(classes).values(), reverse=True)


def test_predictions_are_counted_by_their_most_probable_class_or_their_category(filled):
    class_probs = np.array(column(filled, "SELECT class_probs FROM predictions"))
    expected = Counter(str(one) for one in class_probs.argmax(axis=1))
    assert dict(predictions_by_class(filled, "set")) == expected
    filled.connection.execute("UPDATE predictions SET category = 'x' WHERE image_id = 'image0'")
    assert dict(predictions_by_class(filled, "set"))["x"] == 1


def test_the_former_ranking_of_a_set_is_compared_after_it_was_replaced(filled):
    former = former_candidates(filled, "set", "margin", other_set=False)
    assert former is not None
    assert former.prediction_set == "set"
    filled.connection.execute("DELETE FROM labeling_candidates WHERE rank > 30")
    filled.connection.execute(
        "INSERT INTO labeling_candidates VALUES ('set', 'margin', 31, 'new', 0, 1, 1, 'a', 'run')"
    )
    assert common_with(filled, "set", "margin", former) == 30
    assert former_candidates(filled, "set", "mean_object_score", other_set=False) is None


def test_the_other_set_is_the_one_that_was_read_before(filled):
    for name, days in (("older", 2), ("before", 1), ("unranked", 0.5), ("after", -1)):
        filled.connection.execute(
            f"""INSERT INTO prediction_sets SELECT * REPLACE ('{name}' AS prediction_set,
                ingested_at - INTERVAL '{int(days * 24)} hours' AS ingested_at)
            FROM prediction_sets WHERE prediction_set = 'set'"""
        )
        if name != "unranked":
            filled.connection.execute(
                "INSERT INTO labeling_candidates VALUES (?, 'margin', 1, ?, 0, 1, 1, 'a', 'run')",
                [name, f"of {name}"],
            )
    former = former_candidates(filled, "set", "margin", other_set=True)
    assert former is not None
    assert former.prediction_set == "before"
    assert former.image_ids.column("image_id").to_pylist() == ["of before"]
    assert former_candidates(filled, "older", "margin", other_set=True) is None
    assert former_candidates(filled, "set", "entropy", other_set=True) is None


def test_what_is_said_about_the_first_candidates(filled):
    first = column(
        filled,
        "SELECT image_id FROM labeling_candidates WHERE rank <= 3 AND acquisition_function IN ('margin', 'entropy')",
    )
    found = predictions_of_first(filled, "set", ["margin", "entropy"], 3)
    assert found.keys() == set(first)
    for image_id, frame in found.items():
        expected = column(
            filled, f"SELECT class_probs FROM predictions WHERE image_id = '{image_id}'"
        )
        assert frame["class_probs"].to_list() == expected


def test_images_without_predictions_and_with_rows_in_quarantine(store, tmp_path):
    replace_images(store, manifest(["good", "broken", "missing"]))
    path = write_files(tmp_path / "files", [("good", [0.5, 0.5]), ("broken", [1.0, 1.0])])
    ranked_files(store, path, in_manifest=True)
    for name in NAMES:
        assert candidates_without_predictions(store, "set", name) == 2
    assert quarantined_of_first(store, "set", NAMES, 24) == {"broken"}
