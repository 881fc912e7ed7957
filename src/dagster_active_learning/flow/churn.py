"""Two prediction sets -> what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dagster_active_learning.acquisition.functions import AcquisitionFunction
from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.evaluation import Churn, model_churn
from dagster_active_learning.store import class_changes, prediction_sets
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.score_statistics import has_scores, score_statistics

ONLY_SHOWN = 12
"""Images of each side that only one of two rankings asks for."""

CHANGED_SHOWN = 24
"""Images whose class changed that are named."""


@dataclass(frozen=True, kw_only=True)
class FunctionChange:
    """The change of one acquisition function from a set to another.

    Attributes:
        name: The function.
        mean_before: The mean score of the images of the set before, None without any.
        mean_after: That of the set after.
        common_candidates: Candidates that both rankings have.
        candidates: Candidates of the ranking after.
        common_first: Candidates that both have among the first.
        first: How many of the ranking after are among the first.
        only_before: The first rows of ``only_asked_for`` that the set before asks for.
        only_after: Those that the set after asks for.
    """

    name: str
    mean_before: float | None
    mean_after: float | None
    common_candidates: int
    candidates: int
    common_first: int
    first: int
    only_before: Sequence[dict[str, Any]]
    only_after: Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image whose predicted class is another one.

    Attributes:
        image_id: Its id.
        before: The class before.
        after: The class after.
        label: Its label; None where it is not known, or none of the classes.
    """

    image_id: str
    before: str
    after: str
    label: str | None


@dataclass(frozen=True, kw_only=True)
class ChurnReport:
    """What changed from one prediction set to another.

    Attributes:
        before: Name of the set that is compared with.
        after: Name of the set.
        churn: The images whose class changed, in numbers.
        class_names: The classes by the indices of ``churn``.
        changed_images: The first images whose class changed: new errors, fixed ones, others.
        functions: The changes of scores and rankings.
    """

    before: str
    after: str
    churn: Churn
    class_names: Sequence[str]
    changed_images: Sequence[ChangedImage]
    functions: Sequence[FunctionChange]


def churn_report(
    store: PoolStore,
    after: str,
    *,
    before: str | None = None,
    functions: Sequence[AcquisitionFunction],
    first: int = 100,
) -> ChurnReport | None:
    """Compare the classes, scores and rankings of two prediction sets of whole images.

    Args:
        store: The pool.
        after: Name of a set that is scored.
        before: Name of the set to compare with; by default the one that was read before it.
        functions: The functions whose scores and rankings are compared.
        first: How many candidates of each ranking a batch would have: which of them both ask for,
            and which only one of them.

    Returns:
        The changes, None where there is no set to compare with.

    Raises:
        PoolStateError: If a set that is named is not in the database, or one of the two has no
            scores.
    """
    stored = prediction_sets.prediction_set(store, after)
    name = before if before is not None else class_changes.previous_set(store, after)
    if name is None or name == after:
        return None
    other = prediction_sets.prediction_set(store, name)
    for each in (name, after):
        if not has_scores(store, each):
            raise PoolStateError(
                f"prediction set {each!r} of pool {store.pool!r} has no scores to compare: "
                f"materialize {store.pool}/image_scores of it first"
            )
    classes = class_changes.class_changes(store, other, stored)
    # Classes go by their names: another model may have them in another order, or others.
    names = list(dict.fromkeys([*stored.class_names, *other.class_names]))
    index = np.array([names.index(each) for each in other.class_names], np.int64)
    means = [score_statistics(store, each).means for each in (name, after)]
    changes: list[FunctionChange] = []
    for function in functions:
        common, total = class_changes.queue_overlap(store, name, after, function.name)
        of_first = class_changes.queue_overlap(store, name, after, function.name, first)
        only_before, only_after = (
            class_changes.only_asked_for(
                store, asks, not_asked, function.name, first=first, shown=ONLY_SHOWN
            )
            for asks, not_asked in ((name, after), (after, name))
        )
        before_mean, after_mean = (mean[function.name] for mean in means)
        changes.append(
            FunctionChange(
                name=function.name,
                mean_before=before_mean,
                mean_after=after_mean,
                common_candidates=common,
                candidates=total,
                common_first=of_first[0],
                first=of_first[1],
                only_before=only_before,
                only_after=only_after,
            )
        )
    before_index = index[classes.before] if classes.before.size else classes.before
    churn = model_churn(before_index, classes.after, classes.labels)
    return ChurnReport(
        before=name,
        after=after,
        churn=churn,
        class_names=names,
        changed_images=_first_changed(classes, before_index, churn, names),
        functions=changes,
    )


def _first_changed(
    classes: class_changes.ClassChanges,
    before: npt.NDArray[np.int64],
    churn: Churn,
    names: Sequence[str],
) -> list[ChangedImage]:
    """Some of the images whose class changed: new errors, then fixed ones, then others."""
    at = np.flatnonzero(churn.changed)
    before, after, labels = before[at], classes.after[at], classes.labels[at]
    ids = classes.changed_images.take(pa.array(at)).to_pylist()
    kind = np.select([(labels >= 0) & (before == labels), labels == after], [0, 1], 2)
    order = sorted(range(len(at)), key=lambda place: (int(kind[place]), ids[place]))
    name_of = dict(enumerate(names))
    return [
        ChangedImage(
            image_id=ids[place],
            before=name_of[int(before[place])],
            after=name_of[int(after[place])],
            label=name_of.get(int(labels[place])),
        )
        for place in order[:CHANGED_SHOWN]
    ]
