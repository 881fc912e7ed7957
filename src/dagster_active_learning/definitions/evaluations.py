"""The settings of an evaluation of rules, as a user writes them down."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from dagster_active_learning.errors import SettingError
from dagster_active_learning.evaluation.rules import EvaluationRules
from dagster_active_learning.files.addresses import is_address, shown_address

if TYPE_CHECKING:
    from dagster_active_learning.readers.true_boxes import TrueBoxes

BoxesImageId = Literal["id", "file_name"]


@dataclass(frozen=True, kw_only=True)
class RuleEvaluation(EvaluationRules):
    """The evaluation of acquisition functions by labels, as ``<pool>/rule_evaluation`` does it.

    Labels are those of the manifest and of ``<pool>/labels``; boxes those of a COCO file, or
    without one of ``<pool>/labels``. Only labels that were drawn at random count: the random share
    of batches, and what is declared here.

    Attributes:
        boxes: For objects, a COCO instances file with the boxes that people drew: its images are
            labeled, also those without a box. By default what the labeling tool has.
        boxes_image_id: Which of an image's names in that file is its id: ``"id"`` or
            ``"file_name"``.

    Example:
        >>> RuleEvaluation(labels_drawn_at_random=True).labels_held_out
        False
    """

    boxes: str | PathLike[str] | None = None
    boxes_image_id: BoxesImageId = "id"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes_image_id not in get_args(BoxesImageId):
            raise SettingError(
                "boxes_image_id",
                f"boxes_image_id is {self.boxes_image_id!r}, expected 'id' or 'file_name'",
            )
        if self.boxes is not None and is_address(fspath(self.boxes)):
            raise SettingError(
                "boxes",
                f"boxes is the address {shown_address(fspath(self.boxes))!r}, expected a local "
                "path: let an asset fetch the file",
            )

    @property
    def rules(self) -> EvaluationRules:
        """The rules by which labels are used."""
        return EvaluationRules(
            **{field.name: getattr(self, field.name) for field in fields(EvaluationRules)}
        )

    def check_task(self, *, objects: bool, has_manifest: bool, has_labeling: bool) -> None:
        """Raise SettingError unless there can be labels of a pool's task."""
        if objects and self.boxes is None and not has_labeling:
            raise SettingError(
                "evaluation",
                "evaluation has no boxes, and the pool's predictions are objects: expected boxes, "
                "a COCO instances file with those that people drew, or labeling of the pool, which "
                "reads them from a labeling tool",
            )
        if not objects and self.boxes is not None:
            raise SettingError(
                "evaluation",
                "evaluation has boxes, and the pool's predictions are about whole images: leave "
                "boxes out, labels are those of the manifest",
            )
        if not objects and not has_manifest:
            raise SettingError(
                "evaluation",
                "evaluation needs labels, and the pool has no manifest: set images to one with a "
                "column label",
            )

    def truth(self) -> TrueBoxes | None:
        """The boxes of the file, read anew; None without one.

        Raises:
            PredictionReadError: If the file cannot be read.
        """
        if self.boxes is None:
            return None
        from dagster_active_learning.readers.true_boxes import read_true_boxes

        return read_true_boxes(Path(self.boxes), image_id=self.boxes_image_id)
