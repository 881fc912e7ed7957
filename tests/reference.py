"""The formulas in plain float64 NumPy: what the kernels are compared with."""

import numpy as np
import numpy.typing as npt

ROW_SCORES = ("entropy", "least_confidence", "margin", "variance", "mean_object_score")


def prediction_scores(class_probs: npt.ArrayLike) -> dict[str, npt.NDArray[np.float64]]:
    """The scores of every row under every function; mean_object_score is the row's largest."""
    p = np.asarray(class_probs, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p), 0.0)  # 0·log 0 = 0; a legal -1e-4 counts as 0
    ordered = np.sort(p, axis=1)
    return {
        "entropy": -terms.sum(axis=1),
        "least_confidence": 1 - ordered[:, -1],
        "margin": ordered[:, -1] - ordered[:, -2],
        "variance": p.var(axis=1),
        "mean_object_score": ordered[:, -1],
    }


def uncertainties(name, scores, n_classes: int, *, independent=False):
    """Scores on the scale 0..1, where 1 is the most uncertain."""
    k = n_classes
    if name in ("margin", "mean_object_score"):
        return 1 - scores
    if name == "entropy":
        return scores / (k if independent else np.log2(k))
    if name == "least_confidence":
        return scores if independent else scores * k / (k - 1)
    return 1 - scores / ((k // 2) * (k - k // 2) / k**2 if independent else (k - 1) / k**2)


def image_scores(class_probs: npt.ArrayLike, image_ids: list) -> dict[str, dict[str, float]]:
    """The scores of every image: the mean over its rows, in order of first appearance."""
    rows = prediction_scores(class_probs)
    means = {}
    for image_id in dict.fromkeys(image_ids):
        members = [row for row, one in enumerate(image_ids) if one == image_id]
        means[image_id] = {name: float(np.mean(rows[name][members])) for name in ROW_SCORES}
    return means
