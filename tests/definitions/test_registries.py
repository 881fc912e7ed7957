"""A function, a format and an exporter from outside: one entry each, and a pool has them."""

import sys
import textwrap

import dagster as dg
import numpy as np
import pytest
from dagster_duckdb import DuckDBResource

from dagster_active_learning import PredictionFiles, active_learning_definitions, load_candidates
from dagster_active_learning.exporters import EXPORTERS, Exporter
from dagster_active_learning.readers.formats import FORMATS, Format
from dagster_active_learning.readers.options import ObjectOptions

READER = '''
"""One prediction per line: an id and its class probabilities, between blanks."""
import numpy as np
import pyarrow as pa
from dagster_active_learning.files.versions import content_sha256
from dagster_active_learning.readers.stream import PredictionPart, prediction_batch

def open_file(path, options):
    def batches():
        rows = [line.split() for line in path.read_text().splitlines()]
        numbers = [[float(number) for number in numbers] for _, *numbers in rows]
        yield prediction_batch(
            len(rows),
            image_id=pa.array([image_id for image_id, *_ in rows]),
            class_probs=pa.array(numbers, pa.list_(pa.float64())),
            row_number=pa.array(np.arange(1, len(rows) + 1)),
        )
    return PredictionPart(str(path), None, pa.float64(), batches, content_sha256([path]))
'''

EXPORT = '''
"""One line per candidate: function, rank, id and how many classes its predictions name."""

def write_candidates(candidates, path):
    written = 0
    with path.open("w") as file:
        for batch in candidates.rows():
            for row in batch.to_pylist():
                written += 1
                file.write(f"{row['acquisition_function']} {row['rank']} {row['image_id']} ")
                file.write(f"{len(candidates.class_names)}\\n")
    return written
'''

PREDICTIONS = {"a": [0.5, 0.25, 0.25], "b": [1, 0, 0], "c": [0.375, 0.375, 0.25]}


@pytest.fixture
def entries(toy_function, tmp_path, monkeypatch):
    """The three entries, and nothing else."""
    (tmp_path / "toy_reader.py").write_text(READER)
    (tmp_path / "toy_exporter.py").write_text(EXPORT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FORMATS, "toy", Format("toy_reader", ObjectOptions))
    # Another exporter of .csv files: a mapping says which of them is meant.
    monkeypatch.setitem(EXPORTERS, "toy", Exporter("toy_exporter", ".csv"))
    yield toy_function
    for module in ("toy_reader", "toy_exporter"):
        sys.modules.pop(module, None)


@pytest.fixture
def pool(entries, tmp_path):
    lines = [" ".join([name, *map(str, numbers)]) for name, numbers in PREDICTIONS.items()]
    (tmp_path / "predictions.toy").write_text("\n".join(lines))
    return active_learning_definitions(
        pool="pool",
        predictions=PredictionFiles(tmp_path / "predictions.toy", "toy"),
        export={"toy": tmp_path / "candidates.csv", "parquet": tmp_path / "candidates.parquet"},
    )


def test_a_pool_has_them(pool, entries, database, query, tmp_path):
    result = dg.materialize(
        [*pool.assets, *pool.asset_checks],
        resources={"duckdb": DuckDBResource(database=str(database))},
    )
    # A column with its comment, and scores in it.
    impurity = {name: 1 - np.square(numbers).sum() for name, numbers in PREDICTIONS.items()}
    scores = dict(query("SELECT image_id, gini_impurity FROM pool.image_scores"))
    assert scores == pytest.approx(impurity)
    comment = "SELECT comment FROM duckdb_columns() WHERE column_name = ? AND table_name = ?"
    for table in ("image_scores", "candidate_lineage"):
        ((text,),) = query(comment, entries.name, table)
        assert text
    assert query(comment, entries.name, "image_scores") == [(entries.column_comment,)]
    # A ranking asset with its metadata and checks.
    key = dg.AssetKey(["pool", "labeling_candidates", entries.name])
    ranked = load_candidates(database, pool="pool", acquisition_function=entries.name)
    assert ranked["image_id"].to_list() == ["c", "a", "b"]
    metadata = result.asset_materializations_for_node("pool__labeling_candidates")
    (of_function,) = [event.metadata for event in metadata if event.asset_key == key]
    lineage = {row.data["what"]: row.data["value"] for row in of_function["lineage"].records}
    assert lineage["acquisition function"] == entries.title
    assert of_function["preview"].records[0].data["reason"] == "0 vs 1: 0.38 / 0.38"
    checks = [check for check in result.get_asset_check_evaluations() if check.asset_key == key]
    assert {check.check_name for check in checks} == {
        "candidates_are_fresh", "like_the_sets_before", "queue_is_not_empty", "ranks_without_gaps",
    }  # fmt: skip
    assert all(check.passed for check in checks)
    # Files of both exporters.
    lines = (tmp_path / "candidates.csv").read_text().splitlines()
    assert len(lines) == 5 * 3
    assert "gini_impurity 1 c 3" in lines
    assert (tmp_path / "candidates.parquet").stat().st_size


def test_a_suffix_of_two_exporters_needs_the_name_of_one(entries):
    with pytest.raises(ValueError, match=r"'c\.csv' may be a file of several exporters") as error:
        active_learning_definitions(
            pool="pool", predictions=PredictionFiles("p.csv", "csv"), export="c.csv"
        )
    assert "csv, toy" in str(error.value)


@pytest.mark.parametrize("export", [{}, {"excel": "c.xlsx"}])
def test_unknown_exporters_are_refused(export):
    with pytest.raises(ValueError, match="^export is .* expected paths by the names of exporters"):
        active_learning_definitions(
            pool="pool", predictions=PredictionFiles("p.csv", "csv"), export=export
        )


def test_yaml_knows_them(entries, tmp_path):
    from dagster.components.testing import create_defs_folder_sandbox

    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.defs_folder_path / "pool"
        folder.mkdir()
        (folder / "defs.yaml").write_text(
            textwrap.dedent("""
                type: dagster_active_learning.ActiveLearningComponent
                attributes:
                  pool: pool
                  predictions: {path: p.toy, format: toy}
                  acquisition_functions: [gini_impurity]
                  export: {toy: candidates.csv}
            """)
        )
        with sandbox.load_component_and_build_defs(folder) as (component, definitions):
            path = str(sandbox.defs_folder_path.resolve() / "pool" / "candidates.csv")
            assert component.export == {"toy": path}
            keys = {spec.key.path[-1] for asset in definitions.assets or [] for spec in asset.specs}
    assert keys == {"predictions", "image_scores", "gini_impurity", "exported_candidates"}
