"""Churn of two prediction sets: counted by hand, and as measured of two real networks."""

import numpy as np
import pytest

from dagster_active_learning.evaluation import model_churn


def test_changes_are_counted():
    churn = model_churn([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [0, 1, 1, -1, 2])
    assert churn.changed.tolist() == [False, True, True, False, True]
    assert churn.pairs == {(0, 1): 1, (1, 0): 1, (2, 0): 1}
    assert (churn.changed_count, churn.changed_share, churn.image_count) == (3, 0.6, 5)
    assert (churn.labeled_count, churn.labeled_changed) == (4, 3)
    assert (churn.new_errors, churn.fixed, churn.wrong_changed, churn.wrong_unchanged) == (2, 1, 2, 0)  # fmt: skip


def test_without_labels_or_images_nothing_is_wrong():
    churn = model_churn([0, 1], [1, 1])
    assert (churn.labeled_count, churn.new_errors, churn.fixed, churn.wrong_changed) == (0,) * 4
    assert model_churn([], []).changed_share == 0
    with pytest.raises(ValueError, match=r"shapes \(1,\), \(2,\)"):
        model_churn([0], [0, 1])


def test_two_networks_of_cifar10(real_predictions):
    folder = real_predictions / "cifar10_networks"
    before, after = (
        np.load(folder / f"{name}_probabilities.npy").argmax(axis=1)
        for name in ("wideresnet", "vgg16")
    )
    churn = model_churn(before, after, np.load(folder / "labels.npy"))
    assert (churn.changed_count, churn.wrong_changed, churn.new_errors, churn.fixed) == (934, 395, 289, 539)  # fmt: skip
    assert churn.wrong_unchanged / (10_000 - 934) == pytest.approx(0.027, abs=5e-4)
    assert sum(churn.pairs.values()) == 934
