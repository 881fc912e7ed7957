"""Numba's compiler where it finds no place for a cache."""

from typing import Any

from numba.core.caching import CacheImpl

from dagster_active_learning.acquisition.compilation import compiled, parallel


def doubled(values):
    return values * 2


def test_what_cannot_be_cached_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    for compile_function in (compiled, parallel):
        function: Any = compile_function(doubled)
        assert function(4) == 8
        assert function.stats.cache_path is None
