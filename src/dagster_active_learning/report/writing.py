"""A page as one HTML file: its data, its pictures, and the template that they stand in."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dagster_active_learning.files.temporary import temporary_folder
from dagster_active_learning.gallery.class_colors import color_of
from dagster_active_learning.gallery.objects import MAX_OBJECTS
from dagster_active_learning.gallery.thumbnails import Placement
from dagster_active_learning.report.contents import Page, PageImage, PageList, PageObject
from dagster_active_learning.report.objects import drawn_object
from dagster_active_learning.report.pictures import (
    LARGE_BYTES,
    LARGE_SIZE,
    MOST_LARGE,
    SMALL_BYTES,
    Picture,
    Pictures,
)

MOST_OBJECTS = 60_000
"""Objects that a page draws: of each image as many as its share, ``MAX_OBJECTS`` at the most."""

MASK_BYTES = 10_000_000
MASK_SECONDS = 10.0
"""Bytes of the masks of a page, and the time to draw them; of later objects there are the boxes."""

CHUNK = 250
"""Small pictures that the browser parses together, when the first of them comes into view."""

_SCRIPTS = ("data.js", "grid.js", "plots.js", "dialog.js", "page.js")
_NO_ROOM = "no room for it on this page"


@dataclass(frozen=True)
class WrittenPage:
    """A page that was written.

    Attributes:
        path: Where it is.
        bytes: The size of the file.
        candidate_count: The images of its list.
        picture_count: The images that have a small picture.
    """

    path: Path
    bytes: int
    candidate_count: int
    picture_count: int


def write_page(page: Page, path: Path, pictures: Pictures) -> WrittenPage:
    """Write a page, which then takes the place of an older one.

    An image that cannot be shown has the reason in its place; nothing about an image raises.

    Args:
        page: What it shows.
        path: The file; folders that are missing are made.
        pictures: The pictures of the images. Pages that share them read each file once.

    Raises:
        OSError: If it cannot be written.
    """
    ids = list(dict.fromkeys(each.image_id for one in page.lists for each in one.candidates))
    images = [page.images[image_id] for image_id in ids]
    small = _small_pictures(images, pictures)
    large = _large_pictures(images, small, pictures)
    objects = _Objects()
    data = _data(page, ids, small, objects)
    environment = _environment()
    style = _part("page.css")
    script = _script()
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent, ".unfinished_") as folder:
        unfinished = folder / "page"
        stream = environment.get_template("page.html.j2").stream(
            page=page,
            data=data,
            limits=_limits(page, small, large, objects),
            # Neither has anything of the page's in it.
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            style_hash=_hash(style),
            script_hash=_hash(script),
            small=_chunks(small),
            large=((image, _text(content)) for image, content in large.items()),
        )
        with unfinished.open("wb") as file:
            stream.dump(file, "utf-8")
        size = unfinished.stat().st_size
        os.replace(unfinished, path)
    shown = sum(isinstance(picture, Picture) for picture in small)
    return WrittenPage(path, size, len(page.lists[0].candidates), shown)


class _Objects:
    """The objects of a page: with their masks, as long as there is room and time for these.

    Attributes:
        masks: The masks that were drawn.
        mask_bytes: Their bytes.
        without_mask: The objects whose masks were not.
    """

    def __init__(self) -> None:
        self.masks = self.mask_bytes = self.without_mask = 0
        self._seconds_left = MASK_SECONDS

    def drawn(
        self,
        found: PageObject,
        classes: dict[str, int],
        placement: Placement,
        unit: str,
        image_size: tuple[int, int] | None,
    ) -> list[Any]:
        """An object as the page has it."""
        if found.mask is None:
            return drawn_object(found, classes, placement, unit, image_size)
        if self.mask_bytes >= MASK_BYTES or self._seconds_left <= 0:
            self.without_mask += 1
            found = replace(found, mask=None)
            return drawn_object(found, classes, placement, unit, image_size)
        started = time.monotonic()
        made = drawn_object(found, classes, placement, unit, image_size)
        self._seconds_left -= time.monotonic() - started
        path = made[3]
        if path is None:
            self.without_mask += 1
        else:
            self.masks += 1
            self.mask_bytes += len(path)
        return made


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dagster_active_learning.report"),
        autoescape=True,
        undefined=StrictUndefined,
    )


def _part(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text("utf-8")


def _script() -> str:
    """All scripts in one function, so that none of their names is the window's."""
    return f'"use strict";(() => {{\n{"".join(map(_part, _SCRIPTS))}}})();\n'


