"""The first most probable class, as NumPy finds it."""

import numpy as np
import pytest

from dagster_active_learning.acquisition.most_probable import most_probable_class


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 65])
def test_it_is_the_first_of_the_largest(dtype, n_classes):
    # Few values, so that many rows have several of the largest; -0.0 is as large as 0.0.
    values = np.array([-0.001, -0.0, 0.0, 0.25, 0.5, 1.0], dtype)
    class_probs = np.random.default_rng(n_classes).choice(values, (2_000, n_classes))
    expected = class_probs.argmax(axis=1)
    assert (most_probable_class(class_probs) == expected).all()
    class_probs.flags.writeable = False
    assert (most_probable_class(class_probs) == expected).all()


def test_no_predictions_have_no_class():
    assert most_probable_class(np.empty((0, 3), np.float32)).shape == (0,)
