"""How fast the largest files of objects are read, and that memory does not hold them."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from dagster_active_learning import read_predictions
from measuring import Settings, Table, in_fresh_process, peak_mib


def tables(settings: Settings) -> Iterator[Table]:
    path = write_coco_results(settings.folder, 200_000 if settings.quick else 19_000_000)
    rows, seconds, before, after = in_fresh_process(read, path)
    yield Table(
        f"Readers: COCO results of {path.stat().st_size / 1e9:.2f} GB",
        "From the file to Arrow batches, in a fresh process, one run. Target: under 1 GB of memory.",
        ("detections", "seconds", "detections a second", "MB/s", "memory before", "peak memory"),
        [
            [
                f"{rows:,}", f"{seconds:.1f}", f"{rows / seconds:,.0f}",
                f"{path.stat().st_size / seconds / 1e6:,.1f}", f"{before:,.0f} MiB",
                f"{after:,.0f} MiB",
            ]
        ],
    )  # fmt: skip


def write_coco_results(folder: Path, n_detections: int) -> Path:
    """A JSON array of boxes, ten an image, made once in the folder."""
    path = folder / f"{n_detections}_detections.json"
    if path.exists():
        return path
    incomplete = path.with_suffix(".incomplete")
    with incomplete.open("w") as file:
        for number in range(n_detections):
            file.write(
                f'{"," if number else "["}{{"image_id": {number // 10}, "category_id": '
                f'{number % 90}, "bbox": [{number % 600}.25, 7.5, 100.125, 50.5], '
                f'"score": 0.{number:012d}}}'
            )
        file.write("]")
    incomplete.rename(path)
    return path


def read(path: Path) -> tuple[int, float, float, float]:
    """Rows and seconds of reading a file, and this process's peak memory before and after."""
    read_predictions(path, format="coco")  # imports what it needs
    before, start = peak_mib(), perf_counter()
    rows = sum(batch.num_rows for batch in read_predictions(path, format="coco"))
    return rows, perf_counter() - start, before, peak_mib()
