"""Ids that differ in form only are found, counted and never taken for each other."""

import random
import re
import unicodedata
from itertools import product

import pyarrow as pa
import pytest

from dagster_active_learning.readers.arrow import read_table
from dagster_active_learning.readers.options import TableOptions
from dagster_active_learning.readers.quarantine import Reason
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.alike_ids import (
    FORMS,
    alike_ids,
    alike_of_first,
    sets_with_other_ids,
)
from dagster_active_learning.store.images import replace_images
from pools import ingest, rank, rows, score
from ranked_pools import manifest

DETECTION = Rules(task="detection")

ALIKE = [
    # id in the predictions, id in the manifest, the difference
    ("a\\b.jpg", "a/b.jpg", "\\ for /"),
    ("./a.jpg", "a.jpg", "a leading ./"),
    (".//././a.jpg", "a.jpg", "a leading ./"),
    ("caf\u00e9.jpg", "cafe\u0301.jpg", "Unicode normal form"),
    ("\u1112\u1161\u11ab.png", "\ud55c.png", "Unicode normal form"),
    ("a.JPG", "a.jpg", "upper and lower case"),
    ("IMG_1.jpg", "img_1.jpg", "upper and lower case"),
    ("\u00c9t\u00e9.JPG", "\u00e9t\u00e9.jpg", "upper and lower case"),
    ("a", "a.jpg", "suffix"),
    ("a.jpeg", "a.jpg", "suffix"),
    ("17.0", "17", "a trailing .0"),
    ("7", "007", "leading zeros"),
    ("0", "000", "leading zeros"),
    ("397133", "000000397133.jpg", "leading zeros"),
    ("/data/images/a.jpg", "a.jpg", "folder"),
    ("a.jpg", "train/a.jpg", "folder"),
    (".\\Train\\A.JPG", "train/a.jpg", "upper and lower case"),
    ("7.0", "images/007.png", "folder"),
]

NOT_ALIKE = [
    ("train/1.jpg", "test/1.jpg"), ("a.jpg", "b.jpg"), ("17.5", "17"), ("17.0", "170"), ("1", "10"), ("a.0", "a"), ("0a", "a"),
    ("a.txt", "a"), ("x/7", "y/007"), ("\u0430.jpg", "a.jpg"), ("a b", "ab"), ("jpg", "a.jpg"), (".jpg.png", "a"),
]  # fmt: skip


def pool_of(store, predicted, in_manifest, *, also=(), rules=DETECTION):
    """A set whose rows name ``predicted`` and ``also``; the manifest has the latter too."""
    replace_images(store, manifest([*in_manifest, *also]))
    ids = [*predicted, *also]
    table = pa.table({"image_id": ids, "score": [0.5] * len(ids)})
    stream = read_table(table, name="objects", options=TableOptions(score_column="score"))
    return ingest(store, stream, rules=rules, in_manifest=True)


@pytest.mark.parametrize(("predicted", "image_id", "difference"), ALIKE)
def test_ids_that_differ_in_form_are_found_and_not_taken_for_each_other(
    store, predicted, image_id, difference
):
    pool_of(store, [predicted], [image_id, "without objects"], also=["other"])
    (found,) = alike_ids(store, ["set"])
    assert (found.difference, found.image_count) == (difference, 1)
    assert (found.predicted_id, found.image_id) == (predicted, image_id)
    assert rows(store, "SELECT image_id, reason FROM quarantined_predictions") == [
        (predicted, Reason.NOT_IN_MANIFEST)
    ]
    scores = score(store, rules=DETECTION, in_manifest=True)
    of_image = dict(scores.select("image_id", "mean_object_score").iter_rows())
    assert of_image == {image_id: None, "without objects": 0, "other": 0.5}
    ranked = rank(store, "mean_object_score", rules=DETECTION, in_manifest=True)[1]
    assert [row[0] for row in ranked] == ["without objects", "other", image_id]
    assert alike_of_first(store, "set", ["mean_object_score"], 24) == {image_id: predicted}
    assert alike_of_first(store, "set", ["mean_object_score"], 2) == {}


