"""The checks of ``<pool>/exported_candidates``."""

from __future__ import annotations

import dagster as dg

from dagster_active_learning.definitions.checks.check import WARN, CheckRun, check


@check(
    "every_candidate_exported",
    lambda pool: (
        "No candidate is left out because it has its label by now or left the manifest, and "
        "every ranking is of the predictions and scores that are stored."
        if pool.candidate_files
        else None
    ),
)
def every_candidate_exported(run: CheckRun) -> dg.AssetCheckResult:
    """Candidates that the files leave out, and rankings that cannot be exported as they are."""
    from dagster_active_learning.store.candidate_findings import done_candidates
    from dagster_active_learning.store.rankings import outdated_rankings

    functions = [function.name for function in run.pool.functions]
    left_out = done_candidates(run.store, run.names, functions)
    outdated = outdated_rankings(run.store, run.names, functions)
    wrong = bool(left_out.count or outdated.count)
    return run.result(
        not wrong,
        f"{left_out.count:,} candidates have their label by now or left the manifest and are left "
        f"out, {outdated.count:,} rankings are of other predictions or scores than are stored"
        + ": materialize the candidates and the files again"
        * wrong,
        {"left_out": left_out.count, "outdated_rankings": outdated.count},
        left_out.examples or outdated.examples,
        WARN,
    )


CHECKS = (every_candidate_exported,)
