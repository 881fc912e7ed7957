"""The addresses at which a labeling tool shows an image."""

from __future__ import annotations

import base64
import mimetypes
import os
import string
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from dagster_active_learning.errors import PoolStateError, SettingError
from dagster_active_learning.text import shown

if TYPE_CHECKING:
    from dagster_active_learning.exporters.labeling_images import LabelingImage

ImageAddress: TypeAlias = "Callable[[LabelingImage], str]"
"""The address of an image."""

FIELDS = ("image_id", "file_name", "uri")
"""The names that may stand in braces in a template."""


def check_template(template: str) -> None:
    """Raise SettingError unless a template has at least one of ``FIELDS``, and nothing else."""
    try:
        names = [name for _, name, *_ in string.Formatter().parse(template) if name is not None]
    except ValueError:
        names = []
    if not names or not set(names) <= set(FIELDS):
        raise SettingError(
            "image_address",
            f"image_address is {template!r}, expected an address with at least one of "
            f"{', '.join(f'{{{name}}}' for name in FIELDS)} in it and no other braces",
        )


def uri_of(image: LabelingImage) -> str:
    """The uri that the manifest gives.

    Raises:
        PoolStateError: If there is none.
    """
    uri = image.row["uri"]
    if uri is None:
        raise PoolStateError(
            f"the image {shown(image.image_id)!r} has no uri: give the manifest the column uri, or "
            "set image_address"
        )
    return uri


def by_template(template: str) -> ImageAddress:
    """Addresses made of a template with names of ``FIELDS`` in braces.

    Ids and names of files are escaped, as an address needs it; the uri stands as it is.
    """
    from dagster_active_learning.exporters.labeling_images import file_name

    def address(image: LabelingImage) -> str:
        values: dict[str, Any] = {
            "image_id": quote(image.image_id),
            "file_name": quote(file_name(image)),
        }
        if "{uri}" in template:
            values["uri"] = uri_of(image)
        return template.format(**values)

    return address


def served_locally(root: str | PathLike[str], local_path: Callable[[str], str]) -> ImageAddress:
    """Addresses of files that Label Studio serves from its document root.

    Args:
        root: The document root. Label Studio serves what is in a local storage below it.
        local_path: The path of the file that a uri of the manifest means.
    """

    def address(image: LabelingImage) -> str:
        path = local_path(uri_of(image))
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
        if relative.startswith(".."):
            raise PoolStateError(
                f"the image {shown(image.image_id)!r} is the file {shown(path)!r}, expected one "
                f"below local_files_root, {os.fspath(root)!r}"
            )
        return f"/data/local-files/?d={quote(relative)}"

    return address


def embedded(max_bytes: int, read: Callable[[str], bytes]) -> ImageAddress:
    """Images themselves, as ``data:`` addresses.

    Args:
        max_bytes: The size up to which an image is embedded.
        read: Reads the file that a uri of the manifest means.
    """
    from dagster_active_learning.exporters.labeling_images import file_name

    def address(image: LabelingImage) -> str:
        uri = uri_of(image)
        content = read(uri)
        if len(content) > max_bytes:
            raise PoolStateError(
                f"the image {shown(image.image_id)!r} has {len(content):,} bytes, expected at most "
                f"embed_max_bytes, {max_bytes:,}: raise it, or let Label Studio fetch images by "
                "image_address or local_files_root"
            )
        kind = mimetypes.guess_type(file_name(image))[0] or "image/png"
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"

    return address
