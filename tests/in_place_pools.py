"""All that a pool says of a set in place and of the same files copied, as text that can be compared."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from dagster_active_learning import (
    LabelingBatch,
    PredictionFiles,
    active_learning_definitions,
    compare_prediction_sets,
    explain_candidate,
)
from in_place import InThisProcess

# What is of a run, and not of what is read.
OF_A_RUN = r"^(?:generation|scored_by)$|_(?:generation|at)$|run_id$"
TEXT_OF_A_RUN = r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d[ T][\d:.+]+|\d{10}\.\d+"


@dataclass(frozen=True)
class Case:
    """Files, what the pool is like, what its predictions are read with, images not in its manifest.

    Where the manifest has all images, what is counted of them is what there is.
    """

    make: Any
    settings: Any = lambda _: {}
    options: dict[str, Any] = field(default_factory=dict)
    keys: tuple[str | None, ...] = (None,)
    not_in_manifest: int = 6


def assert_as_copied(folder, case):
    """Materialize the pool of a case twice, in place and copied, and compare."""
    found, expected = (
        pool(folder, folder / way, case, in_place=way == "in place")
        for way in ("in place", "copied")
    )
    assert found.keys() == expected.keys()
    for name, what in expected.items():
        assert found[name] == what, name
    return found


def pool(folder, own, made, *, in_place):
    """All that is written of a pool, and said about it."""
    own.mkdir()
    settings = {"storage": own / "storage", "engine": InThisProcess()} if in_place else {}
    partitioned = made.keys != (None,)
    files = PredictionFiles(
        str(folder / ("{partition_key}*.parquet" if partitioned else "p*.parquet")),
        "parquet",
        in_place=in_place,
        model="may",
        **made.options,
    )
    defs = active_learning_definitions(
        **{
            "pool": "pool",
            "predictions": files,
            "images": folder / "m.csv",
            "limit": 30,
            "batch": LabelingBatch(size=12, random_share=0.25),
            "export": [own / ("{partition_key}.csv" if partitioned else "candidates.csv")],
            "report": own / "reports",
            "max_quarantined_share": 0.5,
            **made.settings(folder),
            **settings,
        }
    )
    said: dict[str, Any] = {}
    database = own / "labeling.duckdb"
    for key in made.keys:
        result = dg.materialize(
            [*(defs.assets or ()), *(defs.asset_checks or ())],
            resources={"duckdb": DuckDBResource(database=str(database))},
            partition_key=key,
        )
        for event in result.get_asset_materialization_events():
            of_asset = event.materialization.metadata.items()
            said[f"{key} {event.asset_key}"] = {
                name: normal(value, own) for name, value in of_asset if name != "files"
            }
        for one in result.get_asset_check_evaluations():
            values = {name: normal(value, own) for name, value in one.metadata.items()}
            said[f"{key} {one.check_name} {one.asset_key}"] = (
                one.passed,
                normal(one.description, own),
                values,
            )
    with duckdb.connect(str(database)) as connection:
        said |= tables(connection)
        candidates = connection.execute(
            "SELECT DISTINCT prediction_set, image_id FROM pool.labeling_candidates ORDER BY ALL"
        ).fetchall()
        for name, image_id in [*candidates[::4], (candidates[0][0], "unseen")]:
            page = explain_candidate(connection, image_id, pool="pool", prediction_set=name)
            said[f"explained {name} {image_id}"] = normal(page, own)
        if partitioned:
            compared = compare_prediction_sets(connection, pool="pool")
            said["compared"] = repr(compared.rows())
    for path in sorted({*own.rglob("*.csv"), *own.rglob("*.html")}):
        if "storage" not in path.parts:
            said[f"file {path.relative_to(own)}"] = normal(path.read_text(), own)
    return said


def tables(connection):
    """The rows of all tables and views of the pool, but those that say where a set is."""
    names = connection.execute(
        "SELECT DISTINCT table_name, list(column_name ORDER BY ordinal_position) "
        "FROM information_schema.columns WHERE table_schema = 'pool' "
        "AND NOT regexp_matches(table_name, '^in_place_|^schema_version$|_[0-9]+$') GROUP BY table_name"
    ).fetchall()
    found = {}
    for name, columns in names:
        kept = ", ".join(f'"{column}"' for column in columns if not re.search(OF_A_RUN, column))
        rows = connection.execute(f'SELECT {kept} FROM pool."{name}"').fetchall()
        found[f"table {name}"] = sorted(map(repr, rows))
    assert found["table image_scores"]
    return found


def normal(value, own: Path) -> Any:
    """A value as text, without what is of a run and where the pool is."""
    text = value if isinstance(value, str) else repr(value)
    return re.sub(TEXT_OF_A_RUN, "…", text.replace(str(own), "…"))
