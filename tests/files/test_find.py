"""Which files a path or a glob stands for."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagster_active_learning import read_predictions
from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.find import find_files

FILES = ["1.txt", "._1.txt", ".hid.txt", "2.csv", "a/1.txt", "a/b/1.txt", "a/.b/1.txt", "[c]/1.txt"]

# A glob, what is looked for in a folder, and the files.
GLOBS = [
    ("*.txt", None, ["1.txt"]),
    (".*.txt", None, ["._1.txt", ".hid.txt"]),
    ("**/*.txt", None, ["1.txt", "[c]/1.txt", "a/1.txt", "a/b/1.txt"]),
    ("**/**/*.txt", None, ["1.txt", "[c]/1.txt", "a/1.txt", "a/b/1.txt"]),
    ("**/a/**/1.txt", None, ["a/1.txt", "a/b/1.txt"]),
    ("*/1.txt", None, ["[c]/1.txt", "a/1.txt"]),
    ("a/.b/*", None, ["a/.b/1.txt"]),
    ("[c]/1.txt", None, ["[c]/1.txt"]),
    ("", "*.txt", ["1.txt"]),
    ("[c]", "*.txt", ["[c]/1.txt"]),
    ("", "**/*.txt", ["1.txt", "[c]/1.txt", "a/1.txt", "a/b/1.txt"]),
]


@pytest.mark.parametrize(("pattern", "files_in_folder", "expected"), GLOBS)
@pytest.mark.parametrize("relative", [False, True])
def test_each_file_is_found_once(
    tmp_path, monkeypatch, pattern, files_in_folder, expected, relative
):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    root = Path() if relative else tmp_path
    assert find_files(root / pattern, files_in_folder) == [root / file for file in expected]


@pytest.fixture
def folder():
    """A folder that everybody may read, other than pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def secret(folder):
    """Nobody may look into the folder, not even root, who otherwise may read everything."""
    user = os.geteuid()
    folder.chmod(0)
    os.seteuid(user or 65534)
    yield
    os.seteuid(user)
    folder.chmod(0o700)


# A glob, and a folder into which nobody is allowed to look.
SECRETS = [
    ("*.txt", None, ""),
    ("", "*.txt", ""),
    ("*/*.txt", None, "b"),
    ("*/1.txt", None, "b"),
    ("**/*.txt", None, "a/c"),
    ("*/c/1.txt", None, "a"),
    ("*/c/1.txt", None, "b/c"),
    ("", "**/*.txt", "a/c"),
]


@pytest.mark.parametrize(("pattern", "files_in_folder", "inside"), SECRETS)
def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(
    folder, pattern, files_in_folder, inside
):
    for file in ("1.txt", "a/1.txt", "a/c/1.txt", "b/1.txt", "b/c/1.txt"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).touch()
    assert find_files(folder / pattern, files_in_folder)
    with secret(folder / inside), pytest.raises(PredictionReadError) as error:
        find_files(folder / pattern, files_in_folder)
    assert f"Permission denied: '{folder / inside}/" in str(error.value)


def test_a_folder_that_is_not_looked_into_may_be_secret(folder):
    for file in ("a/1.txt", "b/1.txt"):
        (folder / file).parent.mkdir()
        (folder / file).touch()
    with secret(folder / "b"):
        assert find_files(folder / "a*" / "*.txt") == [folder / "a" / "1.txt"]


def test_a_file_that_two_parts_of_a_glob_find_is_read_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "p.csv").write_text("image_id,p_a,p_b\nx,0.5,0.5\n")
    pattern = f"{tmp_path}/**/**/*.csv"
    stream = read_predictions(pattern, format="csv", class_column_prefix="p_")
    assert sum(map(len, stream)) == 1


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).touch()
    with pytest.raises(PredictionReadError, match=r"\\udcff.txt' is a name that is not UTF-8"):
        find_files(tmp_path / "*.txt")
