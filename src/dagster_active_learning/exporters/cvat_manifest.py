"""The images of candidates as CVAT's manifest, from which a task in this order is made.

JSON Lines: the version, the type, and one line per image with the name of its file and its size
(https://docs.cvat.ai/docs/dataset_management/dataset_manifest/). Choose the sorting "predefined".
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.labeling_images import labeling_images, named_images


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the images of candidates to a new file and count them.

    Raises:
        PoolStateError: If the manifest does not say the size of an image, the name of a file has a
            control character, or two files have the same name.
    """
    written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"version": "1.1"}\n{"type": "images"}\n')
        for name, image in named_images(labeling_images(candidates)):
            width, height = image.size
            suffix = PurePosixPath(name).suffix
            entry = {
                "name": name.removesuffix(suffix),
                "extension": suffix,
                "width": width,
                "height": height,
                "meta": {"image_id": image.image_id},
            }
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            written += 1
    return written
