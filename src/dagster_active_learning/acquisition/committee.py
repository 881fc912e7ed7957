"""Committees: several predictions of one image in classification are votes of its members.

A vote is the class probabilities of one member. Members are several models, or passes of one with
dropout or over augmented images. The functions of class probabilities are those of the mean, which
gives every member the same weight (soft voting); how far the members contradict each other is the
mutual information (BALD: Houlsby et al. 2011, arXiv 1112.5745, eq. 1) and the entropy of their
votes (Dagan and Engelson 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.acquisition.schemas import COMMITTEE_ROWS
from dagster_active_learning.limits import rows_for
from dagster_active_learning.rules import Rules

_ENTROPY = ACQUISITION_FUNCTIONS["entropy"]

_ROUNDING = 1e-9
"""How much further off than votes may be rounding carries their mean."""


def total_width(n_classes: int) -> int:
    """The numbers that the votes about an image add up to; `add_votes_by_image` says which."""
    return 2 * n_classes + 1


def score_members(
    class_probs: npt.NDArray[Any], rules: Rules
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """The entropies (1, n_predictions) of members, and the `Validity` (n_predictions,) of each.

    They are computed in float64, whatever the precision of the votes: members may differ by less
    than float32 can tell.

    Args:
        class_probs: (n_predictions, n_classes) float32 or float64, one row per vote.
        rules: How predictions are scored.
    """
    entropies = np.empty((1, len(class_probs)))
    validity = np.empty(len(class_probs), np.uint8)
    step = rows_for(8 * class_probs.shape[1])
    for start in range(0, len(class_probs), step):
        part = slice(start, start + step)
        votes = np.ascontiguousarray(class_probs[part], np.float64)
        entropies[:, part], validity[part] = score_matrix(votes, [_ENTROPY], rules)
    return entropies, validity


def score_committees(
    totals: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    functions: Sequence[AcquisitionFunction],
    rules: Rules,
) -> npt.NDArray[np.float64]:
    """Scores (n_functions, n_images) of the mean of each image's votes, and of their differences.

    Args:
        totals: (n_images, total_width(n_classes)) what each image's votes add up to.
        counts: (n_images,) the number of each image's votes, which are valid, at least 1.
        functions: The acquisition functions.
        rules: How predictions are scored.
    """
    n_classes = totals.shape[1] // 2
    shares = totals / counts[:, None]
    means = np.ascontiguousarray(shares[:, :n_classes])
    # In order, so that votes for other classes have the same bits and are a tie.
    votes = np.sort(shares[:, n_classes:-1], axis=1)
    of_mean = [function for function in functions if function.scores not in COMMITTEE_ROWS]
    tolerance = rules.sum_tolerance + _ROUNDING
    scores, _ = score_matrix(means, [_ENTROPY, *of_mean], rules, tolerance=tolerance)
    (vote_entropy,), _ = score_matrix(votes, [_ENTROPY], rules)
    # Members that agree have no less than 0 to tell; rounding may say so.
    of_members = (np.maximum(scores[0] - shares[:, -1], 0.0), vote_entropy)
    rows = dict(zip(COMMITTEE_ROWS, of_members, strict=True))
    rows_of_mean = iter(scores[1:])
    return np.stack(
        [
            rows[function.scores] if function.scores in COMMITTEE_ROWS else next(rows_of_mean)  # pyright: ignore[reportArgumentType]
            for function in functions
        ]
    )
