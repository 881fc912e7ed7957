"""What a step says of its progress."""

import pytest

from dagster_active_learning.flow import progress


@pytest.fixture
def reported(monkeypatch):
    """The lines about batches, each with its rows and the seconds it takes."""

    def lines_about(batches):
        now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: now)
        lines: list[str] = []
        of_step = progress.Progress("read", lines.append)
        for rows, seconds in batches:
            now += seconds
            of_step.add(rows)
        of_step.finish()
        return lines

    return lines_about


@pytest.mark.parametrize("batches", [[], [(1_797, 4)]])
def test_one_batch_has_no_rate(reported, batches):
    """Most of its time may be that of a compiler."""
    total = sum(rows for rows, _ in batches)
    assert reported(batches) == [f"read {total:,} predictions"]


def test_the_rate_is_that_of_the_batches_after_the_first(reported):
    assert reported([(1_000, 4), (500, 0.25), (500, 0.25)]) == [
        "read 2,000 predictions, 2,000 per second"
    ]


def test_a_long_step_reports_on_its_way(reported):
    assert reported([(10, 6), (10, 5), (10, 1)]) == [
        "read 10 predictions",
        "read 20 predictions, 2 per second",
        "read 30 predictions, 3 per second",
    ]
