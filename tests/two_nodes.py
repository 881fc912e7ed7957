"""A Ray cluster of two nodes in this machine."""

import os
import sys
from contextlib import contextmanager

import pytest

MEMORY = 80 * 2**20


@contextmanager
def two_nodes(**head):
    """The cluster; its nodes have a processor each, and its head, with options, runs no tasks."""
    from ray import cluster_utils

    with pytest.MonkeyPatch.context() as patch:
        # A node's workers find the tests' functions by name.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        head |= {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
        running = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            running.add_node(num_cpus=1, object_store_memory=MEMORY)
        running.wait_for_nodes()
        yield running
        running.shutdown()
