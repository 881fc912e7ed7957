"""Files that change while they are read, that are no files, or that unpack to far more than they are.

For every format and for manifests: a clear error, no hang, and no more memory than a few batches.
"""

import os

import pytest

from dagster_active_learning import PoolImages, read_predictions
from dagster_active_learning.errors import PredictionReadError
from faults.fuzz.targets import TARGETS, write

PREDICTIONS = [name for name, target in TARGETS.items() if target.format != "manifest"]


def open_target(name, folder):
    """The stream of a target's first seed."""
    path, options = write(TARGETS[name], TARGETS[name].seeds[0], folder)
    return read_predictions(path, format=TARGETS[name].format, **options)


CHANGES = {
    "deleted": lambda file: file.unlink(),
    "emptied": lambda file: os.truncate(file, 0),
    "shrunk": lambda file: os.truncate(file, file.stat().st_size - 1),
    "replaced": lambda file: (file.with_suffix(".new").write_bytes(b"x"), os.replace(file.with_suffix(".new"), file)),
}  # fmt: skip


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_read_is_an_error_that_names_it(tmp_path, name, change):
    stream = open_target(name, tmp_path)
    CHANGES[change](tmp_path / TARGETS[name].file)
    with pytest.raises(PredictionReadError) as error:
        _ = list(stream), stream.sha256()
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_once_it_is_read_is_an_error_that_says_so(tmp_path, name, change):
    stream = open_target(name, tmp_path)
    list(stream)
    CHANGES[change](tmp_path / TARGETS[name].file)
    with pytest.raises(PredictionReadError) as error:
        stream.sha256()
    assert f"{tmp_path / TARGETS[name].file} changed while it was read" in str(error.value)


def fifo(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", [fifo, device, loop])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path, name, kind):
    target = TARGETS[name]
    path, options = write(target, target.seeds[0], tmp_path)
    (tmp_path / target.file).unlink()
    kind(tmp_path / target.file)
    manifest = target.format == "manifest"
    with pytest.raises(PredictionReadError) as error:
        _ = (
            PoolImages(path, **options).read()
            if manifest
            else read_predictions(path, format=target.format, **options)
        )
    assert str(tmp_path / target.file) in str(error.value)
