"""Pools for tests of the tables."""

import numpy as np
import pytest

from dagster_active_learning.store.images import replace_images
from ranked_pools import manifest, ranked_files, write_files

IDS = [f"image{number}" for number in range(200)]


@pytest.fixture
def filled(store, tmp_path):
    """200 images in five classes, 40 of them candidates; one in quarantine, one that is missing."""
    class_probs = np.random.default_rng(0).dirichlet(np.ones(5), len(IDS))
    class_probs[7] = 1
    replace_images(store, manifest([*IDS, "missing"]))
    path = write_files(tmp_path / "files", list(zip(IDS, class_probs, strict=True)))
    ranked_files(store, path, in_manifest=True, limit=40)
    return store
