"""The five acquisition functions, as data: what each one means, its bounds and its direction.

The numbers themselves are computed in ``kernels``; this module imports nothing heavy, so that
asset definitions can be built from it without loading Numba.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol


class Bounds(Protocol):
    """Lowest and highest score for a number of classes and a kind of inputs."""

    def __call__(self, n_classes: int, inputs: str = "probabilities") -> tuple[float, float]: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class AcquisitionFunction:
    """A rule that turns an image's predictions into one score.

    Attributes:
        name: The name in tables, asset keys and arguments.
        title: The name a person reads.
        formula: The score of one prediction with class probabilities p(1) >= p(2) >= … over K
            classes that exclude each other. An image's score is the mean over its predictions, or
            another aggregation where a pool declares one.
        independent_formula: The same for independent class probabilities, where it is another one.
        unit: The unit of the score.
        bounds: Lowest and highest possible score of a prediction, for a number of classes and for
            ``"probabilities"`` that exclude each other or ``"independent"`` ones.
        label_first: Which end of the scale is labeled first.
        level: ``"image"`` if the function applies to every task, ``"object"`` if only to tasks
            whose predictions are objects in an image (detection, segmentation).
        column_comment: The comment of its column in ``image_scores``.
    """

    name: str
    title: str
    formula: str
    independent_formula: str | None = None
    unit: str
    bounds: Bounds
    label_first: Literal["highest", "lowest"]
    level: Literal["image", "object"]
    column_comment: str

    def formula_of(self, inputs: str) -> str:
        """The formula for a kind of inputs, as ``bounds`` takes it."""
        return (inputs == "independent" and self.independent_formula) or self.formula

    def uncertainty(self, score: float, n_classes: int, inputs: str = "probabilities") -> float:
        """The score on the scale 0..1, where 1 is the most uncertain.

        Rounding and the tolerance for class probabilities can carry a score over its bounds by
        about 1e-3, and a sum over predictions goes far beyond; the uncertainty stays inside 0..1.
        """
        lowest, highest = self.bounds(n_classes, inputs)
        share = min(max((score - lowest) / (highest - lowest), 0.0), 1.0)
        return share if self.label_first == "highest" else 1.0 - share


def _entropy_bounds(n_classes: int, inputs: str = "probabilities") -> tuple[float, float]:
    return (0.0, float(n_classes) if inputs == "independent" else math.log2(n_classes))


def _least_confidence_bounds(n_classes: int, inputs: str = "probabilities") -> tuple[float, float]:
    return (0.0, 1.0 if inputs == "independent" else 1.0 - 1.0 / n_classes)


def _variance_bounds(n_classes: int, inputs: str = "probabilities") -> tuple[float, float]:
    # Independent probabilities vary most if half of them are 0 and half are 1.
    half = n_classes // 2
    most = half * (n_classes - half) if inputs == "independent" else n_classes - 1
    return (0.0, most / n_classes**2)


def _zero_to_one(n_classes: int, inputs: str = "probabilities") -> tuple[float, float]:  # noqa: ARG001
    return (0.0, 1.0)


ACQUISITION_FUNCTIONS: dict[str, AcquisitionFunction] = {
    function.name: function
    for function in (
        AcquisitionFunction(
            name="entropy",
            title="Entropy",
            formula="-Σ p·log2 p",
            independent_formula="-Σ (p·log2 p + (1-p)·log2(1-p))",
            unit="bits",
            bounds=_entropy_bounds,
            label_first="highest",
            level="image",
            column_comment=(
                "Entropy in bits, of a prediction 0 to log2 K, where the classes are "
                "independent to K; high is uncertain"
            ),
        ),
        AcquisitionFunction(
            name="least_confidence",
            title="Least confidence",
            formula="1 - p(1)",
            unit="probability",
            bounds=_least_confidence_bounds,
            label_first="highest",
            level="image",
            column_comment=(
                "1 - p(1), of a prediction 0 to 1 - 1/K, where the classes are "
                "independent to 1; high is uncertain"
            ),
        ),
        AcquisitionFunction(
            name="margin",
            title="Margin",
            formula="p(1) - p(2)",
            unit="probability",
            bounds=_zero_to_one,
            label_first="lowest",
            level="image",
            column_comment="p(1) - p(2), of a prediction 0 to 1; low is uncertain",
        ),
        AcquisitionFunction(
            name="variance",
            title="Variance",
            formula="Σ (p - mean p)² / K",
            unit="probability²",
            bounds=_variance_bounds,
            label_first="lowest",
            level="image",
            column_comment=(
                "Population variance of the class probabilities, of a prediction 0 to "
                "(K-1)/K², where the classes are independent to 1/4; low is uncertain"
            ),
        ),
        AcquisitionFunction(
            name="mean_object_score",
            title="Mean object score",
            formula="the detector's score or p(1), 0 for an image without objects",
            unit="probability",
            bounds=_zero_to_one,
            label_first="lowest",
            level="object",
            column_comment=(
                "The detector's score or p(1), of an object 0 to 1; 0 without objects, "
                "null for classification; low is uncertain"
            ),
        ),
    )
}
"""The acquisition functions by name, in the order of the columns of ``image_scores``."""
