"""The contents of a page: plain rows, from wherever they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Points = Mapping[str, tuple[float, float]]
"""The place of images on the plane of a scatter plot, by their ids."""


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """An image, whichever lists it is on.

    Attributes:
        uri: The place of the image file, as ``Tile.uri`` is; it does not stand on the page.
        size: Width and height that the manifest has, where it has them.
    """

    uri: str | None = field(repr=False)
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class PageObject:
    """An object that the model found in an image.

    Attributes:
        label: Its class.
        score: The detector's own score, or the highest class probability where it gives none.
        bbox: x and y of the top left corner, width and height, in the list's ``bbox_unit``.
        mask: Outlines as x, y, x, y, … in the same unit, or COCO's run lengths.
    """

    label: str | None
    score: float | None
    bbox: tuple[float, float, float, float] | None = None
    mask: Any = None


@dataclass(frozen=True, kw_only=True)
class PageCandidate:
    """An image of a list.

    Attributes:
        rank: The place in the list, from 1.
        image_id: The image's id.
        score: The score in the acquisition function's own unit.
        predicted_class: The class that the model gives the image.
        reason: The reason for the score in a few words.
        chosen_by: In a batch the way it was chosen, such as ``"random"``.
        objects: The objects in it; not all of them where ``object_count`` is higher.
        object_count: The number of all its objects.
    """

    rank: int
    image_id: str
    score: float | None
    predicted_class: str | None
    reason: str
    chosen_by: str | None = None
    objects: Sequence[PageObject] = ()
    object_count: int = 0


@dataclass(frozen=True, kw_only=True)
class PageList:
    """Images in an order: a ranking, or a batch.

    Attributes:
        name: The name on the page, such as ``"margin"``.
        score_label: The formula and the unit of the scores.
        label_first: The end of the scale that is labeled first.
        candidates: The images, the first ones if there are too many.
        candidate_count: The number of all.
        bbox_unit: The unit of boxes and outlines.
        counts: The scores of all images: how many of them each bin has, shape (n_bins,).
        edges: The bins' edges, rising, shape (n_bins + 1,).
    """

    name: str
    score_label: str
    label_first: Literal["highest", "lowest"]
    candidates: Sequence[PageCandidate]
    candidate_count: int
    bbox_unit: Literal["pixel", "relative"] = "pixel"
    counts: Sequence[int] = ()
    edges: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that a page shows.

    Attributes:
        title: Its heading.
        facts: Lines below the heading: what, and its value.
        class_names: The classes in the model's order, which gives each its color.
        lists: The list that the page is about, and those that can stand beside it.
        images: The images of all lists by their ids.
        points: The places of images on the scatter plot; empty without one.
        points_label: The words below the plot, or the reason why there is none.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    class_names: Sequence[str]
    lists: Sequence[PageList]
    images: Mapping[str, PageImage]
    points: Points = field(default_factory=dict[str, tuple[float, float]])
    points_label: str = ""
