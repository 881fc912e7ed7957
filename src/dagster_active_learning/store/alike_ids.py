"""Ids of predictions and of the manifest that differ in form only.

Nothing is matched by them: who names an image otherwise has to say so. But of an image that is
nearly named, nobody knows that the model found no object in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dagster_active_learning.files.image_folder import IMAGE_SUFFIXES
from dagster_active_learning.store.pool_store import PoolStore
from dagster_active_learning.store.set_rows import of_sets

_SUFFIXES = "|".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)

FORMS: Mapping[str, str] = MappingProxyType(
    {
        "\\ for /": r"replace({id}, '\', '/')",
        "a leading ./": (
            r"CASE WHEN starts_with({id}, './') THEN regexp_replace({id}, '^(\./+)+', '') "
            "ELSE {id} END"
        ),
        "Unicode normal form": "nfc_normalize({id})",
        "upper and lower case": "lower({id})",
        "suffix": rf"regexp_replace({{id}}, '\.({_SUFFIXES})$', '')",
        "a trailing .0": (
            r"CASE WHEN suffix({id}, '.0') THEN regexp_replace({id}, '(^|/)([0-9]+)\.0$', '\1\2') "
            "ELSE {id} END"
        ),
        "leading zeros": r"regexp_replace({id}, '(^|/)0+([0-9]+)$', '\1\2')",
        # Only where one of two ids has no folder: train/1 and test/1 are two images.
        "folder": "parse_filename({id}, false, 'forward_slash')",
    }
)
"""Differences in form, and the SQL that takes each away; one after the other, in this order."""


IDS = "SELECT prediction_set, image_id, image_id AS path FROM {table}"
PATHS = "SELECT * REPLACE ({form} AS path) FROM ({query})"
NAMES = "SELECT *, {form} AS name FROM ({query})"


def _forms(table: str) -> str:
    """The ids of a table, each with its ``path`` in the last form but one and its ``name``."""
    *others, folder = FORMS.values()
    query = IDS.format(table=table)
    for form in others:
        query = PATHS.format(form=form.format(id="path"), query=query)
    return NAMES.format(form=folder.format(id="path"), query=query)


PAIRS = "SELECT *, image_id AS one, predicted_id AS other, NULL AS difference FROM alike"
PAIRS_IN_FORM = "SELECT * REPLACE ({one} AS one, {other} AS other) FROM ({query})"
DIFFERENCES = """
SELECT * REPLACE (coalesce(difference, CASE WHEN one = other THEN {number} END) AS difference)
FROM ({query})
"""


def _differences() -> str:
    """The pairs of ``alike`` with the number of the form in which they are the same, from 1."""
    query = PAIRS
    for number, form in enumerate(FORMS.values(), 1):
        one, other = form.format(id="one"), form.format(id="other")
        query = PAIRS_IN_FORM.format(one=one, other=other, query=query)
        query = DIFFERENCES.format(number=number, query=query)
    return query


# Rows in quarantine for another reason name an image too.
IDS_NOT_IN_MANIFEST = """
FROM (
    SELECT prediction_set, image_id FROM quarantined_predictions
    WHERE prediction_set IN $prediction_sets
    UNION
    SELECT prediction_set, image_id FROM empty_images WHERE prediction_set IN $prediction_sets
) p ANTI JOIN images i ON p.image_id = i.image_id
WHERE p.image_id IS NOT NULL
"""

SETS_WITH_OTHER_IDS = f"SELECT DISTINCT prediction_set {IDS_NOT_IN_MANIFEST} ORDER BY ALL"

# Of each form only one id is compared: a thousand ids of one form are not a million pairs.
ALIKE = """
WITH others AS (SELECT prediction_set, p.image_id {others}),
predicted AS MATERIALIZED ({predicted}),
by_path AS (
    SELECT prediction_set, path, min(image_id) AS predicted_id
    FROM predicted GROUP BY prediction_set, path
),
by_name AS (
    SELECT prediction_set, name, min(image_id) AS predicted_id
    FROM predicted GROUP BY prediction_set, name
),
unnamed AS (
    SELECT s.prediction_set, i.image_id
    FROM (SELECT unnest($prediction_sets) AS prediction_set) s CROSS JOIN images i
    ANTI JOIN (
        SELECT prediction_set, image_id FROM {{predictions}}
        UNION ALL
        SELECT prediction_set, image_id FROM empty_images WHERE prediction_set IN $prediction_sets
        UNION ALL
        SELECT prediction_set, image_id FROM quarantined_predictions
        WHERE prediction_set IN $prediction_sets
    ) named ON s.prediction_set = named.prediction_set AND i.image_id = named.image_id
),
in_manifest AS MATERIALIZED ({in_manifest}),
found AS (
    SELECT i.prediction_set, i.image_id, p.predicted_id, 0 AS folders
    FROM in_manifest i JOIN by_path p ON i.prediction_set = p.prediction_set AND i.path = p.path
    UNION ALL
    SELECT i.prediction_set, i.image_id, p.predicted_id, 1
    FROM in_manifest i JOIN by_path p ON i.prediction_set = p.prediction_set AND i.name = p.path
    WHERE i.path != i.name
    UNION ALL
    SELECT i.prediction_set, i.image_id, p.predicted_id, 1
    FROM in_manifest i JOIN by_name p ON i.prediction_set = p.prediction_set AND i.path = p.name
)
SELECT prediction_set, image_id, min_by(predicted_id, folders) AS predicted_id
FROM found GROUP BY prediction_set, image_id
"""

ALIKE_IDS = ALIKE.format(
    others=IDS_NOT_IN_MANIFEST, predicted=_forms("others"), in_manifest=_forms("unnamed")
)
"""The images of the manifest that sets nearly name: prediction_set, image_id and predicted_id."""

ALIKE_OF_FIRST = """
WITH alike AS ({alike})
SELECT image_id, predicted_id FROM alike SEMI JOIN (
    SELECT image_id FROM labeling_candidates WHERE prediction_set = $prediction_set
        AND list_contains($acquisition_functions, acquisition_function) AND rank <= $first
        AND prediction_count = 0
) USING (image_id)
"""

ALIKE_BY_DIFFERENCE = """
WITH alike AS ({alike})
SELECT prediction_set, difference, count(*), min(image_id), min_by(predicted_id, image_id)
FROM ({differences}) GROUP BY prediction_set, difference ORDER BY ALL
"""


@dataclass(frozen=True)
class AlikeIds:
    """Images of the manifest whose ids differ in one form from ids that predictions name.

    Attributes:
        prediction_set: The set of the predictions.
        difference: A key of ``FORMS``: the last of them that has to be taken away.
        image_count: Number of these images.
        image_id: The first of them.
        predicted_id: The id that the predictions have instead.
    """

    prediction_set: str
    difference: str
    image_count: int
    image_id: str
    predicted_id: str


def sets_with_other_ids(store: PoolStore, prediction_sets: Sequence[str]) -> list[str]:
    """Those of the sets that name images which the manifest does not have."""
    rows = store.rows(SETS_WITH_OTHER_IDS, prediction_sets=list(prediction_sets))
    return [name for (name,) in rows]


def alike_ids(store: PoolStore, prediction_sets: Sequence[str]) -> list[AlikeIds]:
    """The images that predictions nearly name, by set and difference; none if there is none.

    Only images that no row of a set names, and ids that the manifest does not have, are compared.
    """
    names = sets_with_other_ids(store, prediction_sets)
    if not names:
        return []
    query = of_sets(
        store, names, ALIKE_BY_DIFFERENCE.format(alike=ALIKE_IDS, differences=_differences())
    )
    differences = [*FORMS]
    return [
        AlikeIds(prediction_set, differences[number - 1], *found)
        for prediction_set, number, *found in store.rows(query, prediction_sets=names)
    ]


def alike_of_first(
    store: PoolStore, prediction_set: str, functions: Sequence[str], first: int
) -> dict[str, str]:
    """The first candidates of some functions that predictions nearly name, with the id there."""
    if not sets_with_other_ids(store, [prediction_set]):
        return {}
    rows = store.rows(
        of_sets(store, [prediction_set], ALIKE_OF_FIRST.format(alike=ALIKE_IDS)),
        prediction_set=prediction_set,
        prediction_sets=[prediction_set],
        acquisition_functions=list(functions),
        first=first,
    )
    return dict(rows)
