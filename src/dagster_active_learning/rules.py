"""Declarations about a model's predictions, and checks of settings: the flow guesses none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from dagster_active_learning.errors import SettingError
from dagster_active_learning.limits import PROBABILITY_TOLERANCE
from dagster_active_learning.text import did_you_mean

Task = Literal["classification", "detection", "segmentation"]
Inputs = Literal["probabilities", "logits", "independent"]
Aggregation = Literal["mean", "max", "min", "sum"]
ScoreOnly = Literal["binary"]
ImagesWithoutPredictions = Literal["last", "first", "exclude"]

READING_RULES = ("task", "inputs", "sum_tolerance", "in_manifest")
"""The rules under which predictions are read."""

SCORING_RULES = (
    "task",
    "inputs",
    "aggregation",
    "score_only",
    "sum_tolerance",
    "committee",
    "in_manifest",
)
"""The rules under which scores are made."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Declarations of how predictions are read, scored and ranked.

    Attributes:
        task: ``"classification"``: a prediction is about a whole image. ``"detection"`` and
            ``"segmentation"``: about one object in it.
        inputs: What ``class_probs`` are in the source. ``"probabilities"`` of classes that exclude
            each other, ``"logits"``, of which the softmax is taken, or ``"independent"``
            probabilities of a sigmoid for each class, whose sum is free and whose entropy is the
            sum of the classes' binary entropies.
        aggregation: What an image's score is of the scores of its predictions. ``"sum"`` adds
            their uncertainties, 0..1 each, and is labeled highest first under every function.
        score_only: ``"binary"`` declares that the score s of an object without class
            probabilities is the probability of two classes, [s, 1-s]. Without it the functions of
            class probabilities are null for such objects.
        images_without_predictions: Where images without predictions rank. By default last, but
            under the mean object score where their score of 0 puts them: first.
        sum_tolerance: How far from 1 the sum of class probabilities may be, and how far outside
            0..1 a class probability or a detector's score: more than 1e-3 where low precision has
            rounded them. Nothing is renormalised.
        committee: Whether several predictions of one image are votes, of several models or of
            one: then the mean of their class probabilities is scored. Only in classification.
        in_manifest: Whether only images of the pool's manifest count.

    Raises:
        SettingError: If a rule has a value that it cannot have.
    """

    task: Task = "classification"
    inputs: Inputs = "probabilities"
    aggregation: Aggregation = "mean"
    score_only: ScoreOnly | None = None
    images_without_predictions: ImagesWithoutPredictions | None = None
    sum_tolerance: float = PROBABILITY_TOLERANCE
    committee: bool = False
    in_manifest: bool = False

    def __post_init__(self) -> None:
        choices = {
            "task": get_args(Task),
            "inputs": get_args(Inputs),
            "aggregation": get_args(Aggregation),
            "score_only": (*get_args(ScoreOnly), None),
            "images_without_predictions": (*get_args(ImagesWithoutPredictions), None),
        }
        for name, possible in choices.items():
            value = getattr(self, name)
            if value not in possible:
                listed = ", ".join(map(repr, possible))
                meant = did_you_mean(value, possible)
                raise SettingError(name, f"{name} is {value!r}, expected one of {listed}{meant}")
        tolerance = self.sum_tolerance
        if isinstance(tolerance, bool) or not (  # a number that is no number is not between either
            isinstance(tolerance, (int, float)) and 0 < tolerance <= 0.5  # pyright: ignore[reportUnnecessaryIsInstance]
        ):
            raise SettingError(
                "sum_tolerance",
                f"sum_tolerance is {tolerance!r}, expected a number above 0 and at most 0.5",
            )
        check_flag("committee", self.committee)
        if self.committee and (self.objects or self.aggregation != "mean"):
            other = ("task", self.task) if self.objects else ("aggregation", self.aggregation)
            raise SettingError(
                "committee",
                f"committee is True, but {other[0]} is {other[1]!r}: the votes of a committee are "
                "about whole images, and their mean is scored; leave one of the two out",
            )

    @property
    def objects(self) -> bool:
        """True if a prediction is one object in an image."""
        return self.task != "classification"


def score_origin(aggregation: str, *, committee: bool) -> str:
    """The way from predictions to the score of their image, in words."""
    if committee:
        return "of the mean of the class probabilities that the image's predictions have"
    if aggregation == "sum":
        return "sum of the uncertainties of the image's predictions"
    return f"{aggregation} over the image's predictions"


def check_flag(name: str, flag: bool) -> None:
    """Raise SettingError unless the setting is true or false: any text would count as true."""
    if not isinstance(flag, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            name,
            f"{name} is {flag!r}, expected true or false and no text; a template may compare, as "
            "in {{ env.NAME == 'yes' }}",
        )


NO_LIMIT = 2**63 - 1
"""The limit of a ranking of all images."""


def check_limit(limit: int | None) -> None:
    """Raise SettingError unless a ranking can have at most ``limit`` images; None is all."""
    if limit is not None and (not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError("limit", f"limit is {limit!r}, expected an integer of at least 1")


def check_seed(seed: int) -> None:
    """Raise SettingError unless ``seed`` can be the seed of the order of equal scores."""
    if not isinstance(seed, int) or not -(2**63) <= seed < 2**63:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError("seed", f"seed is {seed!r}, expected an integer of 64 bits")


def check_share(name: str, share: float) -> None:
    """Raise SettingError unless the setting is a share, from 0 to 1."""
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(name, f"{name} is {share!r}, expected a share from 0 to 1")


def check_lock_timeout(seconds: float) -> None:
    """Raise SettingError unless a step can wait that long for the database."""
    if not isinstance(seconds, (int, float)) or not seconds >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            "lock_timeout_seconds",
            f"lock_timeout_seconds is {seconds!r}, expected a number of at least 0",
        )
