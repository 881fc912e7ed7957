"""The one table of acquisition functions: the meaning, computation and words of each.

Columns, statistics, expressions and texts are made from it wherever they are needed, so that a
function is added here alone, also from outside. This module imports nothing heavy: asset
definitions are built from it without Numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, overload

from dagster_active_learning.rules import Rules, score_origin

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Phrase = Literal[
    "two_classes", "three_classes", "undecided_classes", "no_class_above", "object_score", "votes"
]

PredictionFormula: TypeAlias = "Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]"
"""Class probabilities (n_predictions, n_classes), float32 or float64, to (n_predictions,) scores.

A prediction's score depends on its own row alone.
"""


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
            the aggregation that a pool declares.
        independent_formula: The same for independent class probabilities, where it differs.
        description: The score of one prediction in a line: formula, unit, bounds and direction.
        column_comment: The comment on the column of image scores.
        unit: The unit of the score.
        bounds: Lowest and highest possible score of a prediction, for a number of classes and for
            ``"probabilities"`` that exclude each other or ``"independent"`` ones.
        label_first: Which end of the scale is labeled first.
        level: ``"image"`` if the function applies to every task, ``"object"`` if only to tasks
            whose predictions are objects in an image (detection, segmentation); a score that the
            detector gives an object is then its score. ``"committee"`` if only to predictions of
            an image that are votes of several members.
        scores: The computation: the name of a row of the fused kernel (``KERNEL_ROWS``), whose one
            pass all functions share, or a function of the class probabilities. Of a committee the
            name of a row of ``COMMITTEE_ROWS``.
        members_bound_it: Whether M members can reach no more than M classes can, so that the
            uncertainty is on the scale of min(M, K) classes.
        phrase: The kind of words that say why an image is a candidate.
        independent_phrase: The same for independent class probabilities, where it differs.

    Example:
        >>> ACQUISITION_FUNCTIONS["doubt"] = AcquisitionFunction(
        ...     name="doubt",
        ...     title="Doubt",
        ...     formula="1 - p(1)²",
        ...     description="1 - p(1)²: 0 to 1 - 1/K², high is uncertain.",
        ...     column_comment="1 - p(1)², of a prediction 0 to 1 - 1/K²; high is uncertain",
        ...     unit="probability²",
        ...     bounds=lambda n_classes, inputs="probabilities": (0.0, 1 - n_classes**-2),
        ...     label_first="highest",
        ...     level="image",
        ...     scores=lambda class_probs: 1 - class_probs.max(axis=1).astype("f8") ** 2,
        ... )
        >>> score_images(np.array([[0.5, 0.5], [1.0, 0.0]]))["doubt"].to_list()
        [0.75, 0.0]
    """

    name: str
    title: str
    formula: str
    independent_formula: str | None = None
    description: str
    column_comment: str
    unit: str
    bounds: Bounds
    label_first: Literal["highest", "lowest"]
    level: Literal["image", "object", "committee"]
    scores: str | PredictionFormula
    members_bound_it: bool = False
    phrase: Phrase = "three_classes"
    independent_phrase: Phrase | None = None

    def formula_of(self, inputs: str) -> str:
        """The formula for a kind of inputs, as ``bounds`` takes it."""
        return (inputs == "independent" and self.independent_formula) or self.formula

    def whole_formula(self, inputs: str, aggregation: str, *, committee: bool) -> str:
        """The formula, and how an image's score follows from its predictions, in words."""
        formula = self.formula_of(inputs)
        if self.level == "committee":  # Its formula is one of all members.
            return formula
        return f"{formula}, {score_origin(aggregation, committee=committee)}"

    def phrase_of(self, inputs: str) -> Phrase:
        """The kind of words for a kind of inputs."""
        return (inputs == "independent" and self.independent_phrase) or self.phrase

    def applies_to(self, rules: Rules) -> bool:
        """Tell whether predictions of a task have a score."""
        applies = {"image": True, "object": rules.objects, "committee": rules.committee}
        return applies[self.level]

    def can_rank(self, rules: Rules, *, has_class_probs: bool) -> bool:
        """Tell whether images can have a score, with class probabilities or without."""
        return has_class_probs or self.level == "object" or rules.score_only == "binary"

    def label_first_under(self, aggregation: str | None) -> Literal["highest", "lowest"]:
        """The end of the images' scores that is labeled first: a sum is one of uncertainties."""
        return "highest" if aggregation == "sum" else self.label_first

    def unit_under(self, aggregation: str | None) -> str:
        """The unit of the images' scores."""
        return "sum of uncertainties" if aggregation == "sum" else self.unit

    def image_uncertainty(
        self, score: npt.NDArray[np.float64], n_classes: int, rules: Rules, *, n_members: int = 1
    ) -> npt.NDArray[np.float64]:
        """The scores of images on the scale 0..1; NaN stays NaN.

        A sum of uncertainties is cut at 1, which one prediction can reach alone.

        Args:
            score: (n_images,) what the aggregation makes of the scores of predictions.
            n_classes: The number of classes.
            rules: How images are scored.
            n_members: Of a committee the number of its members.
        """
        import numpy as np

        if self.members_bound_it and rules.inputs != "independent":
            # One member cannot contradict itself: its scores are 0 on any scale.
            n_classes = max(2, min(n_members, n_classes))
        if rules.aggregation == "sum":
            return np.clip(score, 0.0, 1.0)
        return self.uncertainty(score, n_classes, rules.inputs)

    @overload
    def uncertainty(self, score: float, n_classes: int, inputs: str = ...) -> float: ...

    @overload
    def uncertainty(
        self, score: npt.NDArray[np.float64], n_classes: int, inputs: str = ...
    ) -> npt.NDArray[np.float64]: ...

    def uncertainty(
        self,
        score: float | npt.NDArray[np.float64],
        n_classes: int,
        inputs: str = "probabilities",
    ) -> float | npt.NDArray[np.float64]:
        """The score on the scale 0..1, where 1 is the most uncertain; NaN stays NaN.

        Rounding and the tolerance for class probabilities can carry a score over its bounds by
        about 1e-3; the uncertainty stays inside 0..1.

        Args:
            score: One score or an array of them.
            n_classes: The number of classes.
            inputs: The kind of inputs, as ``bounds`` takes it.
        """
        import numpy as np

        lowest, highest = self.bounds(n_classes, inputs)
        share = np.clip((score - lowest) / (highest - lowest), 0.0, 1.0)
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
    "entropy": AcquisitionFunction(
        name="entropy",
        title="Entropy",
        formula="-Σ p·log2 p",
        independent_formula="-Σ (p·log2 p + (1-p)·log2(1-p))",
        description="-Σ p·log2 p, in bits: 0 to log2 K, high is uncertain.",
        column_comment=(
            "Entropy in bits, of a prediction 0 to log2 K, where the classes are independent to K; "
            "high is uncertain"
        ),
        unit="bits",
        bounds=_entropy_bounds,
        label_first="highest",
        level="image",
        scores="entropy",
        independent_phrase="undecided_classes",
    ),
    "least_confidence": AcquisitionFunction(
        name="least_confidence",
        title="Least confidence",
        formula="1 - p(1)",
        description=(
            "1 - p(1), of the largest class probability p(1): 0 to 1 - 1/K, high is uncertain."
        ),
        column_comment=(
            "1 - p(1), of a prediction 0 to 1 - 1/K, where the classes are independent to 1; "
            "high is uncertain"
        ),
        unit="probability",
        bounds=_least_confidence_bounds,
        label_first="highest",
        level="image",
        scores="least_confidence",
        phrase="no_class_above",
    ),
    "margin": AcquisitionFunction(
        name="margin",
        title="Margin",
        formula="p(1) - p(2)",
        description=(
            "p(1) - p(2), of the two largest class probabilities: 0 to 1, low is uncertain."
        ),
        column_comment="p(1) - p(2), of a prediction 0 to 1; low is uncertain",
        unit="probability",
        bounds=_zero_to_one,
        label_first="lowest",
        level="image",
        scores="margin",
        phrase="two_classes",
    ),
    "variance": AcquisitionFunction(
        name="variance",
        title="Variance",
        formula="Σ (p - mean p)² / K",
        description="Population variance over the K classes: 0 to (K-1)/K², low is uncertain.",
        column_comment=(
            "Population variance of the class probabilities, of a prediction 0 to (K-1)/K², where "
            "the classes are independent to 1/4; low is uncertain"
        ),
        unit="probability²",
        bounds=_variance_bounds,
        label_first="lowest",
        level="image",
        scores="variance",
    ),
    "mean_object_score": AcquisitionFunction(
        name="mean_object_score",
        title="Mean object score",
        formula="the detector's score or p(1), 0 for an image without objects",
        description="The detector's score or p(1), of an object: 0 to 1, low is uncertain.",
        column_comment=(
            "The detector's score or p(1), of an object 0 to 1; 0 without objects, null for "
            "classification; low is uncertain"
        ),
        unit="probability",
        bounds=_zero_to_one,
        label_first="lowest",
        level="object",
        scores="largest",
        phrase="object_score",
    ),
    "mutual_information": AcquisitionFunction(
        name="mutual_information",
        title="Mutual information",
        formula="H(mean p) - mean H(p) over the members, H(p) = -Σ p·log2 p",
        independent_formula=(
            "H(mean p) - mean H(p) over the members, H(p) = -Σ (p·log2 p + (1-p)·log2(1-p))"
        ),
        description=(
            "BALD: entropy of the committee's mean minus the mean of its members' entropies, in "
            "bits: 0 to log2 min(M, K) for M members, high is uncertain."
        ),
        column_comment=(
            "Mutual information (BALD) in bits: entropy of a committee's mean minus the mean of "
            "its M members' entropies, 0 to log2 min(M, K), where the classes are independent to "
            "K; null without a committee; high is uncertain"
        ),
        unit="bits",
        bounds=_entropy_bounds,
        label_first="highest",
        level="committee",
        scores="mutual_information",
        members_bound_it=True,
        phrase="votes",
    ),
    "vote_entropy": AcquisitionFunction(
        name="vote_entropy",
        title="Vote entropy",
        formula="-Σ v·log2 v, v the share of the members whose largest p is the class's",
        independent_formula=(
            "-Σ (v·log2 v + (1-v)·log2(1-v)), v the share of the members with p > 0.5"
        ),
        description=(
            "Entropy of the classes that a committee's M members vote for, in bits: 0 to "
            "log2 min(M, K), high is uncertain."
        ),
        column_comment=(
            "Entropy in bits of the votes of a committee's M members, 0 to log2 min(M, K), where "
            "the classes are independent to K; null without a committee; high is uncertain"
        ),
        unit="bits",
        bounds=_entropy_bounds,
        label_first="highest",
        level="committee",
        scores="vote_entropy",
        members_bound_it=True,
        phrase="votes",
    ),
}
"""The acquisition functions by name, in the order of the columns of ``image_scores``.

It can be added to, and is read whenever something is made from it.
"""

PACKAGE_FUNCTIONS = dict(ACQUISITION_FUNCTIONS)
"""Those of this package, which every process has; others are where they were added."""


def row_functions() -> dict[str, AcquisitionFunction]:
    """The functions of one row of class probabilities, which a query engine can compute, by name.

    The mean object score is about the objects of an image, and has nothing to compute in a row: it
    is the detector's score, or the largest value.
    """
    return {
        name: function
        for name, function in ACQUISITION_FUNCTIONS.items()
        if function.level == "image"
    }
