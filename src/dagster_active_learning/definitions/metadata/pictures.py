"""Pictures as metadata: contact sheets, and the images on them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from dagster_active_learning.definitions.metadata.tables import Metadata
from dagster_active_learning.files.addresses import located_uri

if TYPE_CHECKING:
    import polars as pl

    from dagster_active_learning.definitions.pool import Pool
    from dagster_active_learning.gallery import Box, Thumbnails, Tile
    from dagster_active_learning.store.prediction_sets import PredictionSet

EVENT_BYTES = 96_000
"""Size that the metadata of a materialization may have; the UI stays quick up to 100 KB."""

HISTOGRAM_BYTES = 12_000


def gallery_metadata(
    tiles: Sequence[Tile],
    class_names: Sequence[str],
    room: int,
    thumbnails: Thumbnails,
    text: str,
) -> Metadata:
    """The contact sheet of images, or why there is none.

    Args:
        tiles: The images.
        class_names: The classes, whose places say their colors.
        room: The bytes that it may have; it has at least one image.
        thumbnails: Their pictures.
        text: The words in its place.
    """
    from dagster_active_learning.gallery import contact_sheet
    from dagster_active_learning.gallery.contact_sheets import MIN_BYTES

    if not tiles:
        return {}
    if not any(tile.uri for tile in tiles):
        return {
            "gallery": (
                "no images to show: give the pool a manifest (images) whose column uri says "
                "where the image files are"
            )
        }
    # Base64 takes four characters for three bytes.
    max_bytes = max(room * 3 // 4, MIN_BYTES)
    sheet = contact_sheet(tiles, thumbnails, class_names=class_names, max_bytes=max_bytes)
    return {"gallery": picture(sheet, text)}


def image_tile(
    pool: Pool,
    stored: PredictionSet,
    row: Mapping[str, Any],
    predictions: pl.DataFrame | None,
    *,
    reason: str | None = None,
    stands_for: str | None = None,
) -> Tile:
    """An image of a contact sheet.

    Args:
        pool: The pool.
        stored: The prediction set.
        row: A row of ``candidate_rows``.
        predictions: What the model said about the image.
        reason: Words in place of the score.
        stands_for: Words in place of the class, of an image that stands for others.
    """
    from dagster_active_learning.gallery import Tile

    bbox_unit: Literal["pixel", "relative"] = (
        "relative" if stored.bbox_unit == "relative" else "pixel"
    )
    return Tile(
        rank=row["rank"],
        image_id=row["image_id"],
        uri=located_uri(row["uri"], pool.manifest.path.parent if pool.manifest else None),
        score=row["score"],
        reason=reason,
        predicted_class=row["predicted_class"],
        stands_for=stands_for,
        boxes=() if predictions is None else _boxes(predictions, stored.class_names),
        object_count=0 if predictions is None else _object_count(predictions),
        bbox_unit=bbox_unit,
        image_size=(row["width"], row["height"]) if row["width"] and row["height"] else None,
    )


def _object_count(predictions: pl.DataFrame) -> int:
    """The number of an image's boxes; of all its predictions where not all of them are here."""
    count = predictions["prediction_count"][0]
    return count if count > predictions.height else predictions["bbox"].count()


def _boxes(predictions: pl.DataFrame, class_names: Sequence[str]) -> tuple[Box, ...]:
    import polars as pl

    from dagster_active_learning.gallery import MAX_OBJECTS, Box

    class_probs = pl.col("class_probs")
    drawn = predictions.filter(pl.col("bbox").is_not_null()).head(MAX_OBJECTS)
    objects = drawn.select(
        "bbox",
        "category",
        class_index=class_probs.list.arg_max(),
        score=pl.coalesce("score", class_probs.list.max()),
    )
    boxes: list[Box] = []
    for bbox, category, class_index, score in objects.iter_rows():
        predicted = None if class_index is None else class_names[int(class_index)]
        boxes.append(Box(bbox=tuple(bbox), label=category or predicted, score=score))
    return tuple(boxes)


def picture(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """A PNG as the UI shows it, with words for those who do not see it."""
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})")
