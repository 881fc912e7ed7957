"""Names of folders, columns and functions that a view over files or a worker could mistake."""

from dataclasses import replace
from importlib import import_module

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_active_learning import ACQUISITION_FUNCTIONS, flow
from dagster_active_learning.errors import PredictionReadError, SettingError
from in_place import RULES, assert_equal, copied, in_place, pool_store, tables

PROBS = [[0.25, 0.75], [0.5, 0.5], [0.9, 0.4], [1.0, 0.0]]
"""The third is no prediction."""


def write(file, first=0, **others):
    ids = [f"i{first + row:03}" for row in range(4)]
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image_id": ids, "class_probs": pa.array(PROBS, pa.list_(pa.float32()))}
    pq.write_table(pa.table({**{name: [99] * 4 for name in others}, **columns}), file)


@pytest.mark.parametrize(
    "folders",
    [["image_id=5"], ["image_id=a", "image_id=b"], ["class_probs=5"], ["file_row_number=7"]],
    ids=str,
)
def test_folders_are_no_columns(tmp_path, folders):
    for number, folder in enumerate(folders):
        write(tmp_path / "set" / folder / "a.parquet", 4 * number)
    path = str(tmp_path / "set" / "*" / "*.parquet")
    storage = tmp_path / "image_id=3" / "prediction_index=8"
    assert_equal(tables(in_place(path, storage)), tables(copied(path)))


# Names that statements of this package give to rows of its own, and what a user may have so.
RELATIONS = ["incoming", "kept", "wanted", "predicted", "scores"]


@pytest.mark.parametrize("read", [in_place, copied], ids=["in place", "copied"])
@pytest.mark.parametrize("schema", ["main", "pool"])
def test_tables_of_the_user_are_not_taken_for_rows_of_a_statement(
    tmp_path, monkeypatch, schema, read
):
    write(tmp_path / "a.parquet")
    path, options = str(tmp_path / "a.parquet"), {"manifest": [f"i{row:03}" for row in range(5)]}
    if read is in_place:
        options["storage"] = tmp_path / "storage"
    expected = tables(copied(path, manifest=options["manifest"]))
    store = pool_store()
    for name in RELATIONS:
        store.connection.execute(
            f"CREATE TABLE {schema}.{name} AS SELECT 'of the user' AS image_id, 9 AS rank"
        )
    monkeypatch.setattr("in_place.pool_store", lambda: store)
    assert_equal(tables(read(path, **options)), expected)


@pytest.mark.parametrize("name", ["IMAGE_ID", "Class_Probs"])
def test_columns_that_differ_in_case_are_refused(tmp_path, name):
    write(tmp_path / "a.parquet", **{name: 1})
    with pytest.raises(PredictionReadError, match=rf"{name}.* are one name for DuckDB"):
        in_place(str(tmp_path / "a.parquet"), tmp_path / "storage")


@pytest.mark.parametrize("name", ["file_row_number", "File_Index", "position of row", "filename"])
def test_columns_of_the_view_are_refused(tmp_path, name):
    write(tmp_path / "a.parquet", **{name: 1})
    with pytest.raises(PredictionReadError, match=f"a column {name!r}, as DuckDB calls"):
        in_place(str(tmp_path / "a.parquet"), tmp_path / "storage")


@pytest.mark.parametrize("name", ["toy", "margin"])
def test_functions_that_workers_do_not_have_are_refused(tmp_path, monkeypatch, name):
    """Their scores would be null, or those of another function of the name."""
    function = replace(ACQUISITION_FUNCTIONS["margin"], name=name, scores="entropy")
    monkeypatch.setitem(ACQUISITION_FUNCTIONS, name, function)
    write(tmp_path / "a.parquet")
    with pytest.raises(SettingError, match=f"{name!r} was added in this process"):
        in_place(str(tmp_path / "a.parquet"), tmp_path / "storage")


def test_another_version_of_the_package_scores_again(tmp_path, monkeypatch):
    write(tmp_path / "a.parquet")
    store = in_place(str(tmp_path / "a.parquet"), tmp_path / "storage")
    assert flow.files_to_score(store, "set", RULES) is None
    # The function of that name stands before its module.
    module = import_module("dagster_active_learning.flow.commit_in_place")
    monkeypatch.setattr(module, "this_version", lambda: "99.0")
    files = flow.files_to_score(store, "set", RULES)
    assert files is not None
    assert [str(file) for file in files.files] == [str(tmp_path / "a.parquet")]
