"""Compile the kernels ahead of time, where an image of a container is built."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dagster_active_learning.acquisition.kernels import (
    add_by_image,
    add_votes_by_image,
    check_class_probs,
    score_class_probs,
)
from dagster_active_learning.acquisition.most_probable import most_probable_class
from dagster_active_learning.acquisition.score_sums import count_and_sum

# The smallest totals run the kernel of the largest.
_KEEPS: tuple[Literal["sum", "max"], ...] = ("sum", "max")


def warm_up() -> None:
    r"""Compile every kernel for float32 and float64, so that no later process has to.

    Numba keeps what it compiles in the folder that the environment variable ``NUMBA_CACHE_DIR``
    names, else next to the package or in the user's cache. A later process finds it there if it
    names the same folder, may write to it (Numba leaves aside a folder that it cannot write to)
    and runs on the same kind of processor. In a Dockerfile::

        ENV NUMBA_CACHE_DIR=/var/cache/numba
        RUN python -c "from dagster_active_learning import warm_up; warm_up()" \
            && chmod -R a+rwX /var/cache/numba
    """
    for class_probs in (np.full((1, 2), 0.5, np.float32), np.full((1, 2), 0.5, np.float64)):
        check_class_probs(class_probs)
        score_class_probs(class_probs)
        most_probable_class(class_probs)
        image_index, counts = np.zeros(1, np.int64), np.zeros(1, np.int64)
        add_votes_by_image(class_probs, np.zeros(1), image_index, np.zeros((1, 5)), counts)
    count_and_sum(np.zeros(1), bins_in_one=1.0, first_bin=0, n_bins=1, scales=np.ones(3))
    for keep in _KEEPS:
        image_index, counts = np.zeros(1, np.int64), np.zeros(1, np.int64)
        add_by_image(np.zeros((1, 1)), image_index, np.zeros((1, 1)), counts, keep=keep)
