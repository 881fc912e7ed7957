"""What is settled, done and gone from tick to tick, and where it is kept."""

import json
import string

import dagster as dg
import hypothesis.strategies as st
import pytest
from hypothesis import given

from dagster_active_learning.definitions import cursor as cursor_module
from dagster_active_learning.definitions.cursor import Cursor, Memory, StoredMemory

VERSIONS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"))


@given(st.lists(st.tuples(VERSIONS, st.booleans()), max_size=12))
def test_a_set_is_settled_when_two_ticks_in_a_row_see_the_same_that_is_not_done(ticks):
    memory = Memory()
    before, done = {}, {}
    for versions, finish in ticks:
        memory = Cursor.load(Cursor(memory=memory).dump()).memory
        assert memory.gone(versions) == sorted(done.keys() - versions.keys())
        expected = {
            name
            for name, version in versions.items()
            if before.get(name) == version and done.get(name) != version
        }
        settled = memory.settled(versions)
        assert settled == sorted(expected)
        finished = settled if finish else settled[:1]
        memory = memory.after(versions, finished)
        # A changed set is not done; one that is back as it was done is new again.
        done = {name: version for name, version in versions.items() if done.get(name) == version}
        done |= {name: versions[name] for name in finished}
        before = versions


@pytest.mark.parametrize("text", [None, "", "no JSON", "[]", "{}", '{"format": 0, "done": 1}'])
def test_what_is_no_cursor_is_an_empty_one(text):
    loaded = Cursor.load(text)
    assert (loaded.memory, loaded.requested) == (Memory({}, {}), {})
    assert loaded.id != Cursor.load(text).id, "its memory is nobody else's"


def test_a_cursor_is_read_as_it_was_written():
    cursor = Cursor("id", {"a": "1"}, Memory({"b": "2"}, {"\udcff": "3"}), "b\0")
    assert Cursor.load(cursor.dump()) == cursor


def test_a_cursor_of_the_first_format_is_the_memory():
    text = json.dumps({"format": 1, "done": {"a": "1"}, "waiting": {"b": "2"}})
    assert Cursor.load(text).memory == Memory({"a": "1"}, {"b": "2"})


def test_a_memory_is_as_large_as_what_is_there():
    memory = Memory()
    for tick in range(50):
        versions = {f"set{tick * 100 + number}": "0" * 16 for number in range(1_000)}
        memory = memory.after(versions, memory.settled(versions))
    assert len(Cursor(memory=memory).dump()) < 40_000
    assert len(memory.done) + len(memory.waiting) == 1_000


@pytest.fixture(params=["ephemeral", "sqlite"])
def storage(request, tmp_path):
    """The key-value storage of an instance."""
    if request.param == "sqlite":
        with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
            yield instance.daemon_cursor_storage
    else:
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance.daemon_cursor_storage


NAMES = [
    *(f"{letter}{number}" for letter in string.ascii_lowercase for number in range(40)),
    *["", "ü", "a b", "'; DROP TABLE kvs", '"', "\udcff", "x" * 255],
]


def test_what_is_stored_is_what_is_loaded(storage):
    for done, waiting in [
        (NAMES[:5], []),
        (NAMES[:5], NAMES[5:]),
        (NAMES, []),
        ([], NAMES),
        (NAMES[::2], NAMES[1::2]),
        (NAMES[:1], []),
        ([], []),
    ]:
        memory = Memory(dict.fromkeys(done, "1"), dict.fromkeys(waiting, "2"))
        stored = StoredMemory(storage, "owner", "cursor")
        stored.load()
        stored.save(memory)
        assert StoredMemory(storage, "owner", "cursor").load() == memory


def test_a_memory_belongs_to_one_cursor_of_one_sensor(storage):
    for owner, cursor_id in [("a", "1"), ("b", "1"), ("a", "2")]:
        stored = StoredMemory(storage, owner, cursor_id)
        assert stored.load() == Memory(), "a new cursor begins anew"
        stored.save(Memory({f"{owner}{cursor_id}": "1"}, {}))
    assert StoredMemory(storage, "b", "1").load() == Memory({"b1": "1"}, {})
    assert StoredMemory(storage, "a", "2").load() == Memory({"a2": "1"}, {})
    assert StoredMemory(storage, "a", "1").load() == Memory(), "it was taken over"


class Watched:
    """A storage that notes what is written to it."""

    def __init__(self):
        self.values = {}
        self.written = {}

    def get_cursor_values(self, keys):
        return {key: self.values[key] for key in keys & self.values.keys()}

    def set_cursor_values(self, pairs):
        self.written.update(pairs)
        # As SQLite's: all are new, or those that are there are updated and the others lost.
        if not pairs.keys() & self.values.keys():
            self.values.update(pairs)
        self.values.update({key: pairs[key] for key in pairs.keys() & self.values.keys()})


def test_only_the_parts_that_changed_are_written():
    storage = Watched()
    versions = {f"set{number}": "0" * 16 for number in range(10_000)}

    def write(memory):
        storage.written.clear()
        stored = StoredMemory(storage, "owner", "cursor")
        stored.load()
        stored.save(memory)
        assert StoredMemory(storage, "owner", "cursor").load() == memory
        return len(storage.written)

    assert write(Memory(versions, {})) == cursor_module.BUCKETS
    assert write(Memory(dict(reversed(versions.items())), {})) == 0
    assert write(Memory(versions, {"new": "1"})) == 1
    assert write(Memory({**versions, "new": "1"}, {})) == 1
    assert write(Memory({**versions, "set1": "2", "new": "1"}, {})) == 1
    # MySQL tells keys apart by their first 64 characters and holds 65,535 bytes.
    assert len({key[:64] for key in storage.values}) == len(storage.values)
    assert max(map(len, storage.values.values())) < 65_535 / 10


@pytest.mark.parametrize("damage", ["no JSON", "", "[]", None])
def test_a_damaged_part_costs_its_file_sets_only(damage):
    storage = Watched()
    stored = StoredMemory(storage, "owner", "cursor")
    stored.load()
    stored.save(Memory(dict.fromkeys(NAMES, "1"), {}))
    key = min(storage.values)
    if damage is None:
        lost = set(json.loads(storage.values.pop(key))["done"])
    else:
        lost = set(json.loads(storage.values[key])["done"])
        storage.values[key] = damage
    loaded = StoredMemory(storage, "owner", "cursor").load()
    assert loaded
    assert loaded.done.keys() == set(NAMES) - lost
    assert lost


@pytest.mark.parametrize("answer", ["raised", "returned"])
def test_an_instance_without_key_value_storage_has_no_memory(answer):
    class Absent(Watched):
        def get_cursor_values(self, keys):  # noqa: ARG002 # pyright: ignore[reportIncompatibleMethodOverride]
            error = NotImplementedError("KVS is not supported")
            if answer == "raised":
                raise error
            return error

    assert StoredMemory(Absent(), "owner", "cursor").load() is None


@given(st.sets(st.text(max_size=3), max_size=12), st.integers(1, 5))
def test_windows_go_over_all_names_in_turn(names, size):
    cursor, seen = Cursor(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor_module, "FILE_SETS_IN_CURSOR", size)
        for _ in range(-(-len(names) // size)):
            window = cursor.window(names)
            assert len(window) <= size
            seen += window
            cursor = Cursor(start=f"{window[-1]}\0")
        assert seen == sorted(names)
        assert cursor.window(names) == sorted(names)[:size], "and then from the beginning"
