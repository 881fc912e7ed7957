"""What the fuzzer has found, and valid files cut short or with one byte changed, read again."""

import random
from pathlib import Path

import pytest

from faults.fuzz.targets import TARGETS, check

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
FOUND = sorted(CORPUS.glob("*/*"))


def test_the_corpus_belongs_to_targets():
    assert FOUND
    assert {path.parent.name for path in FOUND} <= set(TARGETS)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:6]}")
def test_what_the_fuzzer_has_found_is_refused_or_read_whole(path, tmp_path):
    check(TARGETS[path.parent.name], path.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_read(name, tmp_path):
    assert all(check(TARGETS[name], seed, tmp_path) is not None for seed in TARGETS[name].seeds)


# Without atheris, and in another order at each place: half of Parquet's footer is in few bytes.
@pytest.mark.parametrize("name", TARGETS)
def test_a_file_that_is_cut_or_changed_is_refused_or_read_whole(name, tmp_path):
    target, choose = TARGETS[name], random.Random(0)
    for _ in range(50):
        content = bytearray(choose.choice(target.seeds))
        if not content:
            continue
        for _ in range(choose.choice([1, 1, 2, 4])):
            content[choose.randrange(len(content))] = choose.randrange(256)
        if choose.random() < 0.2:
            del content[choose.randrange(len(content)) :]
        check(target, bytes(content), tmp_path)
