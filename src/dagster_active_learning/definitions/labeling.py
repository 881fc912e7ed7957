"""The settings of a labeling tool, as a user writes them down, and the resource that reaches it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from dagster_active_learning.definitions.exports import FilePath, LabelFiles
from dagster_active_learning.errors import SettingError
from dagster_active_learning.labeling.image_addresses import check_template
from dagster_active_learning.rules import check_flag

if TYPE_CHECKING:
    from dagster_active_learning.gallery import ImageRoots
    from dagster_active_learning.labeling.image_addresses import ImageAddress
    from dagster_active_learning.labeling.label_studio_client import LabelStudioClient

LABEL_STUDIO_RESOURCE = "label_studio"
"""Key of the user's LabelStudioResource."""


@dataclass(frozen=True, kw_only=True)
class LabelStudio:
    """A project of Label Studio, to which batches go and from which labels come.

    Without ``image_address``, ``local_files_root`` and ``embed_max_bytes``, of which there may be
    one, an image is shown from the uri that the manifest gives.

    Attributes:
        project: The project's title, 3 to 50 characters without spaces around them. Where there is
            none, it is made.
        image_address: Address of an image, with ``{image_id}``, ``{file_name}`` or ``{uri}`` in it.
        local_files_root: The document root from which Label Studio serves local files, as
            LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT has it. The project needs a local storage below
            it; its button Sync would make a task of each file, and is not needed.
        embed_max_bytes: Size up to which images are put into their tasks.
        export: Files that the labels are written to, for training to read; a path or several. As
            ``.csv`` or ``.parquet`` a manifest of the labeled images, as ``.json`` a COCO file of
            the objects that people see.
        return_skipped: Whether images that people skip come back, to be in a batch again; else they
            stay in flight until ``return_after_days``.
        minimum_interval_seconds: Seconds between two looks of the sensor for annotations.
        default_status: ``RUNNING`` to look from the start; ``STOPPED``, as Dagster's own sensors,
            until somebody turns the sensor on in the UI.

    Raises:
        SettingError: If a setting has a value that it cannot have.

    Example:
        >>> LabelStudio(project="street signs", export="labels.csv").files.paths
        {'csv': 'labels.csv'}
    """

    project: str
    image_address: str | None = None
    local_files_root: FilePath | None = None
    embed_max_bytes: int | None = None
    export: FilePath | Sequence[FilePath] | None = None
    return_skipped: bool = False
    minimum_interval_seconds: int = 60
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED

    def __post_init__(self) -> None:
        if not 3 <= len(self.project) <= 50 or self.project != self.project.strip():
            raise SettingError(
                "project",
                f"project is {self.project!r}, expected a title of 3 to 50 characters without "
                "spaces around it, as Label Studio wants it",
            )
        ways = (self.image_address, self.local_files_root, self.embed_max_bytes)
        if sum(way is not None for way in ways) > 1:
            raise SettingError(
                "image_address",
                "image_address, local_files_root and embed_max_bytes say in different ways how an "
                "image is shown: expected one of them",
            )
        if self.image_address is not None:
            check_template(self.image_address)
        if self.embed_max_bytes is not None and self.embed_max_bytes < 1:
            raise SettingError(
                "embed_max_bytes",
                f"embed_max_bytes is {self.embed_max_bytes}, expected at least 1",
            )
        _ = self.files
        check_flag("return_skipped", self.return_skipped)
        if self.minimum_interval_seconds < 1:
            raise SettingError(
                "minimum_interval_seconds",
                f"minimum_interval_seconds is {self.minimum_interval_seconds}, expected at least 1",
            )

    @property
    def files(self) -> LabelFiles | None:
        """The files that labels are written to, if there are any."""
        return None if self.export is None else LabelFiles(self.export)

    def address(self, roots: ImageRoots) -> ImageAddress:
        """The function that makes the address of an image.

        Args:
            roots: Where image files may be read.
        """
        from dagster_active_learning.gallery.image_files import read_image_file
        from dagster_active_learning.labeling import image_addresses

        if self.image_address is not None:
            return image_addresses.by_template(self.image_address)
        if self.local_files_root is not None:
            return image_addresses.served_locally(os.fspath(self.local_files_root), roots.place_of)
        if self.embed_max_bytes is not None:
            return image_addresses.embedded(
                self.embed_max_bytes, lambda uri: read_image_file(uri, roots)
            )
        return image_addresses.uri_of


class LabelStudioResource(dg.ConfigurableResource[Any]):
    """A Label Studio server, under the resource key ``label_studio``.

    Example:
        >>> server = LabelStudioResource(
        ...     url="http://127.0.0.1:8080", token=dg.EnvVar("LABEL_STUDIO_TOKEN")
        ... )
        >>> server.url
        'http://127.0.0.1:8080'
    """

    url: str = Field(description="Address of the server, such as http://127.0.0.1:8080.")
    token: str = Field(
        repr=False,
        description=(
            "A personal access token, or a legacy token where the server allows them: as "
            "dg.EnvVar, so that it stands in no configuration."
        ),
    )
    timeout_seconds: float = Field(
        default=60, description="How long an answer may take, in seconds.", gt=0
    )

    def client(self) -> LabelStudioClient:
        """A connection to the server."""
        from dagster_active_learning.labeling.label_studio_client import LabelStudioClient

        return LabelStudioClient(self.url, self.token, self.timeout_seconds)


def label_studio_client(resources: Any) -> LabelStudioClient:
    """The connection to the server that the resources of a step or sensor name."""
    return getattr(resources, LABEL_STUDIO_RESOURCE).client()
