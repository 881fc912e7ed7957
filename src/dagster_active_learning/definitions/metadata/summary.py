"""The first that is seen of a ranking or a batch: a few short lines, shown without a click."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import Metadata, escaped
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUMMARY_CHARACTERS = 999
"""Length up to which the UI shows Markdown without a click."""

BARS = 20
CLASSES = 3
CLASS_BYTES = 40
HASH_DIGITS = 12

_BLOCKS = "▁▂▃▄▅▆▇█"
_EMPTY = "·"
_CUT = "│"


def summary(lines: Iterable[str | None]) -> dg.MarkdownMetadataValue:
    """Lines, those that there are, one below the other; those that have no room are left out."""
    text = ""
    for line in filter(None, lines):
        longer = f"{text}  \n{line}" if text else line
        if len(longer) > SUMMARY_CHARACTERS:
            break
        text = longer
    return dg.MetadataValue.md(text)


def with_report(metadata: Metadata) -> dg.MarkdownMetadataValue:
    """The summary of metadata, and below it the path of the report, if there is one."""
    report = metadata.get("report")
    if not isinstance(report, dg.PathMetadataValue) or "`" in str(report.value):
        return metadata["summary"]
    # A path to copy: browsers follow no link from a server's page to a file.
    return summary([metadata["summary"].value, f"report `{report.value}`"])


def score_bars(
    counts: npt.NDArray[np.int64],
    edges: npt.NDArray[np.float64],
    cut: float | None,
    label_first: Literal["highest", "lowest"],
) -> str:
    """A histogram in one line of text, between its ends, with a stroke at the cut.

    Args:
        counts: (n_bins,) images in each bin.
        edges: (n_bins + 1,) the edges of the bins, rising.
        cut: The score of the last candidate, if there is one.
        label_first: The side of the candidates: left of the cut, or right.
    """
    import numpy as np

    grouped = [int(part.sum()) for part in np.array_split(counts, min(BARS, counts.size))]
    bars = list(_blocks(grouped))
    if cut is not None:
        share = (cut - edges[0]) / (edges[-1] - edges[0])
        place = min(max(int(share * len(bars)), 0), len(bars) - 1)
        # The bar in which the cut is belongs to the candidates, at least in part.
        bars.insert(place + (label_first == "lowest"), _CUT)
    return f"{edges[0]:.3g} `{''.join(bars)}` {edges[-1]:.3g}"


def _blocks(counts: Sequence[int]) -> str:
    most = max(counts, default=0)
    return "".join(
        _BLOCKS[min(count * len(_BLOCKS) // most, len(_BLOCKS) - 1)] if count else _EMPTY
        for count in counts
    )


def top_classes(by_class: Sequence[tuple[str | None, int]]) -> str | None:
    """The most frequent classes with their numbers, such as ``8 (88), 1 (71), 7 more classes``."""
    named = [
        f"{escaped(shown('no class' if name is None else name, CLASS_BYTES))} ({count:,})"
        for name, count in by_class[:CLASSES]
    ]
    more = len(by_class) - len(named)
    return ", ".join([*named, *([f"{more:,} more classes"] if more else [])]) or None


def source_lines(model: str | None, sha256: str) -> list[str]:
    """The model, and the first digits of the hash of what was read: the table has all of them."""
    name = escaped(shown(model, CLASS_BYTES)) if model else "model not given"
    return [name, f"source {sha256[:HASH_DIGITS]}…"]
