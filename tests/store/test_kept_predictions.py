"""Predictions that a set in place keeps apart are those of the files, which nobody reads then."""

import re
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from counted_files import CountedFiles
from dagster_active_learning import ACQUISITION_FUNCTIONS, explain_candidate, flow
from dagster_active_learning.flow import best_images
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.kept_predictions import kept_predictions
from dagster_active_learning.store.predictions import mean_class_probs, predictions_of_images
from in_place import bits, copied, in_place, random_probs, write

KEPT = 6

OF_IMAGES = """
SELECT image_id, prediction_index, class_probs, score, category, bbox FROM predictions
WHERE image_id IN $image_ids ORDER BY prediction_index
"""


@contextmanager
def keeping(count):
    """Within it the predictions of so few images are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best_images, "IMAGES_WITH_PREDICTIONS", count)
        yield


def classification(folder, file, per_image=1):
    rng = np.random.default_rng(file)
    ids = [f"{file}-{row // per_image:03d}" for row in range(120)]
    probs = random_probs(rng, 120).tolist()
    probs[file] = None
    write(folder / f"{file}.parquet", ids, probs)


def votes(folder, file):
    classification(folder, file, per_image=4)


def one_image_of_a_file(folder, file):
    classification(folder, file, per_image=120)


def objects(folder, file):
    rng = np.random.default_rng(file)
    ids = [f"{file}-{image:03d}" for image in range(40) for _ in range(rng.integers(1, 6))]
    write(
        folder / f"{file}.parquet",
        ids,
        random_probs(rng, len(ids)),
        score=pa.array(rng.random(len(ids))),
        category=pa.array(rng.choice(["cat", "dog"], len(ids)).tolist()),
        bbox=pa.array(rng.random((len(ids), 4)).tolist()),
    )


CASES = {
    "a prediction per image": (classification, Rules(), {}),
    "several predictions": (votes, Rules(), {}),
    "votes": (votes, Rules(committee=True), {}),
    "uncertainties are summed": (votes, Rules(aggregation="sum"), {}),
    "one image per file": (one_image_of_a_file, Rules(), {}),
    "objects": (objects, Rules(task="detection"), {"box": "xyxy"}),
}


def pair(folder, make, rules, options, kept=KEPT, protocol="", **more):
    for file in range(3):
        make(folder, file)
    with keeping(kept):
        at = f"{protocol}{folder}"
        found = in_place(f"{at}/*.parquet", f"{at}/storage", rules, **options, **more)
    return found, copied(folder / "*.parquet", rules, **options, **more)


def first_images(store, rules, count):
    """The images before which fewer than ``count`` come by a function, all of equal scores."""
    found = set()
    for function in ACQUISITION_FUNCTIONS.values():
        rows = store.rows(
            f"SELECT image_id, {function.name} FROM image_scores WHERE {function.name} IS NOT NULL"
            " AND prediction_count > 0"
        )
        sign = -1 if function.label_first_under(rules.aggregation) == "highest" else 1
        values = sorted(sign * value for _, value in rows)
        found |= {
            name for name, value in rows if sum(other <= sign * value for other in values) <= count
        }
    return sorted(found)


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_of_the_first_images_is_what_the_files_have(tmp_path, case):
    make, rules, options = CASES[case]
    found, expected = pair(tmp_path, make, rules, options)
    first = first_images(expected, rules, KEPT)
    assert first
    rows = kept_predictions(found, "set", first)
    assert rows is not None
    rows = rows.sort_by("prediction_index")
    wanted = expected.relation(OF_IMAGES, image_ids=first).to_arrow_table()
    assert bits(rows.select(wanted.column_names)) == bits(wanted)
    scores = expected.relation("FROM image_scores").pl().rows_by_key("image_id", named=True)
    for row in rows.to_pylist():
        (of_image,) = scores[row["image_id"]]
        names = {"prediction_count", *ACQUISITION_FUNCTIONS} & row.keys()
        assert {name: row[name] for name in names} == {name: of_image[name] for name in names}


@pytest.mark.parametrize("case", CASES)
def test_images_that_are_not_kept_are_looked_for_in_the_files(tmp_path, case):
    make, rules, options = CASES[case]
    stores = pair(tmp_path, make, rules, options, kept=2)
    ids = [name for (name,) in stores[1].rows("SELECT DISTINCT image_id FROM predictions")]
    if len(ids) > 20:
        assert kept_predictions(stores[0], "set", ids) is None
    of_images = [predictions_of_images(store, "set", ids) for store in stores]
    assert of_images[0].keys() == of_images[1].keys() == set(ids)
    for name, frame in of_images[0].items():
        assert repr(frame.rows()) == repr(of_images[1][name].rows())
    means = [mean_class_probs(store, "set", ids) for store in stores]
    assert {name: mean.tolist() for name, mean in means[0].items()} == {
        name: mean.tolist() for name, mean in means[1].items()
    }


def test_images_not_in_the_manifest_are_not_kept_and_those_without_predictions_are_known(tmp_path):
    manifest = [f"{file}-{row:03d}" for file in range(3) for row in range(0, 120, 2)] + ["unseen"]
    rules = Rules(in_manifest=True)
    found, expected = pair(tmp_path, classification, rules, {}, kept=200, manifest=manifest)
    rows = kept_predictions(found, "set", ["0-004", "unseen"])
    assert rows is not None
    assert rows.column("prediction_index").to_pylist() == [4, None]
    assert kept_predictions(found, "set", ["0-005"]) is None
    for store in (found, expected):
        rank(store, rules, limit=20)
    for name in ("0-004", "unseen"):
        assert explained(found, name) == explained(expected, name)


def explained(store, image_id):
    return explain_candidate(store.connection, image_id, pool="pool")


def spread(folder, file):
    """Each image has one row in each of the files."""
    probs = random_probs(np.random.default_rng(file), 120).tolist()
    probs[file] = None
    write(folder / f"{file}.parquet", [f"{row:03d}" for row in range(120)], probs)


@pytest.mark.parametrize("rules", [Rules(), Rules(committee=True)], ids=["scores", "votes"])
def test_a_ranking_keeps_the_predictions_that_it_had_to_look_for(tmp_path, rules):
    found, expected = pair(tmp_path, spread, rules, {}, protocol="counted://")
    assert kept_predictions(found, "set", ["005"]) is None
    for store in (found, expected):
        rank(store, rules, limit=20)
    ids = [name for (name,) in expected.rows("SELECT DISTINCT image_id FROM labeling_candidates")]
    rows = kept_predictions(found, "set", ids)
    wanted = expected.relation(OF_IMAGES, image_ids=ids).to_arrow_table()
    assert rows is not None
    rows = rows.sort_by("prediction_index")
    assert bits(rows.select(wanted.column_names)) == bits(wanted)
    CountedFiles.read.clear()
    for name in ids[:5]:
        # Of files at addresses the hash is one of size and time.
        pages = [explained(store, name) for store in (found, expected)]
        page, wanted = (re.sub(r"SHA-256 \w+|counted://", "", page) for page in pages)
        assert page == wanted
    if not rules.committee:  # whose members are counted in all scores
        rank(found, rules, limit=20)
    read = {path.rpartition("/")[2].partition("-")[0] for path in CountedFiles.read}
    assert read <= {"predictions", "best.parquet"}


def rank(store, rules, limit):
    flow.rank_candidates(
        store,
        "set",
        [one for one in ACQUISITION_FUNCTIONS.values() if one.applies_to(rules)],
        rules=rules,
        limit=limit,
        seed=0,
        run_id="run",
    )


def test_an_explanation_reads_as_much_of_a_large_set_as_of_a_small_one(tmp_path):
    read = {}
    for rows in (2_000, 40_000):
        folder = tmp_path / f"{rows}"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for file in range(2):
            # Ids in no order: nothing else leads to a row group.
            ids = [f"{file}-{row:06d}" for row in rng.permutation(rows // 2)]
            write(folder / f"{file}.parquet", ids, rng.dirichlet(np.ones(10), rows // 2))
        with keeping(20):
            store = in_place(f"counted://{folder}/*.parquet", f"counted://{folder}/storage")
        rank(store, Rules(), limit=10)
        ids = store.rows(
            "SELECT image_id FROM labeling_candidates WHERE acquisition_function = 'margin'"
        )
        CountedFiles.read.clear()
        for (image_id,) in ids:
            assert "margin: rank" in explained(store, image_id)
        names = {path.rpartition("/")[2] for path in CountedFiles.read}
        assert names == {"predictions.parquet"}
        read[rows] = CountedFiles.read.total()
    small, large = read.values()
    assert large < 1.1 * small
