"""The one folder in which everything is made."""

import os
from pathlib import Path

import dagster as dg

DATA_FOLDER = Path(
    os.environ.get("LABELING_DATA_FOLDER", Path(__file__).resolve().parents[1] / "data")
).absolute()
DATABASE = DATA_FOLDER / "labeling.duckdb"


@dg.template_var
def data_folder() -> str:
    """The folder as the pools' YAML files call it."""
    return str(DATA_FOLDER)
