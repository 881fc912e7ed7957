"""Pictures for the UI: what the candidates look like, and where their scores lie among all."""

from dagster_active_learning.gallery.contact_sheets import Thumbnails, contact_sheet
from dagster_active_learning.gallery.histogram import score_histogram
from dagster_active_learning.gallery.tiles import Box, Tile

__all__ = ["Box", "Thumbnails", "Tile", "contact_sheet", "score_histogram"]
