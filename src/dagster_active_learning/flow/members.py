"""Members of a committee, each left out of it: whether the labels say that it is better so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt
import polars as pl

from dagster_active_learning.evaluation.finding_errors import Floats
from dagster_active_learning.evaluation.members import (
    MemberEffect,
    WithoutMember,
    compare_without_members,
)
from dagster_active_learning.flow.judge import class_prob_totals, true_classes
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.prediction_sets import PredictionSet
from dagster_active_learning.store.prediction_sources import sources
from dagster_active_learning.store.predictions import most_files_of_an_image
from dagster_active_learning.store.rule_evaluations import predictions_of_labeled
from dagster_active_learning.store.score_statistics import member_counts

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class JudgedMember:
    """One member of a committee, by itself and left out of it.

    Attributes:
        name: Its file, or its place among the predictions of an image.
        vote_count: Labeled images that it has voted on.
        error_rate: The share of them that it gets wrong by itself; None without any.
        effect: The committee without it.
    """

    name: str
    vote_count: int
    error_rate: float | None
    effect: MemberEffect


def judged_members(
    store: PoolStore, stored: PredictionSet, images: pl.DataFrame, seed: int
) -> list[JudgedMember]:
    """Leave each member out of a committee, and compare what is left with the whole.

    A member is a file where an image is in all of them; else it is the first, second, … prediction
    of each image. Then nothing says which of them an image with fewer predictions
    lacks: such an image is taken as it is.

    Args:
        store: The pool.
        stored: The record of the prediction set.
        images: Columns image_id, label and weight of labeled images, some of which the committee
            gets wrong and some not.
        seed: Makes the resamples of the intervals.

    Returns:
        The members in their order; none where no image has several.
    """
    members = _Members.of(store, stored)
    ids = images["image_id"].to_list()
    weights = images["weight"].to_numpy()
    if len(members.names) < 2:
        return []
    totals, counts = class_prob_totals(store, stored, ids)
    truth = true_classes(stored, images)
    whole, margins = _classes_and_margins(totals / counts[:, None])
    n_members = len(members.names)
    classes_without = np.tile(whole, (n_members, 1))
    margins_without = np.tile(margins, (n_members, 1))
    vote_counts = np.zeros(n_members, np.int64)
    wrong_weights, vote_weights = np.zeros(n_members), np.zeros(n_members)
    places = {image_id: place for place, image_id in enumerate(ids)}
    seen = np.zeros(len(ids), np.int64)
    for batch in predictions_of_labeled(store, stored, ids):
        at = np.array([places[image_id] for image_id in batch["image_id"]], np.int64)
        probs = batch["class_probs"].explode().to_numpy().reshape(batch.height, -1)
        member = members.of_predictions(batch["prediction_index"].to_numpy(), at, seen)
        known = (counts[at] == n_members) | members.are_files
        at, probs, member = at[known], probs[known], member[known]
        weight, is_wrong = weights[at], probs.argmax(axis=1) != truth[at]
        vote_counts += np.bincount(member, minlength=n_members)
        vote_weights += np.bincount(member, weight, n_members)
        wrong_weights += np.bincount(member, weight * is_wrong, n_members)
        # An image that a member alone has voted on stays as it is.
        others = counts[at] > 1
        at, probs, member = at[others], probs[others], member[others]
        rest = (totals[at] - probs) / (counts[at] - 1)[:, None]
        classes_without[member, at], margins_without[member, at] = _classes_and_margins(rest)
    effects = compare_without_members(
        whole != truth,
        -margins,
        {
            name: WithoutMember(classes_without[place] != truth, -margins_without[place])
            for place, name in enumerate(members.names)
        },
        weights=weights,
        seed=seed,
    )
    return [
        JudgedMember(
            name=name,
            vote_count=int(vote_counts[place]),
            error_rate=(
                float(wrong_weights[place] / vote_weights[place]) if vote_counts[place] else None
            ),
            effect=effects[name],
        )
        for place, name in enumerate(members.names)
    ]


def _classes_and_margins(class_probs: Floats) -> tuple[Ints, Floats]:
    """The likeliest class (n_images,) and p(1) - p(2) (n_images,) of class probabilities."""
    two = np.partition(class_probs, -2, axis=1)
    return class_probs.argmax(axis=1), two[:, -1] - two[:, -2]


@dataclass(frozen=True)
class _Members:
    """The members of a committee, and which of them a prediction is of.

    Attributes:
        names: Their names, each once.
        first_indices: (n_files,) the position of each file's first row.
        are_files: Whether each file is a member.
    """

    names: Sequence[str]
    first_indices: Ints
    are_files: bool

    @classmethod
    def of(cls, store: PoolStore, stored: PredictionSet) -> _Members:
        files = [each for each in sources(store, stored.prediction_set) if each.row_count]
        count = member_counts(store, stored.prediction_set).members
        names = _short_names([file.source for file in files])
        # The parts of one output hold different images.
        are_files = len(files) == most_files_of_an_image(store, stored.prediction_set) > 1
        if not are_files:
            names = [f"prediction {place + 1} of each image" for place in range(count)]
        first = np.array([file.first_prediction_index for file in files], np.int64)
        return cls(names, first, are_files)

    def of_predictions(self, prediction_index: Ints, at: Ints, seen: Ints) -> Ints:
        """The member (n_predictions,) of each prediction; counts those of each image in ``seen``.

        Args:
            prediction_index: (n_predictions,) rising.
            at: (n_predictions,) where the image of each stands in ``seen``.
            seen: (n_images,) the predictions of each image before, updated.
        """
        if self.are_files:
            return np.searchsorted(self.first_indices, prediction_index, side="right") - 1
        order = np.argsort(at, kind="stable")
        ordered = at[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if at.size else order
        lengths = np.diff(np.r_[starts, at.size])
        member = np.empty(at.size, np.int64)
        member[order] = np.arange(at.size) - np.repeat(starts, lengths) + seen[ordered]
        np.add.at(seen, at, 1)
        return member


def _short_names(paths: Sequence[str]) -> list[str]:
    """The names of files, or their paths where two have the same name."""
    names = [PurePath(path).name for path in paths]
    return names if len(set(names)) == len(names) else [*paths]
