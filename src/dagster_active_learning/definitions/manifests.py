"""A pool's manifest, as a user writes it down."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_active_learning.files.addresses import at_home, is_address, shown_address
from dagster_active_learning.files.compression import SUFFIXES
from dagster_active_learning.files.find import find_files, is_meant
from dagster_active_learning.files.links import content_withheld
from dagster_active_learning.files.versions import combined_sha256
from dagster_active_learning.readers.options import check_choice

if TYPE_CHECKING:
    import pyarrow as pa
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep

MANIFEST_FORMATS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".json": "coco",
}
"""The kinds of manifest, by the suffix of the file; one more is a folder of images."""

_IMAGE_IDS = {"coco": ("id", "file_name"), "folder": ("path", "stem")}
"""The kinds of ids where the kind of manifest leaves a choice; the default first."""


class PoolImages:
    """The pool's manifest: which images there are, and which of them have their label.

    It is a file with one row per image, a COCO instances file or a folder of images. A table has a
    column image_id and may have uri, width, height, labeled (true or false) and label. A folder is
    searched with the folders in it; an image's uri is its full path.

    Args:
        path: The file or the folder.
        format: ``"csv"``, ``"parquet"``, ``"jsonl"``, ``"coco"`` or ``"folder"``; by default seen
            from the suffix (``.json`` is COCO). A path without a suffix is a folder.
        image_id: What an image's id is. For COCO ``"id"``, its number (the default, as in results
            files that are read without an instances file), or ``"file_name"``; for a folder
            ``"path"``, the path relative to the folder with ``/`` between its parts (the default),
            or ``"stem"``, the file's name without its suffix.
        labeled: The images that have their label, besides those the manifest marks: a list of ids,
            or the path of a UTF-8 text file with one id per line.
        deps: Assets that write the file.

    Raises:
        ValueError: If a path is an address, the format is unknown or cannot be seen from the path,
            or an option has a value that it cannot have.

    Example:
        >>> PoolImages("images", image_id="stem", labeled=["0001", "0002"]).format
        'folder'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        format: str | None = None,
        image_id: str | None = None,
        labeled: Sequence[str] | str | PathLike[str] | None = None,
        deps: Iterable[CoercibleToAssetDep] = (),
    ) -> None:
        self.path = _local_path("images", path)
        self.format = format or _manifest_format(self.path)
        self.image_id = image_id
        self.labeled = _labeled(labeled)
        self.deps: Sequence[CoercibleToAssetDep] = tuple(deps)
        known = [*dict.fromkeys(MANIFEST_FORMATS.values()), "folder"]
        if self.format not in known:
            raise ValueError(
                f"the format of the manifest {path} is {format or self.path.suffix!r}, expected "
                f"one of {', '.join(known)}"
            )
        choices = _IMAGE_IDS.get(self.format)
        if image_id is not None and choices is None:
            raise ValueError(
                f"image_id is {image_id!r}, but the manifest {path} is of the format "
                f"{self.format!r}, which has a column image_id: leave the option out"
            )
        if image_id is not None:
            check_choice("image_id", image_id, choices or ())

    def settings(self) -> dict[str, Any]:
        """The settings that the images depend on, but those with their default, by name.

        Not the paths, for the same content elsewhere is the same input.
        """
        settings: dict[str, Any] = {"format": self.format}
        if self.image_id not in (None, self._default_id):
            settings["image_id"] = self.image_id
        if isinstance(self.labeled, tuple):
            settings["labeled"] = sorted(set(self.labeled))
        elif self.labeled is not None:
            settings["labeled"] = "a file"
        return settings

    def data_version(self, sha256: str) -> str:
        """The version of the images that the manifest's content gives, other ids included."""
        image_id = self.settings().get("image_id")
        return sha256 if image_id is None else combined_sha256([sha256, image_id])

    def reads(self, file: str) -> bool:
        """True if a local file would be the manifest or the list of labeled images."""
        listed = [self.labeled] if isinstance(self.labeled, Path) else []
        return any(is_meant(file, glob.escape(str(path))) for path in [self.path, *listed])

    @property
    def _default_id(self) -> str | None:
        return _IMAGE_IDS[self.format][0] if self.format in _IMAGE_IDS else None

    def read(self) -> tuple[pa.Table, str]:
        """The manifest's rows, and the SHA-256 of its content.

        The hash covers the file and the list of labeled images. A folder's is that of the relative
        paths and sizes of its images; their pixels are not read, nor does their time count.

        Raises:
            PredictionReadError: If the manifest is missing or not one, or a labeled image is not
                in it.
        """
        from dagster_active_learning.files.image_folder import folder_sha256
        from dagster_active_learning.files.versions import content_sha256
        from dagster_active_learning.readers.manifest import read_images

        files = [] if self.format == "folder" else find_files(self.path)
        files += find_files(self.labeled) if isinstance(self.labeled, Path) else []
        sha256 = content_sha256(files)
        with content_withheld([str(file) for file in files]):
            images = read_images(
                self.path, self.format, image_id=self.image_id, labeled=self.labeled
            )
        hashes = [folder_sha256(self.path)] if self.format == "folder" else []
        hashes += [sha256()] if files else []
        if isinstance(self.labeled, tuple):
            hashes.append(hashlib.sha256("\n".join(sorted(set(self.labeled))).encode()).hexdigest())
        return images, combined_sha256(hashes)


def _local_path(setting: str, path: str | PathLike[str]) -> Path:
    if is_address(str(path)):
        raise ValueError(
            f"{setting} is the address {shown_address(str(path))!r}, expected a local path: let an "
            "asset fetch the file, and name the asset in deps"
        )
    return Path(at_home(path))


def _manifest_format(path: Path) -> str:
    """The format seen from a path; empty where it cannot be seen."""
    suffix = (path.with_suffix("") if path.suffix in SUFFIXES else path).suffix.lower()
    if suffix in MANIFEST_FORMATS:
        return MANIFEST_FORMATS[suffix]
    return "folder" if path.is_dir() or not (path.suffix or path.exists()) else ""


def _labeled(labeled: Sequence[str] | str | PathLike[str] | None) -> tuple[str, ...] | Path | None:
    """A list of ids as it is, or the path of one."""
    if labeled is None:
        return None
    if isinstance(labeled, (str, PathLike)):
        return _local_path("labeled", labeled)
    wrong = [image_id for image_id in labeled if not isinstance(image_id, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
    if wrong:
        raise ValueError(f"labeled has {wrong[0]!r}: expected ids as text, or the path of a file")
    return tuple(labeled)
