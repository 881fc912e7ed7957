"""The formats of prediction files: one module per format here, and one line in ``FORMATS``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster_active_learning.readers.options import (
    CocoOptions,
    NpyOptions,
    NpzOptions,
    ObjectOptions,
    RvcOptions,
    TableOptions,
    YoloOptions,
)

if TYPE_CHECKING:
    from dagster_active_learning.readers.stream import ImagesNamed

ReaderOptions = TableOptions | NpyOptions | NpzOptions | ObjectOptions


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        module: Name of the module that reads it: its function ``open_file(path, options)`` opens
            one file as a ``PredictionPart``. It is imported when the first such file is read.
        options: The options its reader understands.
        files_in_folder: Its files where a folder is given.
        schema_file: Name of the file that describes those of its folder and of the folders
            in it, where they have no nearer one; it is no predictions itself.
        images_named: The images that a file of it names.
        has_background: Whether its reader adds a class for what the class probabilities leave over
            to 1, so that they can only be probabilities of classes that exclude each other.
    """

    module: str
    options: type[ReaderOptions]
    files_in_folder: str | None = None
    schema_file: str | None = None
    images_named: ImagesNamed = "predicted"
    has_background: bool = False


FORMATS: dict[str, Format] = {
    "coco": Format(f"{__name__}.coco", CocoOptions),
    "csv": Format(f"{__name__}.csv", TableOptions),
    "jsonl": Format(f"{__name__}.jsonl", TableOptions),
    "kitti": Format(
        f"{__name__}.kitti", ObjectOptions, files_in_folder="*.txt", images_named="one"
    ),
    "lightly": Format(
        f"{__name__}.lightly",
        ObjectOptions,
        files_in_folder="**/*.json",
        schema_file="schema.json",
        images_named="one",
    ),
    "megadetector": Format(f"{__name__}.megadetector", ObjectOptions, images_named="seen"),
    "npy": Format(f"{__name__}.npy", NpyOptions),
    "npz": Format(f"{__name__}.npz", NpzOptions),
    "open_images": Format(f"{__name__}.open_images", ObjectOptions),
    "parquet": Format(f"{__name__}.parquet", TableOptions),
    "rvc": Format(f"{__name__}.rvc", RvcOptions, images_named="seen", has_background=True),
    "yolo": Format(
        f"{__name__}.yolo",
        YoloOptions,
        files_in_folder="*.txt",
        images_named="one",
        has_background=True,
    ),
}
"""The formats by name. A format of your own is one more entry."""
