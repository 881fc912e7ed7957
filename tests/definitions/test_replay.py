"""The metadata of a replay, for an asset that makes one."""

import numpy as np
import pytest

from dagster_active_learning import replay_metadata
from dagster_active_learning.evaluation import Replay

LABELS = np.array([20, 40, 60])


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_replay_is_shown_as_a_sentence_a_picture_and_a_table(seeds):
    better = np.array([[0.5, 0.7, 0.8], [0.5, 0.8, 0.9], [0.5, 0.7, 0.8]])[:seeds]
    found = Replay(LABELS, range(seeds), {"random": better - 0.2, "margin": better})
    metadata = replay_metadata(found)
    assert metadata["curves"].value.startswith("![Accuracy over labels](data:image/png;base64,")
    assert len(metadata["curves"].value) < 60_000
    margin, random = [record.data for record in metadata["rules"].records]
    assert (margin["rule"], random["rule"]) == ("margin", "random")
    assert random["minus margin"] == pytest.approx(-0.2)
    assert metadata["area_margin"] == pytest.approx(found.areas("margin").mean(), abs=1e-4)
    expected = "margin trained better" if seeds > 1 else "no difference found, keep"
    assert metadata["answer"].value.startswith(expected)
    assert (margin["its 95 % interval"] is None) == (seeds == 1)
    with pytest.raises(ValueError, match="against is 'entropy', expected one of random, margin"):
        replay_metadata(found, against="entropy")
