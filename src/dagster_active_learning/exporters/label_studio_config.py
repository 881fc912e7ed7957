"""The labeling interface of Label Studio for the classes of candidates (https://labelstud.io/tags)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from dagster_active_learning.errors import PoolStateError
from dagster_active_learning.exporters.candidates import Candidates
from dagster_active_learning.exporters.labeling_images import image_count, is_printable, task_of
from dagster_active_learning.text import shown

IMAGE = "image"
"""Name of the object tag, and of the key of a task's data that has the image's address."""


@dataclass(frozen=True)
class Control:
    """A control tag, with which a person says what an image shows.

    Attributes:
        tag: The tag's name.
        name: What the interface calls it.
        type: The type of its regions, and the key of their values that has the class.
        item: The tag of each of its classes.
    """

    tag: str
    name: str
    type: str
    item: str = "Label"

    @property
    def region(self) -> dict[str, str]:
        """The keys that say of a region that it is of this control."""
        return {"from_name": self.name, "to_name": IMAGE, "type": self.type}


CHOICE = Control("Choices", "label", "choices", "Choice")
BOXES = Control("RectangleLabels", "label", "rectanglelabels")
POLYGONS = Control("PolygonLabels", "label", "polygonlabels")
BRUSHES = Control("BrushLabels", "brush", "brushlabels")

CONTROLS: dict[str, tuple[Control, ...]] = {
    "classification": (CHOICE,),
    "detection": (BOXES,),
    "segmentation": (POLYGONS, BRUSHES),
}
"""The controls of each task: of masks some are polygons, and some are pixels."""


def write_candidates(candidates: Candidates, path: Path) -> int:
    """Write the interface to a new file and count the images it is for."""
    path.write_text(labeling_config(task_of(candidates), candidates.class_names), encoding="utf-8")
    return image_count(candidates)


def labeling_config(task: str, class_names: Sequence[str]) -> str:
    """The labeling interface of a task for some classes.

    Args:
        task: Name of one of ``CONTROLS``.
        class_names: The names of the classes.

    Raises:
        PoolStateError: If a name has a control character, which XML cannot have.
    """
    for name in class_names:
        if not is_printable(name):
            raise PoolStateError(
                f"the class {shown(name)!r} has a control character, which XML cannot have: rename "
                "it in the predictions"
            )
    lines = ["<View>", f'  <Image name="{IMAGE}" value="${IMAGE}"/>']
    for control in CONTROLS[task]:
        choice = ' choice="single" showInline="true"' if control is CHOICE else ""
        lines.append(f'  <{control.tag} name="{control.name}" toName="{IMAGE}"{choice}>')
        lines += [f"    <{control.item} value={quoteattr(name)}/>" for name in class_names]
        lines.append(f"  </{control.tag}>")
    return "\n".join([*lines, "</View>", ""])
