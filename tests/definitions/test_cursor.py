"""What is settled, done and gone from tick to tick."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dagster_active_learning.definitions.cursor import Cursor

VERSIONS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"))


@given(st.lists(st.tuples(VERSIONS, st.booleans()), max_size=12))
def test_a_set_is_settled_when_two_ticks_in_a_row_see_the_same_that_is_not_done(ticks):
    cursor = Cursor()
    before, done = {}, {}
    for versions, finish in ticks:
        cursor = Cursor.load(cursor.dump())
        assert cursor.gone(versions) == sorted(done.keys() - versions.keys())
        expected = {
            name
            for name, version in versions.items()
            if before.get(name) == version and done.get(name) != version
        }
        settled = cursor.settled(versions)
        assert settled == sorted(expected)
        finished = settled if finish else settled[:1]
        cursor = cursor.after(versions, finished)
        # A changed set is not done; one that is back as it was done is new again.
        done = {name: version for name, version in versions.items() if done.get(name) == version}
        done |= {name: versions[name] for name in finished}
        before = versions


@pytest.mark.parametrize("text", [None, "", "no JSON", "[]", "{}", '{"format": 0, "done": 1}'])
def test_what_is_no_cursor_is_an_empty_one(text):
    assert Cursor.load(text) == Cursor({}, {})


def test_a_cursor_is_as_large_as_what_is_there():
    cursor = Cursor()
    for tick in range(50):
        versions = {f"set{tick * 100 + number}": "0" * 16 for number in range(1_000)}
        cursor = cursor.after(versions, cursor.settled(versions))
    text = cursor.dump()
    assert len(text) < 40_000
    assert len(json.loads(text)["done"]) + len(json.loads(text)["waiting"]) == 1_000
