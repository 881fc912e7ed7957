"""What is in the storage is trusted as long as it is whole; what is not is named, and made again."""

import numpy as np
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.predictions import predictions_of_images
from dagster_active_learning.store.score_findings import scored_image_count
from in_place import (
    DAMAGES,
    InThisProcess,
    add_manifest,
    assert_equal,
    commit,
    content,
    copied,
    pool_store,
    random_probs,
    scored,
    tables,
    write,
)

RULES = Rules(in_manifest=True)

MANIFEST = [f"image {number:03d}" for number in range(20, 150)]
"""The predictions are about the first hundred."""


def files(folder, *, spread=False):
    """Two files, the first with a row for quarantine."""
    rng = np.random.default_rng(0)
    ids = [f"image {number:03d}" for number in range(100)]
    for place, some in enumerate([ids[::2], ids[1::2]] if spread else [ids[:50], ids[50:]]):
        probs = random_probs(rng, 50).tolist()
        probs[30] = probs[30] if place else None
        write(folder / f"p{place}.parquet", some, probs)
    return str(folder / "*.parquet")


ONE_WAVE = {
    "done/00000000.json": [True, False],
    "scores/00000001.parquet": [False, True],
    "best/00000001.parquet": [False, True],
    "quarantine/00000000.parquet": [True, False],
    "best.parquet": [False, False],
}
TWO_WAVES = {
    "done/00000000.json": [True, False, False],
    "done/bucket-000000.json": [False, False, True],
    "rows/00000001.arrow": [False, True, False],
    "scores/bucket-000000.parquet": [False, False, True],
    "best/bucket-000000.parquet": [False, False, True],
}
"""By the file that is damaged: whether each of the tasks is done again."""


class Noting(InThisProcess):
    """Notes of each task whether it did anything."""

    def run(self, function, tasks, *report):
        for result in super().run(function, tasks, *report):
            self.new = [*getattr(self, "new", []), result.is_new]
            yield result


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("spread", "damaged", "again"),
    [
        (spread, *case)
        for spread, cases in ((False, ONE_WAVE), (True, TWO_WAVES))
        for case in cases.items()
    ],
)
def test_a_task_is_done_again_whose_files_are_not_all_there_as_it_wrote_them(
    tmp_path, damage, spread, damaged, again
):
    path, storage = files(tmp_path, spread=spread), tmp_path / "storage"
    before = scored(path, storage)
    (folder,) = storage.iterdir()
    whole = content(folder)
    damage(folder / damaged)
    engine = Noting()
    after = scored(path, storage, engine=engine)
    assert content(folder) == whole
    assert engine.new == again
    assert (after.score_files, after.quarantine_files, after.cuts) == (
        before.score_files,
        before.quarantine_files,
        before.cuts,
    )


@pytest.mark.parametrize("note", ["{}", "[]", "7", "null", '{"files": 7}', '{"files": {}}'])
def test_a_task_is_done_again_of_which_something_else_is_noted(tmp_path, note):
    path, storage = files(tmp_path), tmp_path / "storage"
    scored(path, storage)
    (folder,) = storage.iterdir()
    whole = content(folder)
    (folder / "done/00000001.json").write_text(note)
    scored(path, storage)
    assert content(folder) == whole


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "damaged", ["scores/00000001.parquet", "quarantine/00000000.parquet", "best.parquet"]
)
def test_nothing_is_committed_where_a_file_is_not_there_any_more(tmp_path, damage, damaged):
    found = scored(files(tmp_path), tmp_path / "storage")
    damage(next((tmp_path / "storage").iterdir()) / damaged)
    store = pool_store()
    with pytest.raises(PredictionReadError, match=f"{damaged} .*materialize the predictions"):
        commit(store, found)
    assert store.rows("FROM prediction_sets") == []


def rank(store):
    functions = [ACQUISITION_FUNCTIONS["margin"]]
    flow.rank_candidates(store, "set", functions, rules=RULES, limit=5, seed=0, run_id="run")


def count(store):
    scored_image_count(store, ["set"])


def look(store):
    predictions_of_images(store, "set", ["image 070"])


READS = {
    "scores/00000001.parquet": ([count], "image_scores"),
    "scores/without-predictions-*.parquet": ([count, rank], "image_scores"),
    "best.parquet": ([rank], "image_scores"),
    "quarantine/00000000.parquet": ([look], "the predictions"),
    "quarantine/not-in-manifest-*.parquet": ([look, count, rank], "the predictions"),
}
"""By the file that is damaged: what reads it, and what to do."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("damaged", READS)
def test_what_reads_a_file_that_is_gone_or_cut_says_what_to_do_and_that_mends_it(
    tmp_path, damage, damaged
):
    path, storage = files(tmp_path), tmp_path / "storage"
    store = pool_store()
    add_manifest(store, MANIFEST)
    commit(store, scored(path, storage, RULES), RULES)
    expected = tables(copied(path, RULES, manifest=MANIFEST), RULES)
    assert_equal(tables(store, RULES), expected)
    (place,) = storage.glob(f"*/{damaged}")
    damage(place)
    reads, what = READS[damaged]
    for read in reads:
        with pytest.raises(PredictionReadError, match=f"{place.name} .*materialize {what} again"):
            read(next_step(store))
    if what == "the predictions":
        with pytest.raises(PredictionReadError, match="materialize the predictions again"):
            flow.files_to_score(store, "set", RULES)
        commit(next_step(store), scored(path, storage, RULES), RULES)
    else:
        kept = flow.files_to_score(store, "set", RULES)
        again = None if kept is None else scored(path, storage, RULES)
        flow.score_in_place(next_step(store), "set", rules=RULES, run_id="run", scored=again)
    assert_equal(tables(next_step(store), RULES), expected)


def next_step(store):
    """The pool as a later step opens it."""
    return PoolStore(store.connection, "pool")
