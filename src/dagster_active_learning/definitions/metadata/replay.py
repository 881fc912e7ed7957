"""Metadata of a replay: the learning curves as a picture, and a table of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_active_learning.definitions.metadata.labeling_candidates import picture
from dagster_active_learning.definitions.metadata.tables import (
    Metadata,
    interval,
    rows_table,
    sentences,
)

if TYPE_CHECKING:
    from dagster_active_learning.evaluation import Replay


def replay_metadata(found: Replay, *, against: str = "margin") -> Metadata:
    """A replay as the metadata of an asset that has made it.

    Args:
        found: What ``evaluation.replay`` returned.
        against: The rule that the others are compared with.

    Returns:
        A sentence, the learning curves with their intervals over the seeds, a table with a row per
        rule, and the area of each rule, which the UI plots over materializations.

    Raises:
        ValueError: If the rule to compare with was not replayed.

    Example:
        >>> from dagster_active_learning.evaluation import replay
        >>> def train(images, labels, wanted, seed):
        ...     centers = [images[labels == 0].mean(), images[labels == 1].mean()]
        ...     distance = np.abs(np.subtract.outer(wanted, centers))
        ...     return distance[:, ::-1] / distance.sum(axis=1, keepdims=True)
        >>> images = np.linspace(0, 1, 100)
        >>> labels = (images > 0.5).astype(int)
        >>> found = replay(train, images, labels, ["margin", "random"], test_images=images,
        ...                test_labels=labels, start=[0, 10, 99], batch=2, rounds=3, seeds=range(3),
        ...                report=lambda line: None)
        >>> sorted(replay_metadata(found))
        ['answer', 'area_margin', 'area_random', 'curves', 'rules']
    """
    import numpy as np

    from dagster_active_learning.gallery import Band, learning_curves

    rows = found.table(against)
    labels = found.label_counts.astype(np.float64)
    bands: list[Band] = []
    for row in rows:
        mean, low, high = np.array(
            [(each.mean, each.low, each.high) for each in found.curve(row["rule"])]
        ).T
        bands.append(Band(name=row["rule"], x=labels, y=mean, low=low, high=high))
    title = f"Accuracy of models trained on what each rule asked for, {len(found.seeds)} seeds"
    return {
        "answer": sentences(found.answer(against)),
        "curves": picture(learning_curves(bands, title=title), "Accuracy over labels"),
        "rules": rows_table(
            [
                {
                    "rule": row["rule"],
                    "area under the curve": row["area"],
                    f"minus {against}": row["difference"],
                    "its 95 % interval": interval(row["difference_low"], row["difference_high"]),
                    "interval of area": interval(row["area_low"], row["area_high"]),
                    "last accuracy": row["last_accuracy"],
                }
                for row in rows
            ]
        ),
        **{f"area_{row['rule']}": round(row["area"], 4) for row in rows},
    }
