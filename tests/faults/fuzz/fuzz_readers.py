"""Coverage-guided fuzzing of the readers, with atheris.

    python tests/faults/fuzz/fuzz_readers.py TARGET -max_total_time=60  # and libFuzzer's other options

runs one target of ``targets.py`` and keeps what it finds in ``corpus/TARGET``, one content for each
kind of error and place; ``test_hostile_corpus.py`` replays them. ``test_generated_input.py`` runs all
targets. A content that is read for longer than 5 seconds, takes more than 1.5 GB or ends the process
is kept there by libFuzzer itself. Python code of the readers and of what they read with guides the
fuzzer; compiled code does not.
"""

import ctypes
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[2]))
GUIDES = ["dagster_active_learning.readers", "csv", "gzip", "json", "numpy.lib", "zipfile"]
with atheris.instrument_imports(include=GUIDES):
    for guide in GUIDES:
        importlib.import_module(guide)
    from dagster_active_learning.readers.formats import FORMATS
    from faults.fuzz.targets import TARGETS, check

    for name in FORMATS:
        importlib.import_module(f"dagster_active_learning.readers.formats.{name}")
    importlib.import_module("dagster_active_learning.readers.manifest")

CORPUS = Path(__file__).parent / "corpus"
DICTIONARY = (
    '"{" "}" "[" "]" "," ":" "null" "true" "NaN" "Infinity" "1e999" "-1" "1.0" "\\"" "\\\\ud800" '
    '"\\x00" "\\xff" "\\xef\\xbb\\xbf" "\\xe2\\x80\\xae" "\\x0d\\x0a" "image_id" "class_probs" '
    '"images" "id" "99999999999999999999999999" "1_000" "inf"'
)


def main() -> None:
    """Fuzz the target that the command line names until libFuzzer's options say to stop."""
    target_name = sys.argv[1]
    target = TARGETS[target_name]
    found = CORPUS / target_name
    found.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f"fuzz-{target_name}-"))
    # What is registered last is called first: Arrow's pools of threads have to be there before.
    pa.cpu_count()
    pa.io_thread_count()
    end = _end(workspace)
    ctypes.CDLL(None).on_exit(end, None)
    seeds = workspace / "seeds"
    seeds.mkdir()
    for number, seed in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(seed)
    words = workspace / "dictionary"
    words.write_text("\n".join(DICTIONARY.split()) + "\n")
    folder = workspace / "folder"
    folder.mkdir()
    known: set[str] = set()

    def run(content: bytes) -> None:
        try:
            check(target, content, folder)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}"
            if place not in known:
                known.add(place)
                (found / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
                print(f"FOUND {target_name}: {place}: {error}\n  {content[:300]!r}", flush=True)

    options = [
        "-timeout=5",
        "-rss_limit_mb=1500",
        "-max_len=8192",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/",
        f"-dict={words}",
    ]
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(seeds)], run)
    atheris.Fuzz()


def _end(workspace: Path) -> object:
    """What libFuzzer's exit calls; it would wait for threads of Arrow, and they for Python."""

    @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)
    def end(status: int, _: int | None) -> None:
        shutil.rmtree(workspace, ignore_errors=True)
        os._exit(status)

    return end


if __name__ == "__main__":
    main()
