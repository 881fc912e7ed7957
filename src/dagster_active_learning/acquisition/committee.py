"""Committees: several predictions of one image in classification are votes; their mean is scored.

A vote is the class probabilities of one member. Members are several models, or passes of one with
dropout or over augmented images. The mean gives every member the same weight (soft voting).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.acquisition.kernels import add_by_image
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules


def add_votes(
    class_probs: npt.NDArray[Any],
    image_index: npt.NDArray[np.int64],
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Add the votes of members to the totals of their images, in place and in the members' order.

    Args:
        class_probs: (n_predictions, n_classes) float32 or float64, one row per vote.
        image_index: (n_predictions,) where the image of each vote stands.
        totals: (n_images, n_classes) the sums of each image's votes so far, updated.
        counts: (n_images,) the number of each image's votes so far, updated.
    """
    step = rows_for(8 * totals.shape[1])
    for start in range(0, len(class_probs), step):
        part = slice(start, start + step)
        votes = np.ascontiguousarray(class_probs[part].T, np.float64)
        add_by_image(votes, image_index[part], totals, counts)


def score_means(
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    functions: Sequence[AcquisitionFunction],
    rules: Rules,
) -> npt.NDArray[np.float64]:
    """Scores (n_functions, n_images) of the mean of each image's votes, which are valid.

    Args:
        totals: (n_images, n_classes) the sums of each image's votes.
        counts: (n_images,) the number of each image's votes, at least 1.
        functions: The acquisition functions.
        rules: How predictions are scored.
    """
    means = totals / counts[:, None]
    # Votes that are as far off as they may be have a mean that rounding carries a bit further.
    scores, _ = score_matrix(means, functions, rules, tolerance=rules.sum_tolerance + 1e-9)
    return scores
