"""Tasks on a Ray cluster.

Plain tasks with retries: of what Ray has, they are what survives the loss of a node. Nothing of Ray
is loaded before tasks run.
"""

# Ray is an extra; its types are not there where it is not.
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster_active_learning.engines.local_workers import ENVIRONMENT
from dagster_active_learning.errors import ActiveLearningError, EngineError, SettingError

if TYPE_CHECKING:
    from dagster_active_learning.flow.engine import Result, Task

RETRIES = 5
"""How often a task is begun again whose worker or node is gone before it has ended."""


@dataclass(frozen=True)
class RayTasks:
    """The tasks of a Ray cluster, which has this package on all its nodes.

    Each task has a processor. The nodes read the files and write to the storage themselves: paths
    have to be the same for all, or addresses. A cluster that this process is connected to already
    is taken as it is, whatever the address.

    Args:
        address: The cluster's address, as ``ray.init`` takes it: ``"auto"`` is the one that this
            machine belongs to, ``"local"`` a new one on this machine, ``"ray://host:10001"`` one
            elsewhere.
        environment: Names of variables of this process's environment that the tasks get, such as
            ``"AWS_SECRET_ACCESS_KEY"``; without it they have what their node has. The values go
            with the tasks: Ray shows its own runtime environments in logs.

    Raises:
        SettingError: If the address is no text, or a name is none.

    Example:
        >>> RayTasks("ray://host:10001", environment=["AWS_PROFILE"]).address
        'ray://host:10001'
    """

    address: str = "auto"
    environment: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.address, str) or not self.address:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError(
                "engine", f"address is {self.address!r}, expected one such as 'ray://host:10001'"
            )
        names = self.environment
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise SettingError(
                "engine", f"environment is {names!r}, expected a list of names of variables"
            )

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Generator[Result, Any, None]:
        """The results of all tasks, each as soon as it is there; see ``flow.engine.Engine``."""
        try:
            import ray
            from ray.exceptions import RayError, RayTaskError
        except ImportError as error:
            raise EngineError(
                "the engine is Ray, which is not installed: pip install "
                "'dagster-active-learning[ray]'"
            ) from error
        with ExitStack() as closing:
            if not ray.is_initialized():
                try:
                    ray.init(address=self.address, log_to_driver=False)
                except (ConnectionError, RuntimeError, ValueError) as error:
                    raise EngineError(
                        f"there is no Ray cluster at {self.address!r}: {error}"
                    ) from error
                closing.callback(ray.shutdown)
            # Numba reads it when it is loaded; the folder is one of the node's own.
            environment = {**ENVIRONMENT, **_values(["NUMBA_CACHE_DIR"])}
            remote = ray.remote(
                num_cpus=1,
                max_retries=RETRIES,
                runtime_env={"env_vars": environment},
            )(_run)
            values = _values(self.environment)
            waiting = {
                remote.remote(pickle.dumps((function, task)), values): task for task in tasks
            }
            closing.callback(_cancel, waiting)
            while waiting:
                (done,), _ = ray.wait(list(waiting))
                task = waiting.pop(done)
                try:
                    result = ray.get(done)
                except RayTaskError as error:
                    if isinstance(error.cause, ActiveLearningError):
                        raise error.cause from None
                    raise
                except RayError as error:
                    raise EngineError(
                        f"workers were lost {RETRIES + 1} times over one task, the last one so: "
                        f"{error}: {task}; give nodes more memory, or files smaller row groups"
                    ) from error
                yield result


def _values(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _cancel(waiting: Mapping[Any, Any]) -> None:
    """End the tasks that nobody waits for any more."""
    import ray

    for task in waiting:
        ray.cancel(task, force=True)


def _run(pickled: bytes, environment: Mapping[str, str]) -> Any:
    """Run a task on a node; the function is loaded once the environment is there."""
    os.environ.update(environment)
    import pyarrow as pa

    pa.set_cpu_count(1)
    function, task = pickle.loads(pickled)  # noqa: S301 - of this package's own process
    return function(task)
