"""Why an image is a candidate, in words a person understands at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from dagster_active_learning.acquisition.functions import AcquisitionFunction
    from dagster_active_learning.rules import Rules


def candidate_reason(
    function: AcquisitionFunction,
    predictions: pl.DataFrame | None,
    *,
    class_names: Sequence[str],
    rules: Rules,
    has_quarantined: bool,
) -> str:
    """Why an image has its score, such as ``3 vs 8: 0.41 / 0.39`` or ``worst of 4 objects: …``.

    Of several predictions it is the one that the function finds the most uncertain.

    Args:
        function: The acquisition function.
        predictions: What the model said about the image: class_probs, score and category of each
            prediction; None if it said nothing.
        class_names: The classes, in the order of the class probabilities.
        rules: How predictions are scored.
        has_quarantined: Whether the image has rows in quarantine.
    """
    if predictions is None:
        if has_quarantined:
            return "all its rows are in quarantine"
        return "no objects" if rules.objects else "no predictions"
    row: dict[str, Any] = predictions.row(_worst(function, predictions, rules), named=True)
    if function.level == "object":
        words = _score_words(row, class_names)
    elif row["class_probs"] is not None:
        words = _class_words(function, row["class_probs"], class_names, rules)
    else:
        words = _binary_words(row)
    if predictions.height > 1:
        of_what = "objects" if rules.objects else "predictions"
        return f"worst of {predictions.height:,} {of_what}: {words}"
    return f"only object: {words}" if rules.objects else words


def _worst(function: AcquisitionFunction, predictions: pl.DataFrame, rules: Rules) -> int:
    """Which prediction is the most uncertain."""
    if predictions.height == 1:
        return 0
    scores = _scores(predictions, rules)[list(ACQUISITION_FUNCTIONS).index(function.name)]
    return int(np.argmin(scores if function.label_first == "lowest" else -scores))


def _scores(predictions: pl.DataFrame, rules: Rules) -> npt.NDArray[np.float64]:
    """The scores of each prediction, in the order of ``ACQUISITION_FUNCTIONS``."""
    from dagster_active_learning.acquisition.scoring import (
        class_prob_matrix,
        object_scores,
        prediction_scores,
    )

    independent = rules.inputs == "independent"
    class_probs = predictions["class_probs"]
    matrix = class_prob_matrix(class_probs.drop_nulls())
    if not rules.objects:
        return prediction_scores(matrix, objects=False, independent=independent)
    return object_scores(
        matrix,
        class_probs.is_not_null().to_numpy(),
        predictions["score"].to_numpy().astype(np.float64),
        independent=independent,
        binary=rules.score_only == "binary",
    )


def _score_words(row: dict[str, Any], class_names: Sequence[str]) -> str:
    class_probs, score, category = row["class_probs"], row["score"], row["category"]
    if score is None:
        score = max(class_probs)
    if category is None and class_probs is not None:
        category = class_names[class_probs.index(max(class_probs))]
    return f"{score:.2f}" if category is None else f"{category} {score:.2f}"


def _class_words(
    function: AcquisitionFunction,
    class_probs: Sequence[float],
    class_names: Sequence[str],
    rules: Rules,
) -> str:
    if rules.inputs == "independent" and function.name == "entropy":
        # Each class is a question of its own, and undecided at one half.
        order = sorted(range(len(class_probs)), key=lambda place: abs(class_probs[place] - 0.5))
        nearest = [(class_names[place], class_probs[place]) for place in order[:2]]
        return "undecided: " + ", ".join(f"{name} {value:.2f}" for name, value in nearest)
    order = sorted(range(len(class_probs)), key=lambda place: -class_probs[place])
    likeliest = [(class_names[place], class_probs[place]) for place in order]
    if function.name == "least_confidence":
        name, value = likeliest[0]
        return f"no class above {value:.2f} ({name})"
    return _names_and_numbers(likeliest[: 2 if function.name == "margin" else 3])


def _binary_words(row: dict[str, Any]) -> str:
    name = "object" if row["category"] is None else row["category"]
    return _names_and_numbers([(name, row["score"]), (f"not {name}", 1 - row["score"])])


def _names_and_numbers(classes: Sequence[tuple[str, float]]) -> str:
    names = " vs ".join(name for name, _ in classes)
    return f"{names}: " + " / ".join(f"{value:.2f}" for _, value in classes)
