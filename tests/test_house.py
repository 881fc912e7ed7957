"""The house: rooms import downwards only, without circles, and only one of them knows Dagster."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "dagster_active_learning"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

ROOMS = [
    ["errors", "limits"],
    ["rules", "text"],
    ["acquisition"],
    ["ranking"],
    ["evaluation"],
    ["files"],
    ["readers"],
    ["store"],
    ["flow"],
    ["engines"],
    ["exporters"],
    ["labeling"],
    ["explanation"],
    ["gallery"],
    ["report"],
    ["definitions"],
]
"""The rooms from below: each may import itself and those before it."""

DAGSTER = {"dagster", "dagster_shared", "dagster_duckdb"}

AT_THE_ROOT = {"__init__.py", "errors.py", "limits.py", "rules.py", "text.py"}


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCE.rglob("*.py")}


@cache
def imports(module):
    """All that a module imports, inside functions and for type checkers too.

    Of this package as module names without the package's, of others as the whole name.
    """
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            # A name may be a module of its own: `from dagster_active_learning import flow`.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package != PACKAGE:
                outside.add(name)
                continue
            while rest not in MODULES:
                rest = rest.rpartition(".")[0]
            inside.add(rest)
    return inside, outside


def room_of(module):
    return module.partition(".")[0]


def height(module):
    (place,) = [place for place, rooms in enumerate(ROOMS) if room_of(module) in rooms]
    return place


def test_the_root_holds_what_several_rooms_need_and_nothing_else():
    assert {path.name for path in SOURCE.glob("*.py")} == AT_THE_ROOT
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= {room for rooms in ROOMS for room in rooms}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {""}))
def test_no_room_imports_one_above_it(module):
    inside, _ = imports(module)
    assert "" not in inside, "the package's public names are for users"
    assert [other for other in inside if height(other) > height(module)] == []


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {""}))
def test_only_definitions_know_dagster(module):
    _, outside = imports(module)
    known = {name for name in outside if name.partition(".")[0] in DAGSTER}
    assert not known or room_of(module) == "definitions"


def test_there_is_no_circle():
    graph = {module: imports(module)[0] - {module} for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")
