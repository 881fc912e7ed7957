"""The long form of the fault tests, and what a run of them found."""

from __future__ import annotations

import multiprocessing

import pytest

from faults.children import PRELOADED, Child, run_steps


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="fault tests with all their repetitions (four hours)"
    )


@pytest.fixture
def long(request) -> bool:
    """Whether the tests run in their long form."""
    return request.config.getoption("--long", default=False)


@pytest.fixture(scope="session")
def processes():
    """Where child processes come from: each is new, but what takes seconds to import is there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture(scope="module")
def worker(processes):
    """A process that runs steps and is left in peace."""
    child = Child(processes, run_steps)
    yield child
    child.kill()
