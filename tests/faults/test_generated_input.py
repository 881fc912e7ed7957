"""Generated tables and mutated files: no row is lost, and every reader refuses what it cannot read."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faults.fuzz.targets import TARGETS

pytestmark = pytest.mark.faults

TESTS = Path(__file__).parents[1]
READERS = {
    reader: [name for name, target in TARGETS.items() if target.format == reader]
    for reader in dict.fromkeys(target.format for target in TARGETS.values())
}
SECONDS_A_READER = 600


def run(*command, **environment):
    """What a Python process writes; an error if it fails."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    written = done.stdout + done.stderr
    assert done.returncode == 0, written[-10_000:]
    return written


def test_rows_of_generated_tables_are_stored_or_in_quarantine(long):
    examples = 20_000 if long else 500
    start = time.perf_counter()
    run(
        "-m", "pytest", TESTS / "flow" / "test_row_conservation.py",
        ROW_CONSERVATION_EXAMPLES=str(examples),
    )  # fmt: skip
    print(f"\n{examples:,} generated tables: no row lost, {time.perf_counter() - start:.0f} s")


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_is_fuzzed(long, reader):
    pytest.importorskip("atheris", reason="atheris is not installed")
    targets = READERS[reader] if long else READERS[reader][:1]
    stop = f"-max_total_time={SECONDS_A_READER // len(targets)}" if long else "-runs=500"
    contents = 0
    start = time.perf_counter()
    for target in targets:
        written = run(TESTS / "faults" / "fuzz" / "fuzz_readers.py", target, stop)
        assert "FOUND" not in written, written[-10_000:]
        contents += int(re.findall(r"number_of_executed_units: (\d+)", written)[0])
    seconds = time.perf_counter() - start
    print(f"\n{', '.join(targets)}: {contents:,} contents, {seconds:.0f} s, nothing found")
