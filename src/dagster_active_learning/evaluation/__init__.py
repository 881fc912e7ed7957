"""Evaluation of rules and models by labels: which function finds errors, and can one believe it.

NumPy in, numbers out: neither Dagster nor a database is needed. The names are loaded when they are
first used: a pool's definitions take its settings from here, and need no NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_active_learning.evaluation.calibration import Calibration as Calibration
    from dagster_active_learning.evaluation.calibration import ReliabilityBins as ReliabilityBins
    from dagster_active_learning.evaluation.calibration import brier_score as brier_score
    from dagster_active_learning.evaluation.calibration import (
        class_wise_calibration_error as class_wise_calibration_error,
    )
    from dagster_active_learning.evaluation.calibration import (
        expected_calibration_error as expected_calibration_error,
    )
    from dagster_active_learning.evaluation.calibration import fit_temperature as fit_temperature
    from dagster_active_learning.evaluation.calibration import (
        measure_calibration as measure_calibration,
    )
    from dagster_active_learning.evaluation.calibration import reliability_bins as reliability_bins
    from dagster_active_learning.evaluation.calibration import with_temperature as with_temperature
    from dagster_active_learning.evaluation.churn import Churn as Churn
    from dagster_active_learning.evaluation.churn import model_churn as model_churn
    from dagster_active_learning.evaluation.comparison import Comparison as Comparison
    from dagster_active_learning.evaluation.comparison import compare_rules as compare_rules
    from dagster_active_learning.evaluation.comparison import conclusion as conclusion
    from dagster_active_learning.evaluation.detections import Boxes as Boxes
    from dagster_active_learning.evaluation.detections import DetectionErrors as DetectionErrors
    from dagster_active_learning.evaluation.detections import match_detections as match_detections
    from dagster_active_learning.evaluation.finding_errors import auroc as auroc
    from dagster_active_learning.evaluation.finding_errors import (
        average_precision as average_precision,
    )
    from dagster_active_learning.evaluation.finding_errors import (
        error_rate_among_first as error_rate_among_first,
    )
    from dagster_active_learning.evaluation.finding_errors import (
        errors_found_curve as errors_found_curve,
    )
    from dagster_active_learning.evaluation.finding_errors import errors_per_box as errors_per_box
    from dagster_active_learning.evaluation.finding_errors import lift as lift
    from dagster_active_learning.evaluation.finding_errors import (
        risk_coverage_area as risk_coverage_area,
    )
    from dagster_active_learning.evaluation.finding_errors import (
        risk_coverage_curve as risk_coverage_curve,
    )
    from dagster_active_learning.evaluation.members import MemberEffect as MemberEffect
    from dagster_active_learning.evaluation.members import WithoutMember as WithoutMember
    from dagster_active_learning.evaluation.members import (
        compare_without_members as compare_without_members,
    )
    from dagster_active_learning.evaluation.members import weak_members as weak_members
    from dagster_active_learning.evaluation.retraining import Interval as Interval
    from dagster_active_learning.evaluation.retraining import Replay as Replay
    from dagster_active_learning.evaluation.retraining import Round as Round
    from dagster_active_learning.evaluation.retraining import replay as replay
    from dagster_active_learning.evaluation.sampling import Estimate as Estimate
    from dagster_active_learning.evaluation.sampling import Stratum as Stratum
    from dagster_active_learning.evaluation.sampling import (
        inverse_probability_weights as inverse_probability_weights,
    )
    from dagster_active_learning.evaluation.sampling import lure_error_rate as lure_error_rate
    from dagster_active_learning.evaluation.sampling import (
        stratified_error_rate as stratified_error_rate,
    )
    from dagster_active_learning.evaluation.sampling import (
        weighted_error_rate as weighted_error_rate,
    )

_MODULES = {
    "Boxes": "detections",
    "Calibration": "calibration",
    "Churn": "churn",
    "Comparison": "comparison",
    "DetectionErrors": "detections",
    "Estimate": "sampling",
    "Interval": "retraining",
    "MemberEffect": "members",
    "ReliabilityBins": "calibration",
    "Replay": "retraining",
    "Round": "retraining",
    "Stratum": "sampling",
    "WithoutMember": "members",
    "auroc": "finding_errors",
    "average_precision": "finding_errors",
    "brier_score": "calibration",
    "class_wise_calibration_error": "calibration",
    "compare_rules": "comparison",
    "compare_without_members": "members",
    "conclusion": "comparison",
    "error_rate_among_first": "finding_errors",
    "errors_found_curve": "finding_errors",
    "errors_per_box": "finding_errors",
    "expected_calibration_error": "calibration",
    "fit_temperature": "calibration",
    "inverse_probability_weights": "sampling",
    "lift": "finding_errors",
    "lure_error_rate": "sampling",
    "match_detections": "detections",
    "measure_calibration": "calibration",
    "model_churn": "churn",
    "reliability_bins": "calibration",
    "replay": "retraining",
    "risk_coverage_area": "finding_errors",
    "risk_coverage_curve": "finding_errors",
    "stratified_error_rate": "sampling",
    "weak_members": "members",
    "weighted_error_rate": "sampling",
    "with_temperature": "calibration",
}


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
