"""The rows of a page are those of the pool's tables, with what the model said about each image."""

# What a test expects to be there may be None for the types.
# pyright: reportOptionalSubscript=false

import json

import numpy as np
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, read_predictions
from dagster_active_learning.gallery import MAX_OBJECTS
from dagster_active_learning.report.reading import read_rankings
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.images import replace_images
from pools import RULES
from ranked_pools import HOSTILE_IDS, manifest, ranked, ranked_files, write_files

MARGIN, ENTROPY, OF_OBJECTS = (
    ACQUISITION_FUNCTIONS[name] for name in ("margin", "entropy", "mean_object_score")
)
OUTLINES = [[1.0, 2.0, 30.0, 2.0, 30.5, 40.0]]
RUN_LENGTHS = {"size": [4, 3], "counts": [2, 5, 5]}


def read(store, *functions, rules=RULES, limit=10_000):
    return read_rankings(store, "set", functions, rules=rules, limit=limit)


def test_images_of_all_functions_have_their_own_reasons(store, tmp_path):
    rows = [
        (one, [0.5 - place / 100, 0.4, 0.1 + place / 100]) for place, one in enumerate(HOSTILE_IDS)
    ]
    replace_images(store, manifest(HOSTILE_IDS))
    ranked_files(store, write_files(tmp_path / "files", rows), in_manifest=True)
    lists = read(store, MARGIN, ENTROPY)
    assert lists.by_name.keys() == {"margin", "entropy"}
    by_margin = sorted(rows, key=lambda row: np.diff(np.sort(row[1]))[-1])
    margin = lists.by_name["margin"]
    assert [each.rank for each in margin.candidates] == list(range(1, len(rows) + 1))
    assert {each.image_id for each in margin.candidates} == set(HOSTILE_IDS)
    scores = [each.score for each in margin.candidates]
    assert scores == pytest.approx([np.diff(np.sort(probs))[-1] for _, probs in by_margin])
    assert margin.candidates[0].reason.count(" vs ") == 1
    assert lists.by_name["entropy"].candidates[0].reason.count(" vs ") == 2
    assert {lists.images[one].uri for one in HOSTILE_IDS} == {
        f"s3://images/{one}" for one in HOSTILE_IDS
    }
    assert lists.images[HOSTILE_IDS[0]].size == (640, 480)
    assert sum(margin.counts) == len(rows)


def test_the_first_ranks_only_and_the_number_of_all(store, tmp_path):
    rows = [(f"image{number}", [0.5, 0.5 - number / 100, number / 100]) for number in range(30)]
    ranked_files(store, write_files(tmp_path / "files", rows))
    margin = read(store, MARGIN, limit=7).by_name["margin"]
    assert [each.rank for each in margin.candidates] == [1, 2, 3, 4, 5, 6, 7]
    assert margin.candidate_count == 30


def test_a_function_that_has_ranked_nothing_is_no_list(store, tmp_path):
    ranked_files(store, write_files(tmp_path / "files", [("a", [0.5, 0.5])]), functions=["margin"])
    assert read(store, MARGIN, ENTROPY).by_name.keys() == {"margin"}


def coco(folder, *annotations):
    document = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in (1, 2, 3)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}],
        "annotations": annotations,
    }
    (folder / "coco.json").write_text(json.dumps(document))
    return read_predictions(folder / "coco.json", format="coco", class_names=["car", "tree"])


def of_image(number, category, score, **settings):
    return {"image_id": number, "category_id": category, "score": score, **settings}


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_objects_have_boxes_and_where_they_are_wanted_masks(store, tmp_path, task):
    replace_images(store, manifest(["1.png", "2.png", "3.png"]))
    stream = coco(
        tmp_path,
        of_image(1, 1, 0.5, bbox=[1, 2, 30, 40], segmentation=OUTLINES),
        of_image(1, 2, 0.25, bbox=[5, 6, 7, 8], segmentation=RUN_LENGTHS),
        of_image(2, 2, 0.75, bbox=[0, 0, 9, 9]),
    )
    rules = Rules(task=task, in_manifest=True)
    ranked(store, stream, rules=rules, in_manifest=True)
    candidates = {
        each.image_id: each
        for each in read(store, OF_OBJECTS, rules=rules).by_name["mean_object_score"].candidates
    }
    first, second = candidates["1.png"].objects
    assert (first.label, first.score, first.bbox) == ("car", 0.5, (1, 2, 30, 40))
    assert (second.label, second.score, second.bbox) == ("tree", 0.25, (5, 6, 7, 8))
    masks = [OUTLINES, RUN_LENGTHS] if task == "segmentation" else [None, None]
    assert [first.mask, second.mask] == masks
    assert candidates["1.png"].object_count == 2
    assert [each.label for each in candidates["2.png"].objects] == ["tree"]
    empty = candidates["3.png"]
    assert (empty.reason, empty.objects, empty.object_count) == ("no objects", (), 0)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([[10**400] * 6]),
        f"[[{'9' * 5_000},1,2,3,4,5]]",
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=["no float", "too many digits", "too deep"],
)
def test_a_text_that_no_mask_can_be_read_from_is_none(text):
    from dagster_active_learning.report.reading import _mask

    assert _mask(text, relative=False) is None


def test_of_many_objects_the_first_are_read_and_all_are_counted(store, tmp_path):
    replace_images(store, manifest(["1.png"]))
    many = [of_image(1, 1, 0.5, bbox=[place, 0, 5, 5]) for place in range(MAX_OBJECTS + 50)]
    rules = Rules(task="detection", in_manifest=True)
    ranked(store, coco(tmp_path, *many), rules=rules, in_manifest=True)
    (candidate,) = read(store, OF_OBJECTS, rules=rules).by_name["mean_object_score"].candidates
    assert [each.bbox[0] for each in candidate.objects] == list(range(MAX_OBJECTS))
    assert candidate.object_count == MAX_OBJECTS + 50
    assert candidate.reason.startswith(
        f"worst of the first {MAX_OBJECTS} of {MAX_OBJECTS + 50} objects"
    )
