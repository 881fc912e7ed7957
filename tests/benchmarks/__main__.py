"""How fast the package is, as ratios of two things measured in turn; nothing here fails on time.

Run ``python tests/benchmarks``; ``--quick`` only shows that it works.
"""

import argparse
import tempfile
from pathlib import Path

import batch_benchmarks
import equal_benchmarks
import kernel_benchmarks
import peer_benchmarks
import pipeline_benchmarks
import reader_benchmarks
import replay_benchmarks
import scale_benchmarks
import start_benchmarks
from measuring import Settings, machine

GROUPS = {
    "batch": batch_benchmarks.tables,
    "equal": equal_benchmarks.tables,
    "kernels": kernel_benchmarks.tables,
    "peers": peer_benchmarks.tables,
    "pipeline": pipeline_benchmarks.tables,
    "readers": reader_benchmarks.tables,
    "replay": replay_benchmarks.tables,
    "scale": scale_benchmarks.tables,
    "start": start_benchmarks.tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small inputs, one run")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="NAME",
        help=f"groups to run, of {', '.join(GROUPS)}",
    )  # fmt: skip
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="images of the pipeline's largest input"
    )
    parser.add_argument(
        "--folder", type=Path,
        help="where large inputs are kept for the next time; else a temporary folder",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="a Markdown file for the tables")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    runs = 1 if quick else 7
    head = f"# Benchmarks\n\n{machine()}\n\nTimes are medians of {runs} runs unless said otherwise."
    if quick:
        head += " This is the quick form: it shows that everything runs, not how fast it is."
    written = [f"{head}\n"]
    print(written[0], flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(quick, 100_000 if quick else arguments.rows, runs, folder)
        for name in arguments.only:
            for table in GROUPS[name](settings):
                written.append(table.markdown())
                print(written[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(written))


if __name__ == "__main__":
    main()
