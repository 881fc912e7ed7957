"""An acquisition function from outside: the Gini impurity, which no kernel computes."""

import numpy as np

from dagster_active_learning import AcquisitionFunction


def gini_impurity(class_probs):
    return 1 - np.square(class_probs, dtype=np.float64).sum(axis=1)


TOY = AcquisitionFunction(
    name="gini_impurity",
    title="Gini impurity",
    formula="1 - Σ p²",
    description="1 - Σ p²: 0 to 1 - 1/K, high is uncertain.",
    column_comment="1 - Σ p², of a prediction 0 to 1 - 1/K; high is uncertain",
    unit="probability²",
    bounds=lambda n_classes, inputs="probabilities": (0.0, 1 - 1 / n_classes),  # noqa: ARG005
    label_first="highest",
    level="image",
    scores=gini_impurity,
    phrase="two_classes",
)
