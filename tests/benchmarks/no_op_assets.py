"""Assets that do nothing, in the shape that a JSON file gives: Dagster's own share of a run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg


def _step(shape: dict[str, Any]) -> dg.AssetsDefinition:
    specs = [
        dg.AssetSpec(dg.AssetKey(key), deps=[dg.AssetKey(parent) for parent in parents])
        for key, parents in shape["assets"]
    ]

    @dg.multi_asset(name=shape["name"], specs=specs)
    def no_op() -> Iterator[dg.MaterializeResult]:
        for spec in specs:
            yield dg.MaterializeResult(asset_key=spec.key)

    return no_op


defs = dg.Definitions(
    [_step(shape) for shape in json.loads(Path(os.environ["NO_OP_SHAPE"]).read_text())],
    executor=dg.in_process_executor,
)
