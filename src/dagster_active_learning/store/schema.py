"""The text that makes a pool's tables, filled in from the table of acquisition functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from itertools import chain

from dagster_active_learning.acquisition.functions import ACQUISITION_FUNCTIONS

TABLES = (
    "batch_selections",
    "empty_images",
    "former_prediction_sources",
    "images",
    "in_place_files",
    "in_place_sets",
    "labeling_batches",
    "labeling_candidates",
    "labeling_tasks",
    "labels",
    "near_duplicates",
    "predicted_classes",
    "prediction_sets",
    "prediction_sources",
    "quarantined_labels",
    "quarantined_predictions",
    "ranking_statistics",
    "rankings",
    "relabeled_images",
    "rule_evaluations",
    "schema_version",
    "scorings",
    "unfinished_exports",
)
"""The tables of ``schema.sql``."""

VIEWS = ("candidate_lineage", "image_scores", "prediction_set_changes", "predictions")
"""The views of ``views.sql``."""

_FILES = ("schema.sql", "views.sql")

PACKAGE = "dagster-active-learning"


def schema_sql() -> str:
    """The statements that make the tables which a pool has once."""
    return "\n".join(_template("schema.sql"))


def with_rows(statement: str, rows: Callable[[str], str]) -> str:
    """A statement with a query in place of ``{predictions}`` and ``{image_scores}``.

    Args:
        statement: The statement.
        rows: Gives the query for one of the two names.
    """
    return re.sub(r"\{(predictions|image_scores)\}", lambda place: f"({rows(place[1])})", statement)


def views_sql() -> str:
    """``views.sql`` for the acquisition functions that there are now.

    A line with ``{score}`` stands once per function, with the name of its column in place of
    ``{score}`` and the column's comment in place of ``{comment}``.
    """
    lines: list[str] = []
    for line in _template("views.sql"):
        if "{score}" not in line:
            lines.append(line)
            continue
        for function in ACQUISITION_FUNCTIONS.values():
            of_function = line.replace("{score}", quoted(function.name))
            lines.append(of_function.replace("{comment}", literal(function.column_comment)))
    return "\n".join(lines)


def known_columns() -> set[tuple[str, str]]:
    """The columns of the tables and the view, each with its table's name: all have a comment."""
    columns: set[tuple[str, str]] = set()
    for line in chain.from_iterable(map(_template, _FILES)):
        if explained := re.match(r"COMMENT ON COLUMN (\w+)\.(\w+|{score}) IS", line):
            table, column = explained.groups()
            names = ACQUISITION_FUNCTIONS if column == "{score}" else [column]
            columns.update((table, name) for name in names)
    return columns


@cache
def _template(file: str) -> list[str]:
    folder = resources.files("dagster_active_learning.store")
    return folder.joinpath(file).read_text("utf-8").splitlines()


def quoted(identifier: str) -> str:
    """An identifier as SQL takes it, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it, whatever it contains."""
    return "'" + text.replace("'", "''") + "'"
