"""Rows of class probabilities in, their scores and validity out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.functions import AcquisitionFunction, PredictionFormula
from dagster_active_learning.acquisition.kernels import score_class_probs
from dagster_active_learning.acquisition.schemas import KERNEL_ROWS
from dagster_active_learning.acquisition.validity import Validity
from dagster_active_learning.rules import Rules

_Scores = npt.NDArray[np.float64]


def score_matrix(
    class_probs: npt.NDArray[Any],
    functions: Sequence[AcquisitionFunction],
    rules: Rules,
    *,
    tolerance: float | None = None,
) -> tuple[_Scores, npt.NDArray[np.uint8]]:
    """Score rows of class probabilities under some acquisition functions, and judge them.

    Args:
        class_probs: (n_predictions, n_classes), float32 or float64, C-contiguous.
        functions: The acquisition functions.
        rules: How predictions are scored: of independent class probabilities the entropy is the sum
            of the classes' binary entropies.
        tolerance: How far off they may be; without it as far as the rules say.

    Returns:
        Scores (n_functions, n_predictions), NaN where a row is not valid, and the `Validity`
        (n_predictions,).
    """
    tolerance = rules.sum_tolerance if tolerance is None else tolerance
    independent = rules.inputs == "independent"
    wanted = tuple(function.scores for function in functions)
    kernel_scores, validity = score_class_probs(
        class_probs,
        objects="largest" in wanted,
        sum_tolerance=np.inf if independent else tolerance,
        value_tolerance=tolerance,
    )
    names = KERNEL_ROWS[: len(kernel_scores)]
    rows = dict(zip(names, kernel_scores, strict=True))
    if independent and "entropy" in wanted:
        # A value that is legal just outside 0..1 must not make its complement illegal.
        complement = (1 - class_probs).clip(0, 1)
        of_complement, _ = score_class_probs(complement, sum_tolerance=np.inf)
        rows["entropy"] += of_complement[KERNEL_ROWS.index("entropy")]
    if wanted == names:
        # The functions of this package are the kernel's rows as they are: no copy.
        return kernel_scores, validity
    scores = [
        rows[function.scores]
        if isinstance(function.scores, str)
        else _valid_scores(function.name, function.scores, class_probs, validity)
        for function in functions
    ]
    return np.stack(scores), validity


def _valid_scores(
    name: str,
    compute: PredictionFormula,
    class_probs: npt.NDArray[Any],
    validity: npt.NDArray[np.uint8],
) -> _Scores:
    """Scores under a function that is no row of the kernel: of the valid predictions."""
    is_valid = validity == Validity.VALID
    valid = class_probs if is_valid.all() else class_probs[is_valid]
    computed = np.asarray(compute(valid), np.float64)
    if computed.shape != (len(valid),):
        raise ValueError(
            f"the acquisition function {name!r} gives scores of shape {computed.shape}, expected "
            f"{(len(valid),)} for class probabilities of shape {valid.shape}"
        )
    scores = np.full(len(class_probs), np.nan)
    scores[is_valid] = computed
    return scores
