"""The one folder in which everything is made."""

import os
from pathlib import Path

DATA_FOLDER = Path(
    os.environ.get("LABELING_DATA_FOLDER", Path(__file__).resolve().parents[1] / "data")
)
DATABASE = DATA_FOLDER / "labeling.duckdb"
