"""A pool's asset checks: what Dagster tests after each step, and whenever a user asks for it.

The checks of a table's assets are one step, which only reads. They have no partitions of their own:
in Dagster 1.13 those of a check are a preview, where a run of several partitions never records a
result and a check cannot be run without its asset. A check looks at the prediction sets of its run;
run without partitions, at all sets of the pool.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from dagster_active_learning.definitions.partitions import PREDICTION_SET
from dagster_active_learning.definitions.specs import RESOURCE
from dagster_active_learning.errors import PoolStateError

if TYPE_CHECKING:
    from dagster_active_learning.definitions.component import ActiveLearningComponent
    from dagster_active_learning.store.pool_store import PoolStore


@dataclass(frozen=True)
class _Check:
    """One check of an asset; ``check_results`` has a function of its name."""

    name: str
    description: str
    blocking: bool = False


class PoolChecks:
    """Builds the checks of one pool, one step for each of its tables."""

    def __init__(self, component: "ActiveLearningComponent") -> None:
        self._component = component
        self._has_manifest = component.manifest is not None

    def build(self) -> list[dg.AssetChecksDefinition]:
        """All checks; those against the manifest only where the pool has one."""
        specs = self._component.specs
        of_candidates = self._of_candidates()
        candidates = {spec.key: of_candidates for spec in specs.candidates.values()}
        return [
            self._step("predictions", {specs.predictions.key: self._of_predictions()}),
            self._step("image_scores", {specs.image_scores.key: self._of_image_scores()}),
            self._step("labeling_candidates", candidates),
        ]

    def _of_predictions(self) -> list[_Check]:
        allowed, wanted = self._component.max_quarantined_share, self._component.wanted_coverage
        checks = [
            _Check(
                "valid_class_probabilities",
                f"At most {allowed:.2%} of the rows cannot be scored and are in quarantine. Above "
                "that nothing is scored or ranked in the same run.",
                blocking=True,
            ),
            _Check(
                "no_duplicate_predictions",
                "No prediction says the same about the same image as another one. Of objects, "
                "those with a box or a mask are compared.",
            ),
            _Check(
                "class_names_unchanged",
                "The classes are those of the prediction set that was read before, in their order.",
            ),
        ]
        if self._has_manifest:
            checks.append(
                _Check(
                    "pool_coverage",
                    f"At least {wanted:.2%} of the manifest's images without a label have "
                    "predictions, or the source says that the model found nothing in them.",
                )
            )
        return checks

    def _of_image_scores(self) -> list[_Check]:
        checks = [
            _Check(
                "every_image_scored",
                "Every image with predictions and every image of the manifest has one row, scored "
                "by the predictions that it has, and no other image has one.",
            )
        ]
        # Nothing is above what a sum over predictions can be.
        if self._component.rules.aggregation != "sum":
            checks.append(
                _Check(
                    "scores_in_bounds",
                    "Every score is between the lowest and the highest that its acquisition "
                    "function can give.",
                )
            )
        return checks

    def _of_candidates(self) -> list[_Check]:
        checks = [
            _Check(
                "ranks_without_gaps",
                "Ranks go from 1 on without gaps, in the order of the scores; each image has one.",
            ),
            _Check(
                "candidates_are_fresh",
                "The images were ranked after their predictions were read, and by the scores that "
                "they have now; none is missing that would be ranked now.",
            ),
        ]
        if self._has_manifest:
            checks.append(
                _Check("no_labeled_candidates", "The manifest says of no candidate it is labeled.")
            )
        return checks

    def _step(
        self, table: str, checks: Mapping[dg.AssetKey, Sequence[_Check]]
    ) -> dg.AssetChecksDefinition:
        """The checks of the assets that fill one table."""
        component = self._component
        functions = {component.specs.candidates[one.name].key: one for one in component.functions}
        specs = [
            dg.AssetCheckSpec(
                check.name, asset=asset, description=check.description, blocking=check.blocking
            )
            for asset, of_asset in checks.items()
            for check in of_asset
        ]

        # The Dagster pool is that of the writers: nobody can read while another process writes.
        @dg.multi_asset_check(
            name=f"{component.pool}__{table}_checks",
            specs=specs,
            can_subset=True,
            required_resource_keys={RESOURCE},
            pool=RESOURCE,
        )
        def step(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            from dagster_active_learning.definitions.check_results import RESULTS, CheckRun
            from dagster_active_learning.store.prediction_sets import prediction_set

            with component.open_pool(context, read_only=True) as store:
                sets = [prediction_set(store, name) for name in self._names(context, store)]
                # All before the first is reported: the database is closed while Dagster writes.
                results = [
                    RESULTS[spec.name](
                        CheckRun(component, context, store, spec.key, sets, functions)
                    )
                    for spec in specs
                    if spec.key in context.selected_asset_check_keys
                ]
            yield from results

        return step

    def _names(self, context: dg.AssetCheckExecutionContext, store: "PoolStore") -> Sequence[str]:
        """The prediction sets to look at, at least one."""
        from dagster_active_learning.store.prediction_sets import prediction_set_names

        if self._component.partitions_def is None:
            return [PREDICTION_SET]
        if context.has_partition_key or context.has_partition_key_range:
            return context.partition_keys
        names = prediction_set_names(store)
        if not names:
            raise PoolStateError(
                f"pool {store.pool!r} has no prediction set to check: materialize a partition of "
                f"{self._component.specs.predictions.key.to_user_string()} first"
            )
        return names
