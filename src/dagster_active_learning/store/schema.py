"""The text that makes a pool's tables, filled in from the table of acquisition functions."""

from __future__ import annotations

from importlib import resources

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS

TABLES = (
    "empty_images",
    "image_scores",
    "images",
    "labeling_candidates",
    "prediction_sets",
    "prediction_sources",
    "predictions",
    "quarantined_predictions",
    "rankings",
)
"""The tables of ``schema.sql``."""


def schema_sql() -> str:
    """``schema.sql`` for the acquisition functions that there are now.

    A line with ``{score}`` stands once per function, with the name of its column in place of
    ``{score}`` and the column's comment in place of ``{comment}``.
    """
    folder = resources.files("dagster_active_learning.store")
    lines: list[str] = []
    for line in folder.joinpath("schema.sql").read_text("utf-8").splitlines():
        if "{score}" not in line:
            lines.append(line)
            continue
        for function in ACQUISITION_FUNCTIONS.values():
            of_function = line.replace("{score}", quoted(function.name))
            lines.append(of_function.replace("{comment}", _literal(function.column_comment)))
    return "\n".join(lines)


def newest_columns() -> set[tuple[str, str]]:
    """Tables and columns, all with a comment, that a pool of an earlier version may lack."""
    return {
        ("candidate_lineage", "prediction_set"),
        ("prediction_sets", "aggregation"),
        ("rankings", "ranked_at"),
        *(
            (table, function)
            for table in ("image_scores", "candidate_lineage")
            for function in ACQUISITION_FUNCTIONS
        ),
    }


def quoted(identifier: str) -> str:
    """An identifier as SQL takes it, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
