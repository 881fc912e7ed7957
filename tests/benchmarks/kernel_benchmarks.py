"""The kernels beside the least that they could take: reading the matrix once."""

from collections.abc import Callable, Iterable, Iterator

import numba
import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.kernels import add_by_image, score_class_probs
from dagster_active_learning.limits import rows_for
from measuring import Settings, Table, in_turn, milliseconds

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


def _compiled_in_turn(functions: list[Callable[[], object]], runs: int) -> list[float]:
    in_turn(functions, 1)  # compiles, and brings the pages of the matrix into being
    return in_turn(functions, runs)
