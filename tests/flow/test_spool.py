"""Rows that are put aside in a temporary file."""

import os
import subprocess
import sys

SPOOL = """
import resource, signal
import pyarrow as pa
from dagster_active_learning.flow.spool import RowSpool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with RowSpool() as spool:
        spool.add(pa.table({"image_id": ["a" * 1000] * 1000}))
except OSError as error:
    print(error)
"""


def test_a_full_disk_of_temporary_files_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SPOOL],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert "File too large, for rows that are put aside; make room or set TMPDIR: " in done.stdout
    assert str(tmp_path) in done.stdout
