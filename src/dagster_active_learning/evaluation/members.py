"""Members of a committee: whether it is better without one of them.

A weak member spoils the others: it takes the mean to wrong classes, and it makes images uncertain
that the others are sure of, and right about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dagster_active_learning.evaluation.comparison import (
    Comparison,
    Statistic,
    area_under_roc,
    compare,
    comparison_in_words,
)
from dagster_active_learning.evaluation.finding_errors import Floats, Ranked

_WHOLE = "the whole committee"


@dataclass(frozen=True)
class WithoutMember:
    """The images as the committee sees them without one of its members.

    Attributes:
        errors: (n_images,) true or 1 where the mean of the others is wrong.
        uncertainty: (n_images,) of the mean of the others, highest first.
    """

    errors: npt.ArrayLike
    uncertainty: npt.ArrayLike


@dataclass(frozen=True, kw_only=True)
class MemberEffect:
    """A committee without one of its members, beside the whole one.

    Attributes:
        error_rate: The share of images that the others get wrong.
        auroc: The area under the ROC curve with which the uncertainty of the others finds the
            errors of the whole committee.
    """

    error_rate: Comparison
    auroc: Comparison

    @property
    def is_weak(self) -> bool:
        """True where one of the two is better without the member, and neither is worse.

        As far as the intervals can tell: those of the differences, which exclude 0.
        """
        is_better = self.error_rate.is_worse or self.auroc.is_better
        return is_better and not (self.error_rate.is_better or self.auroc.is_worse)


def compare_without_members(
    errors: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    without: Mapping[str, WithoutMember],
    *,
    weights: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, MemberEffect]:
    """Compare a committee with what is left of it without each of its members.

    Args:
        errors: (n_images,) true or 1 where the mean of all members is wrong.
        uncertainty: (n_images,) of the mean of all members, highest first.
        without: The same without a member, by the member's name.
        weights: (n_images,) 1/probability of the label; all 1 without them.
        resamples: How often images are drawn again, the same ones for all (a paired bootstrap).
        seed: Makes the draws.

    Raises:
        ValueError: If shapes differ, or there are images of one kind only.

    Example:
        >>> errors = [1, 1, 0, 0] * 20            # of all members
        >>> others = WithoutMember(errors=[1, 0, 0, 0] * 20, uncertainty=[9, 8, 2, 1] * 20)
        >>> effects = compare_without_members(errors, [9, 3, 5, 1] * 20, {"lenet5": others})
        >>> effects["lenet5"].error_rate.value, effects["lenet5"].is_weak
        (0.25, True)
    """
    wrong = np.asarray(errors, np.float64)
    whole = WithoutMember(wrong, uncertainty)
    all_of_them = {_WHOLE: whole, **without}

    def compared(statistics: Mapping[str, Statistic]) -> dict[str, Comparison]:
        return compare(
            statistics, wrong.size, against=_WHOLE, weights=weights, resamples=resamples, seed=seed
        )

    rates = compared({name: _error_rate(each.errors) for name, each in all_of_them.items()})
    areas = compared(
        {
            name: area_under_roc(Ranked(each.uncertainty), wrong)
            for name, each in all_of_them.items()
        }
    )
    return {name: MemberEffect(error_rate=rates[name], auroc=areas[name]) for name in without}


def weak_members(effects: Mapping[str, MemberEffect], *, image_count: int) -> str:
    """What follows for a committee, in one sentence.

    Args:
        effects: As ``compare_without_members`` returns them.
        image_count: The number of labeled images, for the sentence.

    Example:
        >>> errors = [1, 1, 0, 0] * 20
        >>> others = WithoutMember(errors=[1, 0, 0, 0] * 20, uncertainty=[9, 8, 2, 1] * 20)
        >>> effects = compare_without_members(errors, [9, 3, 5, 1] * 20, {"lenet5": others})
        >>> print(weak_members(effects, image_count=80))
        the committee is better without lenet5 (error rate -0.2500, 95 % interval ...); 80 labels
    """
    of = f"{image_count:,} labels"
    weak = {name: effect for name, effect in effects.items() if effect.is_weak}
    if not weak:
        return f"no member found without which the committee is better ({of})"
    named = [
        f"without {name} (error rate {comparison_in_words(effect.error_rate)}; AUROC of margin "
        f"{comparison_in_words(effect.auroc)})"
        for name, effect in sorted(weak.items(), key=lambda item: item[1].error_rate.difference)
    ]
    return f"the committee is better {', and '.join(named)}; {of}"


def _error_rate(errors: npt.ArrayLike) -> Statistic:
    wrong = np.asarray(errors, np.float64)

    def rate(weights: Floats) -> Floats:
        return weights @ wrong / weights.sum(axis=-1)

    return rate
