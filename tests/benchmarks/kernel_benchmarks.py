"""The kernels beside the least that they could take: reading the matrix once."""

from collections.abc import Callable, Iterable, Iterator

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.batches import adjacent_images, score_predictions
from dagster_active_learning.acquisition.kernels import add_by_image, score_class_probs
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules
from measuring import Settings, Table, in_fresh_process, in_turn, milliseconds, peak_mib

GIB = 2**30
COLUMNS = ("what", "reading once", "batch by batch", "ratio", "in one call", "ratio", "target")
MATRICES = (
    (2, np.float32, 4), (10, np.float32, 2.5), (80, np.float32, 3), (1000, np.float32, 4),
    (10, np.float64, 5),
)  # fmt: skip


@numba.njit(parallel=True, fastmath=True)
def read_once(values):
    """Sum the values with all cores: the time the memory takes."""
    total = values.dtype.type(0)
    for position in numba.prange(values.size):
        total += values[position]
    return total


def matrix(n_rows: int, n_classes: int, dtype: type) -> npt.NDArray:
    """Random class probabilities; a hundredth of the rows is random, the others repeat it."""
    some = max(n_rows // 100, 1)
    weights = np.random.default_rng(0).standard_exponential((some, n_classes), dtype)
    return np.resize(weights / weights.sum(axis=1, keepdims=True), (n_rows, n_classes))


def batches(n_rows: int, n_classes: int) -> Iterator[slice]:
    """The batches in which the scoring asset hands its rows to the kernels."""
    rows = rows_for(n_classes * 8)
    return (slice(start, start + rows) for start in range(0, n_rows, rows))


def tables(settings: Settings) -> Iterator[Table]:
    yield _functions(settings)
    yield _by_image(settings)
    yield _committee(settings)


def _functions(settings: Settings) -> Table:
    rows: list[list[str]] = []
    for n_classes, dtype, target in MATRICES:
        size = np.dtype(dtype).itemsize * n_classes
        n_rows = (GIB // 100 if settings.quick else GIB) // size
        class_probs = matrix(n_rows, n_classes, dtype)

        def batch_by_batch(class_probs: npt.NDArray = class_probs) -> None:
            for batch in batches(*class_probs.shape):
                score_class_probs(class_probs[batch])

        read, batched, at_once = _compiled_in_turn(
            [
                lambda class_probs=class_probs: read_once(class_probs.reshape(-1)),
                batch_by_batch,
                lambda class_probs=class_probs: score_class_probs(class_probs),
            ],
            settings.runs,
        )
        rows.append(
            [
                f"{n_rows:,} x {n_classes} {np.dtype(dtype)}",
                f"{milliseconds(read)}, {class_probs.nbytes / read / 1e9:.1f} GB/s",
                milliseconds(batched), f"{batched / read:.2f}x",
                milliseconds(at_once), f"{at_once / read:.2f}x",
                f"<= {target}x",
            ]
        )  # fmt: skip
    return Table(
        "Kernels: all functions and validity, beside reading the matrix once",
        "`score_class_probs` in batches as the scoring asset calls it, each batch's scores dropped "
        "before the next; and in one call that returns all scores, which have to be written, too "
        "(32 bytes a row). Reading once is a parallel sum.",
        COLUMNS,
        rows,
    )


def _by_image(settings: Settings) -> Table:
    n_objects, n_images = (50_000, 10_000) if settings.quick else (5_000_000, 1_000_000)
    n_classes = 80
    class_probs = matrix(n_objects, n_classes, np.float32)
    random = np.random.default_rng(0)
    even = np.sort(random.integers(0, n_images, n_objects))
    # One image has a fifth of all objects, the others have the fewer the later they come.
    crowded = np.sort((n_images * random.random(n_objects) ** 3).astype(np.int64))
    crowded[: n_objects // 5] = 0
    totals, counts = np.empty((n_images, 5)), np.empty(n_images, np.int64)
    rows: list[list[str]] = []
    for what, image_index in (
        ("5 an image", even),
        (f"a fifth on one image, {np.bincount(crowded)[1:].max():,} on the next", crowded),
        ("5 an image, in random order", random.permutation(even)),
    ):

        def summed(
            parts: Iterable[slice], image_index: npt.NDArray[np.int64] = image_index
        ) -> npt.NDArray[np.float64]:
            totals[:], counts[:] = 0, 0
            for part in parts:
                scores, _ = score_class_probs(class_probs[part], objects=True)
                add_by_image(scores, image_index[part], totals, counts)
            return totals

        def batch_by_batch(summed: Callable[..., npt.NDArray[np.float64]] = summed) -> npt.NDArray:
            return summed(batches(*class_probs.shape))

        def in_one_call(summed: Callable[..., npt.NDArray[np.float64]] = summed) -> npt.NDArray:
            return summed([slice(None)])

        np.testing.assert_array_equal(batch_by_batch().copy(), in_one_call())
        read, batched, at_once = _compiled_in_turn(
            [
                lambda: read_once(class_probs.reshape(-1)),
                batch_by_batch,
                in_one_call,
            ],
            settings.runs,
        )
        rows.append(
            [
                what,
                f"{milliseconds(read)}, {class_probs.nbytes / read / 1e9:.1f} GB/s",
                milliseconds(batched), f"{batched / read:.2f}x",
                milliseconds(at_once), f"{at_once / read:.2f}x",
                "<= 3x",
            ]
        )  # fmt: skip
    return Table(
        f"Kernels: {n_objects:,} objects x {n_classes} classes on {n_images:,} images",
        "`score_class_probs` of objects and `add_by_image` to totals that are there, all five "
        "functions, float32, beside reading the matrix once.",
        COLUMNS,
        rows,
    )


N_MEMBERS = 5


def _committee(settings: Settings) -> Table:
    n_images, runs = (10_000 if settings.quick else 1_000_000), settings.runs
    seconds, peak, difference = in_fresh_process(_streamed_committee, n_images, runs)
    plain, plain_peak, _ = in_fresh_process(_plain_committee, n_images, runs)
    return Table(
        f"Committees: {n_images:,} images x {N_MEMBERS} members x 10 classes, float32",
        "All six functions of a committee, as the scoring asset streams them, beside plain NumPy in "
        "float64 that has all in memory. Each in a process of its own; memory is the peak above "
        "the predictions, the scores that are kept included.",
        ("what", "time", "memory", "largest difference", "target"),
        [
            ["NumPy", milliseconds(plain), f"{plain_peak:,.0f} MiB", "", ""],
            [
                "streamed",
                f"{milliseconds(seconds)}, {seconds / plain:.2f}x",
                f"{peak:,.0f} MiB",
                f"{difference:.1e}",
                "< 1x, < 1e-12",
            ],
        ],
    )


def _streamed_committee(n_images: int, runs: int) -> tuple[float, float, float]:
    """Seconds, MiB, and how far the scores are from those of NumPy."""
    votes = _votes(n_images)
    rules, rows = Rules(committee=True), rows_for(8 * 10)
    ids = pa.array(np.repeat(np.arange(n_images), N_MEMBERS))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(votes.reshape(-1)), 10)
    table = pa.record_batch({"image_id": ids, "class_probs": lists})

    def streamed(table: pa.RecordBatch = table) -> list[pa.RecordBatch]:
        parts = (table.slice(start, rows) for start in range(0, table.num_rows, rows))
        return list(adjacent_images((score_predictions(part, rules) for part in parts), rules))

    streamed(table.slice(0, 100 * N_MEMBERS))  # compiles
    before = peak_mib()
    (seconds,) = in_turn([streamed], runs)
    memory = peak_mib() - before
    scores = pa.Table.from_batches(streamed())
    expected = _plain_scores(votes[:: max(1, n_images // 10_000)])
    difference = max(
        np.abs(scores[name].to_numpy()[:: max(1, n_images // 10_000)] - values).max()
        for name, values in expected.items()
    )
    return seconds, memory, float(difference)


def _plain_committee(n_images: int, runs: int) -> tuple[float, float, float]:
    votes = _votes(n_images)
    before = peak_mib()
    (seconds,) = in_turn([lambda: _plain_scores(votes)], runs)
    return seconds, peak_mib() - before, 0.0


def _votes(n_images: int) -> npt.NDArray[np.float32]:
    """(n_images, n_members, 10) class probabilities."""
    return matrix(n_images * N_MEMBERS, 10, np.float32).reshape(n_images, N_MEMBERS, 10)


def _plain_scores(votes: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
    wide = votes.astype(np.float64)
    mean = wide.mean(axis=1)
    shares = (wide.argmax(axis=2)[:, :, None] == np.arange(10)).mean(axis=1)
    second, first = np.partition(mean, -2, axis=1)[:, -2:].T
    return {
        "entropy": _entropy(mean),
        "least_confidence": 1 - first,
        "margin": first - second,
        "variance": mean.var(axis=1),
        "mutual_information": _entropy(mean) - _entropy(wide).mean(axis=1),
        "vote_entropy": _entropy(shares),
    }


def _entropy(probs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return -(probs * np.log2(np.where(probs > 0, probs, 1))).sum(axis=-1)


def _compiled_in_turn(functions: list[Callable[[], object]], runs: int) -> list[float]:
    in_turn(functions, 1)  # compiles, and brings the pages of the matrix into being
    return in_turn(functions, runs)