@pytest.mark.parametrize(("predicted", "image_id"), NOT_ALIKE)
def test_other_ids_are_other_images(store, predicted, image_id):
    pool_of(store, [predicted], [image_id], also=["other"])
    assert sets_with_other_ids(store, ["set"]) == ["set"]
    assert alike_ids(store, ["set"]) == []
    scores = score(store, rules=DETECTION, in_manifest=True)
    assert dict(scores.select("image_id", "mean_object_score").iter_rows())[image_id] == 0


def test_an_image_that_is_named_is_not_nearly_named(store):
    pool_of(store, ["A.jpg"], [], also=["a.jpg"])
    assert alike_ids(store, ["set"]) == []
    assert alike_ids(store, ["other set"]) == []


def test_an_image_in_which_nothing_was_found_under_another_id_is_unknown(store, tmp_path):
    from dagster_active_learning import read_predictions

    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    replace_images(store, manifest(["a.jpg", "b", "c"]))
    stream = read_predictions(tmp_path, format="yolo")
    ingest(store, stream, rules=DETECTION, in_manifest=True)
    scores = score(store, rules=DETECTION, in_manifest=True)
    assert scores["mean_object_score"].to_list() == [None, 0.9, 0]


def plain_forms(image_id):
    """The forms of an id, written without DuckDB and without its expressions."""
    forms = [image_id.replace("\\", "/")]
    text = forms[-1]
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    forms += [text, unicodedata.normalize("NFC", text)]
    forms.append("".join(letter.lower() for letter in forms[-1]))
    stem, dot, suffix = forms[-1].rpartition(".")
    image = dot and suffix in ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif"]
    forms.append(stem if image else forms[-1])
    *folders, last = forms[-1].split("/")
    whole = last[:-2] if last.endswith(".0") and re.fullmatch("[0-9]+", last[:-2]) else last
    forms.append("/".join([*folders, whole]))
    forms.append("/".join([*folders, str(int(whole)) if re.fullmatch("[0-9]+", whole) else whole]))
    forms.append(forms[-1].split("/")[-1])
    return forms


def plain_difference(predicted, image_id):
    one, other = plain_forms(predicted), plain_forms(image_id)
    both_have_folders = one[-2] != one[-1] and other[-2] != other[-1]
    for name, a, b in zip(FORMS, one, other, strict=True):
        if a == b and not (name == "folder" and both_have_folders):
            return name
    return None


@pytest.mark.parametrize("seed", range(5))
def test_all_images_that_a_plain_comparison_finds_are_found(store, seed):
    parts = [["", "./", ".\\"], ["", "x/", "X/", "y\\"], ["7", "07", "a", "\u00e9", "e\u0301", "\u00c9"], ["", ".0", ".jpg", ".JPG", ".png"]]  # fmt: skip
    ids = ["".join(words) for words in product(*parts)]
    random.Random(seed).shuffle(ids)
    in_manifest, predicted = ids[:12], ids[12:24]
    pool_of(store, predicted, in_manifest, also=["other"])
    expected = {}
    for image_id in in_manifest:
        differences = [plain_difference(other, image_id) for other in predicted]
        if any(differences):
            expected[image_id] = {difference for difference in differences if difference}
    found = alike_ids(store, ["set"])
    assert sum(one.image_count for one in found) == len(expected)
    for one in found:
        assert one.image_id in expected
        assert plain_difference(one.predicted_id, one.image_id) == one.difference
    scores = score(store, rules=DETECTION, in_manifest=True)
    of_image = dict(scores.select("image_id", "mean_object_score").iter_rows())
    assert {name for name, value in of_image.items() if value is None} == expected.keys()


def test_many_ids_of_one_form_are_no_square_of_pairs(store):
    letters = 11
    ids = ["".join(word) for word in product(*["aA"] * letters)]
    pool_of(store, ids[::2], ids[1::2], also=["other"])
    (found,) = alike_ids(store, ["set"])
    assert found.image_count == 2 ** (letters - 1)
