"""A set that is read in place, copied, scored and deleted in any order is what it is by itself."""

from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagster_active_learning import (
    ACQUISITION_FUNCTIONS,
    delete_prediction_set,
    flow,
    read_predictions,
)
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.files.storage import Storage
from dagster_active_learning.readers.in_place import open_in_place
from dagster_active_learning.rules import Rules
from dagster_active_learning.store.in_place_sets import folders_in_use
from in_place import InThisProcess, add_manifest, copied, folder, pool_store, random_probs, write
from pools import ingest

RULES = {name: Rules(aggregation=name, in_manifest=True) for name in ("mean", "max")}

ENTROPY = [ACQUISITION_FUNCTIONS["entropy"]]

CANDIDATES = "SELECT * EXCLUDE (run_id) FROM labeling_candidates ORDER BY rank"


@pytest.fixture(scope="module")
def path():
    """Images with several predictions each, in two files; the manifest has others as well."""
    rng, place = np.random.default_rng(0), folder()
    for file in range(2):
        ids = [f"image {number:02d}" for number in rng.integers(40, size=60)]
        write(place / f"p{file}.parquet", ids, random_probs(rng, 60))
    return str(place / "*.parquet")


MANIFEST = [f"image {number:02d}" for number in range(5, 45)]


def rank(store, rules):
    flow.rank_candidates(store, "set", ENTROPY, rules=rules, limit=20, seed=0, run_id="run")
    return store.rows(CANDIDATES), store.rows("FROM image_scores ORDER BY image_id")


@pytest.fixture(scope="module")
def expected(path):
    """What sets are that are copied and scored once."""
    return {
        name: rank(copied(path, rules, manifest=MANIFEST), rules) for name, rules in RULES.items()
    }


class Pool:
    """A pool, and what is to be in it.

    Attributes:
        read: ``in place`` or ``copied``, or None without a set.
        scored: The rules that it was scored under, by their name.
    """

    def __init__(self, path):
        self.path, self.store, self.read, self.scored = path, pool_store(), None, None
        add_manifest(self.store, MANIFEST)
        self.storage = Storage(str(folder())).within(self.store.pool_id)

    def score_files(self, source, rules):
        return flow.score_files(
            source,
            prediction_set="set",
            rules=rules,
            storage=self.storage,
            engine=InThisProcess(),
            run_id="run",
            report=lambda _: None,
        )

    def read_in_place(self):
        files = self.score_files(open_in_place(self.path), RULES["mean"])
        reading = {"prediction_set": "set", "model": "model", "run_id": "run"}
        flow.ingest_in_place(self.store, files, report=lambda _: None, **reading)
        self.read, self.scored = "in place", None

    def copy(self):
        ingest(self.store, read_predictions(self.path, format="parquet"), in_manifest=True)
        self.read, self.scored = "copied", None

    def score_in_place(self, name):
        rules = RULES[name]
        try:
            kept = flow.files_to_score(self.store, "set", rules)
        except PoolStateError:
            assert self.read != "in place"
            return
        files = None if kept is None else self.score_files(kept.open(), rules)
        flow.score_in_place(self.store, "set", rules=rules, run_id="run", scored=files)
        self.scored = name

    def score_copied(self, name):
        try:
            flow.score_prediction_set(
                self.store, "set", rules=RULES[name], run_id="run", report=lambda _: None
            )
        except PoolStateError:
            assert self.read is None
            return
        self.scored = name

    def delete(self):
        if self.read is not None:
            delete_prediction_set(self.store.connection, pool="pool", prediction_set="set")
        self.read, self.scored = None, None

    def check(self, expected):
        flow.remove_former_folders(
            self.store, self.storage, ["set"], run_id="run", seconds_since_end={"run": 1.0}.get
        )
        assert set(self.storage.folders()) == folders_in_use(self.store)
        if self.scored is None:
            assert self.store.rows("FROM image_scores") == []
        else:
            assert rank(self.store, RULES[self.scored]) == expected[self.scored]


STEPS = {
    "read in place": Pool.read_in_place,
    "copy": Pool.copy,
    "delete": Pool.delete,
    **{
        f"score {how}, {name}": partial(getattr(Pool, f"score_{how.replace(' ', '_')}"), name=name)
        for how in ("in place", "copied")
        for name in RULES
    },
}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=3, max_size=8))
@example(["read in place", "score copied, max", "score in place, max", "score in place, mean"])
@example(["read in place", "score in place, mean", "score copied, max", "score in place, mean"])
@example(["copy", "score copied, mean", "read in place", "score in place, mean", "copy"])
@example(["read in place", "score in place, max", "copy", "score copied, max", "delete"])
def test_any_order_gives_what_a_set_is_by_itself(path, expected, steps):
    pool = Pool(path)
    for step in steps:
        STEPS[step](pool)
        pool.check(expected)
