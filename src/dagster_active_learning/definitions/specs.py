"""The specs of a pool's assets: keys, dependencies, descriptions, code versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_active_learning.definitions.automation import FOLLOW_UPSTREAM
from dagster_active_learning.definitions.code_versions import code_version
from dagster_active_learning.definitions.pool import Pool, PoolAsset
from dagster_active_learning.errors import SettingError

if TYPE_CHECKING:
    from dagster._core.definitions.assets.definition.asset_dep import CoercibleToAssetDep


@dataclass(frozen=True, kw_only=True)
class Outline:
    """The description of an asset from which its spec is made.

    Attributes:
        deps: The assets that it is made of.
        description: Its description in the UI.
        settings: The settings that its content depends on, by name, but those that have their
            default: they make its code version.
        kinds: Dagster's kinds.
        acquisition_function: For candidates, the function they are ranked by.
        skippable: Whether a step may leave it out.
        partitioned: Whether it has a partition for each prediction set.
        stored: Whether it is a table.
        automated: Whether it follows what it depends on, where the pool is automated.
        freshness_policy: How old it may be.
    """

    deps: Sequence[CoercibleToAssetDep]
    description: str
    settings: Mapping[str, Any]
    kinds: set[str]
    acquisition_function: str | None = None
    skippable: bool = False
    partitioned: bool = True
    stored: bool = True
    automated: bool = True
    freshness_policy: dg.FreshnessPolicy | None = None


class PoolSpecs:
    """The specs of a pool's assets, each as the pool's ``get_asset_spec`` gives it.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._specs: dict[PoolAsset, dg.AssetSpec] = {}

    def __iter__(self) -> Iterator[dg.AssetSpec]:
        """All specs, in the order of the flow."""
        yield from self._specs.values()

    def of_table(self, table: str) -> list[dg.AssetSpec]:
        """The specs of the assets that fill a table; none where the pool does not have it."""
        return [spec for asset, spec in self._specs.items() if asset.table == table]

    def keys(self, table: str) -> list[dg.AssetKey]:
        """The keys of the assets that fill a table."""
        return [spec.key for spec in self.of_table(table)]

    def key(self, table: str, acquisition_function: str | None = None) -> dg.AssetKey:
        """The key of an asset that the pool has."""
        return self._specs[PoolAsset(self._pool.name, table, acquisition_function)].key

    def functions(self, table: str) -> dict[dg.AssetKey, str | None]:
        """The acquisition functions by the assets that fill a table."""
        return {
            spec.key: asset.acquisition_function
            for asset, spec in self._specs.items()
            if asset.table == table
        }

    def add(self, table: str, outline: Outline) -> None:
        """Make the spec of one more asset.

        Raises:
            SettingError: If the pool's ``get_asset_spec`` gives it a key that another asset has, or
                other partitions.
        """
        pool = self._pool
        asset = PoolAsset(pool.name, table, outline.acquisition_function)
        partitions_def = pool.partitions_def if outline.partitioned else None
        follows = pool.automation and outline.automated
        function = [outline.acquisition_function] if outline.acquisition_function else []
        spec = dg.AssetSpec(
            [pool.name, table, *function],
            deps=outline.deps,
            description=outline.description,
            group_name=pool.group_name or pool.name,
            kinds=outline.kinds,
            code_version=code_version(outline.settings),
            metadata={"dagster/table_name": f"{pool.name}.{table}"} if outline.stored else {},
            skippable=outline.skippable,
            partitions_def=partitions_def,
            automation_condition=FOLLOW_UPSTREAM if follows else None,
            freshness_policy=outline.freshness_policy,
        )
        spec = pool.get_asset_spec(spec, asset)
        if spec.partitions_def != partitions_def:
            raise SettingError(
                "translation",
                f"translation gives {spec.key.to_user_string()} partitions of its own: set "
                "partitions_def of the pool instead",
            )
        self._specs[asset] = spec

    def check_keys(self) -> None:
        """Raise SettingError if two assets have the same key."""
        keys = [spec.key.to_user_string() for spec in self]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise SettingError(
                "translation",
                f"translation gives {len(repeated)} assets the key {repeated[0]!r}, expected one "
                "for each: make it of table and acquisition_function, or set key_prefix",
            )