def _hash(text: str) -> str:
    """The hash by which a browser knows a script or a style that the page may have."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _small_pictures(images: Sequence[PageImage], pictures: Pictures) -> list[Picture | str]:
    """The small picture of each image, or why there is none, as long as there is room."""
    room = SMALL_BYTES
    small: list[Picture | str] = []
    for image in images:
        picture = pictures.small(image.uri) if room > 0 else _NO_ROOM
        if isinstance(picture, Picture):
            room -= len(picture.content)
        small.append(picture)
    return small


def _large_pictures(
    images: Sequence[PageImage], small: Sequence[Picture | str], pictures: Pictures
) -> dict[int, bytes]:
    """Large pictures of the first images that have one, by the places of the images."""
    room = LARGE_BYTES
    large: dict[int, bytes] = {}
    for place, image in enumerate(images[:MOST_LARGE]):
        picture = pictures.large(image.uri) if isinstance(small[place], Picture) else ""
        if isinstance(picture, Picture) and len(picture.content) <= room:
            room -= len(picture.content)
            large[place] = picture.content
    return large


def _chunks(small: Sequence[Picture | str]) -> Iterator[list[str | None]]:
    for first in range(0, len(small), CHUNK):
        yield [
            _text(picture.content) if isinstance(picture, Picture) else None
            for picture in small[first : first + CHUNK]
        ]


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _data(
    page: Page, ids: Sequence[str], small: Sequence[Picture | str], drawing: _Objects
) -> dict[str, Any]:
    """What the scripts read. Images and classes are known by their places."""
    place_of = {image_id: place for place, image_id in enumerate(ids)}
    positions = {name: place for place, name in enumerate(page.class_names)}
    classes = dict(positions)
    notes: dict[str, int] = {}
    missing = [
        -1 if isinstance(picture, Picture) else notes.setdefault(picture, len(notes))
        for picture in small
    ]
    found: list[list[Any]] = []
    most = max(min(MOST_OBJECTS // max(len(ids), 1), MAX_OBJECTS), 1)
    lists = [_list(one, page, place_of, classes, small, found, most, drawing) for one in page.lists]
    data = {
        "ids": ids,
        "sizes": [picture.size if isinstance(picture, Picture) else None for picture in small],
        "stored": [
            picture.placement.stored_size if isinstance(picture, Picture) else None
            for picture in small
        ],
        "missing": missing,
        "notes": list(notes),
        "points": [_point(page.points.get(image_id)) for image_id in ids] if page.points else [],
        "lists": lists,
        "found": found,
        "classes": [{"name": name, "color": _color(name, positions)} for name in classes],
        "chunk": CHUNK,
        "largeSide": LARGE_SIZE[0],
    }
    return {name: _in_json(value) for name, value in data.items()}


def _in_json(value: Any) -> Any:
    """A value in which numbers that JSON does not have are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _in_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(each) for each in value]
    return value


def _point(place: tuple[float, float] | None) -> tuple[float, float] | None:
    """A place on the plane; None where it is beyond it."""
    return place if place is not None and all(map(math.isfinite, place)) else None


def _color(name: str, positions: Mapping[str, int]) -> str:
    red, green, blue = color_of(name, positions)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _list(
    one: PageList,
    page: Page,
    place_of: dict[str, int],
    classes: dict[str, int],
    small: Sequence[Picture | str],
    found: list[list[Any]],
    most_objects: int,
    drawing: _Objects,
) -> dict[str, Any]:
    objects: list[int] = []
    for each in one.candidates:
        picture = small[place_of[each.image_id]]
        if not each.objects or isinstance(picture, str):
            objects.append(-1)
            continue
        size = page.images[each.image_id].size
        objects.append(len(found))
        found.append(
            [
                drawing.drawn(item, classes, picture.placement, one.bbox_unit, size)
                for item in each.objects[:most_objects]
            ]
        )
    candidates = one.candidates
    has_bins = all(map(math.isfinite, one.edges))
    has_chosen = any(each.chosen_by is not None for each in candidates)
    return {
        "name": one.name,
        "scoreLabel": one.score_label,
        "labelFirst": one.label_first,
        "count": one.candidate_count,
        "images": [place_of[each.image_id] for each in candidates],
        "ranks": [each.rank for each in candidates],
        # As they are: rounded ones would be out of the first and the last bin.
        "scores": [each.score for each in candidates],
        "classes": [
            -1
            if each.predicted_class is None
            else classes.setdefault(each.predicted_class, len(classes))
            for each in candidates
        ],
        "reasons": [each.reason for each in candidates],
        "chosen": [each.chosen_by or "" for each in candidates] if has_chosen else None,
        "objects": objects,
        "objectCounts": [each.object_count for each in candidates],
        "counts": [int(count) for count in one.counts] if has_bins else [],
        "edges": [float(edge) for edge in one.edges] if has_bins else [],
    }


def _limits(
    page: Page, small: Sequence[Picture | str], large: dict[int, bytes], drawing: _Objects
) -> Iterator[str]:
    """What the page holds, and of what it holds only a part."""
    first, *others = page.lists
    if first.candidate_count > len(first.candidates):
        count = f"{len(first.candidates):,} of {first.candidate_count:,}"
        yield f"The first {count} images of the list."
    else:
        yield f"All {first.candidate_count:,} images of the list."
    for other in others:
        yield (
            f"Beside it {other.name}: the first {len(other.candidates):,} of "
            f"{other.candidate_count:,} images."
        )
    shown = [picture for picture in small if isinstance(picture, Picture)]
    size = sum(len(picture.content) for picture in shown)
    yield (
        f"Small pictures of {len(shown):,} of {len(small):,} images, {size / 1e6:.1f} MB of "
        f"at most {SMALL_BYTES / 1e6:.0f} MB."
    )
    size = sum(map(len, large.values()))
    yield (
        f"Larger pictures, up to {LARGE_SIZE[0]:,} pixels per side, of {len(large):,} images that "
        f"have more pixels than their small picture: of the first {MOST_LARGE:,}, {size / 1e6:.1f} "
        f"MB of at most {LARGE_BYTES / 1e6:.0f} MB."
    )
    if any(each.objects for one in page.lists for each in one.candidates):
        yield f"Up to {MAX_OBJECTS:,} objects per image, and about {MOST_OBJECTS:,} in all."
    if of_all := drawing.masks + drawing.without_mask:
        yield (
            f"Masks of {drawing.masks:,} of {of_all:,} objects, {drawing.mask_bytes / 1e6:.1f} MB: "
            f"at most {MASK_BYTES / 1e6:.0f} MB and {MASK_SECONDS:.0f} seconds, then boxes only."
        )
    yield "The page is whole: it asks nothing of any server, and no place of a file stands in it."
