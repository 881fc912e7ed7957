"""Pictures for the UI: the candidates as images, and their scores among those of all images.

The process that decodes image files imports this package too: it stays light.
"""

from dagster_active_learning.gallery.charts import (
    Band,
    Line,
    error_curves,
    learning_curves,
    reliability_diagram,
)
from dagster_active_learning.gallery.contact_sheets import contact_sheet
from dagster_active_learning.gallery.histogram import score_histogram
from dagster_active_learning.gallery.image_roots import ImageRoots
from dagster_active_learning.gallery.objects import MAX_OBJECTS
from dagster_active_learning.gallery.pictures import Thumbnails
from dagster_active_learning.gallery.tiles import Box, Tile

__all__ = [
    "MAX_OBJECTS",
    "Band",
    "Box",
    "ImageRoots",
    "Line",
    "Thumbnails",
    "Tile",
    "contact_sheet",
    "error_curves",
    "learning_curves",
    "reliability_diagram",
    "score_histogram",
]
