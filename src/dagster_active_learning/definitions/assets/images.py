"""``<pool>/images``: the manifest."""

from __future__ import annotations

from functools import partial
from typing import cast

import dagster as dg

from dagster_active_learning.definitions.assets.asset import Results, TableAsset, asset_step
from dagster_active_learning.definitions.manifests import PoolImages
from dagster_active_learning.definitions.metadata.summary import HASH_DIGITS
from dagster_active_learning.definitions.metadata.tables import rows_table, table_metadata
from dagster_active_learning.definitions.pool import Pool
from dagster_active_learning.definitions.specs import Outline, PoolSpecs

TABLE = "images"


def _outlines(pool: Pool, specs: PoolSpecs) -> list[Outline]:  # noqa: ARG001 - the first asset
    manifest = pool.manifest
    if manifest is None:
        return []
    outline = Outline(
        deps=manifest.deps,
        description=(
            "The pool's manifest: the images to choose from, and which of them have their "
            "label already. Materialize it again when images were added or labeled."
        ),
        settings=manifest.settings(),
        kinds={"duckdb", "polars"},
        partitioned=False,
        automated=bool(manifest.deps),
    )
    return [outline]


def _step(pool: Pool, specs: PoolSpecs) -> dg.AssetsDefinition:
    # Without a manifest there is no such asset.
    manifest = cast("PoolImages", pool.manifest)
    materialize = partial(_materialize, pool, manifest)
    return asset_step(pool, specs.of_table(TABLE), TABLE, materialize)


def _materialize(pool: Pool, manifest: PoolImages, context: dg.AssetExecutionContext) -> Results:
    from dagster_active_learning.store.images import image_counts, replace_images

    rows, sha256 = manifest.read()
    with pool.open(context) as store:
        with store.transaction():
            replace_images(store, rows)
        counts = image_counts(store)
        context.log.info(f"{counts.images:,} images, {counts.labeled:,} of them labeled")
        metadata = {
            **table_metadata(store, TABLE, counts.images),
            "labeled": counts.labeled,
            "unlabeled": counts.images - counts.labeled,
            "source": dg.MetadataValue.path(manifest.path),
            "source_sha256": f"{sha256[:HASH_DIGITS]}…",
            "lineage": rows_table([{"what": "SHA-256 of the manifest", "value": sha256}]),
        }
    yield dg.MaterializeResult(
        metadata=metadata, data_version=dg.DataVersion(manifest.data_version(sha256))
    )


IMAGES = TableAsset(TABLE, _outlines, _step)
