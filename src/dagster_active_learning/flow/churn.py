"""Two prediction sets -> what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.evaluation import Churn, model_churn
from dagster_active_learning.store import class_changes, prediction_sets
from dagster_active_learning.store.image_scores import score_statistics
from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True, kw_only=True)
class FunctionChange:
    """The change of one acquisition function from a set to another.

    Attributes:
        name: The function.
        mean_before: The mean score of the images of the set before, None without any.
        mean_after: That of the set after.
        common_candidates: Candidates that both rankings have.
        candidates: Candidates of the ranking after.
    """

    name: str
    mean_before: float | None
    mean_after: float | None
    common_candidates: int
    candidates: int


@dataclass(frozen=True, kw_only=True)
class ChurnReport:
    """What changed from one prediction set to another.

    Attributes:
        before: Name of the set that is compared with.
        after: Name of the set.
        churn: The images whose class changed, in numbers.
        class_names: The classes by the indices of ``churn``.
        functions: The changes of scores and rankings.
    """

    before: str
    after: str
    churn: Churn
    class_names: Sequence[str]
    functions: Sequence[FunctionChange]


def compare_prediction_sets(
    store: PoolStore,
    after: str,
    *,
    before: str | None = None,
    functions: Sequence[AcquisitionFunction],
) -> ChurnReport | None:
    """Compare the classes, scores and rankings of two prediction sets of whole images.

    Args:
        store: The pool.
        after: Name of a set that is scored.
        before: Name of the set to compare with; by default the one that was read before it.
        functions: The functions whose scores and rankings are compared.

    Returns:
        The changes, None where there is no set to compare with.

    Raises:
        PoolStateError: If a set that is named is not in the database.
    """
    stored = prediction_sets.prediction_set(store, after)
    name = before if before is not None else class_changes.previous_set(store, after)
    if name is None or name == after:
        return None
    other = prediction_sets.prediction_set(store, name)
    first, second, labels = class_changes.class_changes(store, name, after)
    # Classes go by their names: another model may have them in another order, or others.
    names = list(dict.fromkeys([*stored.class_names, *other.class_names]))
    index = np.array([names.index(each) for each in other.class_names], np.int64)
    means = [score_statistics(store, each).means for each in (name, after)]
    changes: list[FunctionChange] = []
    for function in functions:
        common, total = class_changes.queue_overlap(store, name, after, function.name)
        before_mean, after_mean = (mean[function.name] for mean in means)
        changes.append(
            FunctionChange(
                name=function.name,
                mean_before=before_mean,
                mean_after=after_mean,
                common_candidates=common,
                candidates=total,
            )
        )
    return ChurnReport(
        before=name,
        after=after,
        churn=model_churn(index[first] if first.size else first, second, labels),
        class_names=names,
        functions=changes,
    )
