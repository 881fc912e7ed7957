"""Evaluation of rules and models by labels: which function finds errors, and can one believe it.

Pure functions: NumPy in, numbers out. Neither Dagster nor a database is needed.
"""

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
