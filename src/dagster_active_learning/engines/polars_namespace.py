"""The expression namespace ``acquisition`` of polars; importing this module registers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from dagster_active_learning.acquisition.functions import row_functions


@pl.api.register_expr_namespace("acquisition")
class AcquisitionNamespace:
    """Acquisition functions of a column of class probabilities, as polars expressions.

    The column is a List or Array of float32 or float64, with K >= 2 class probabilities in each
    row; float32 is scored in float32. There is one method per acquisition function of the level
    ``"image"``: ``entropy()``, ``least_confidence()``, ``margin()``, ``variance()``, and those that
    are added to ``ACQUISITION_FUNCTIONS``. Each expression is Float64, null where the row is null,
    and depends on its row alone, so that it streams and works within ``group_by`` and ``over``. A
    row that is not a probability distribution (every value finite and in 0..1 and their sum 1, both
    within 1e-3) raises a ValueError that names it and its values; in a streamed query it is counted
    from the start of its batch.

    The namespace is there once this class or another name for data frames (``load_candidates``,
    ``score_images``, ``explain_candidate``, ``register_functions``) is imported from the package;
    ``import dagster_active_learning`` alone loads no polars. Type checkers do not know it:
    ``AcquisitionNamespace(pl.col("class_probs")).entropy()`` is the same expression.

    Example:
        >>> frame = pl.DataFrame({"class_probs": [[0.5, 0.5], [1.0, 0.0]]})
        >>> frame.select(pl.col("class_probs").acquisition.entropy()).to_series().to_list()
        [1.0, 0.0]
    """

    def __init__(self, class_probs: pl.Expr) -> None:
        self._class_probs = class_probs

    def __getattr__(self, name: str) -> Callable[[], pl.Expr]:
        function = row_functions().get(name)
        if function is None:
            raise AttributeError(f"{type(self).__name__!r} has no acquisition function {name!r}")

        def expression() -> pl.Expr:
            return self._scores(name)

        expression.__name__ = name
        expression.__doc__ = function.description
        return expression

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *row_functions()]

    def _scores(self, function: str) -> pl.Expr:
        # Loads Numba, which who only loads candidates does not need.
        from dagster_active_learning.engines.row_scores import row_scores

        def scores(class_probs: pl.Series) -> pl.Series:
            column: Any = class_probs.to_arrow()
            return pl.Series(class_probs.name, row_scores(column, function))

        return self._class_probs.map_batches(scores, return_dtype=pl.Float64, is_elementwise=True)
