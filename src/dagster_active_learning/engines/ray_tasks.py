"""Tasks on a Ray cluster.

Plain tasks with retries: of what Ray has, they are what survives the loss of a node. Nothing of Ray
is loaded before tasks run.
"""

# Ray is an extra; its types are not there where it is not.
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_active_learning.engines.local_workers import ENVIRONMENT
from dagster_active_learning.errors import EngineError, SettingError

if TYPE_CHECKING:
    from dagster_active_learning.flow.engine import Result, Task
    from dagster_active_learning.flow.progress import Report

RETRIES = 5
"""How often a task is begun again whose worker or node is gone before it has ended."""

OUT_OF_MEMORY_RETRIES = "RAY_task_oom_retries"
"""Ray's own setting for tasks that it ends where a node runs out of memory; else it begins them
again forever."""

SECONDS_FOR_ANSWER = 10
"""For how long a cluster may take to answer at all."""

SECONDS_OF_SILENCE = 30
"""How long no task has to end until it is reported what the cluster has."""

SECONDS_BETWEEN_LOOKS = 0.2
"""How often it is looked which tasks have ended; results that are there come at once."""


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
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        report: Report = lambda _: None,
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
        from dagster_active_learning.store.schema import PACKAGE

        with ExitStack() as closing:
            if not ray.is_initialized():
                self._connect()
                closing.callback(ray.shutdown)
            # Numba reads it when it is loaded; the folder is one of the node's own.
            environment = {**ENVIRONMENT, **_values(["NUMBA_CACHE_DIR"])}
            remote = ray.remote(
                num_cpus=1,
                max_retries=RETRIES,
                runtime_env={"env_vars": environment},
            )(_on_node(PACKAGE, version(PACKAGE)))
            values = _values(self.environment)
            waiting: dict[Any, Any] = {}
            closing.callback(_cancel, waiting)
            for task in tasks:
                named = remote.options(name=f"{function.__name__}: {task}")
                waiting[named.remote(pickle.dumps((function, task)), values)] = task
            silent_since = time.monotonic()
            while waiting:
                # A look at ten thousand tasks takes some milliseconds.
                done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
                if not done:
                    # Here, and not in Ray's code, Dagster's interruption is to come.
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    if time.monotonic() - silent_since < SECONDS_OF_SILENCE:
                        continue
                    report(_waiting(len(waiting)))
                silent_since = time.monotonic()
                for one in done:
                    task = waiting.pop(one)
                    try:
                        result = ray.get(one)
                    except RayTaskError as error:
                        raise _of_task(error.cause, task) from None
                    except RayError as error:
                        # What follows are all processes of the node.
                        (reason, *_) = str(error).splitlines()
                        raise EngineError(
                            f"workers were lost again and again over one task: {task}; the last "
                            f"one so: {reason.rstrip('.')}; give nodes more memory, or files "
                            "smaller row groups"
                        ) from error
                    yield result

    def _connect(self) -> None:
        """Connect this process to the cluster.

        Raises:
            EngineError: If there is none.
        """
        import ray

        address = self.address
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS", address)
        # The process that owns the tasks reads it: this one, or that of the client server.
        os.environ.setdefault(OUT_OF_MEMORY_RETRIES, str(RETRIES))
        for_client = None
        if address.startswith("ray://"):
            for_client = {"env_vars": _values([OUT_OF_MEMORY_RETRIES])}
        on_termination = signal.getsignal(signal.SIGTERM)
        try:
            _check_answer(address)
            try:
                ray.init(address=address, log_to_driver=False, runtime_env=for_client)
            except ConnectionAbortedError:
                # The process that a client server forks for a driver may break while it starts.
                ray.init(address=address, log_to_driver=False, runtime_env=for_client)
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineError(
                f"the Ray cluster at {address!r} cannot be used: {error}; expected the address of "
                "one that runs, with this Ray and Python, such as 'ray://head:10001', or 'auto' on "
                "one of its nodes"
            ) from error
        finally:
            # Ray's own ends the process without a word to Dagster.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_termination)


def _values(names: Sequence[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _cancel(waiting: Mapping[Any, Any]) -> None:
    """End the tasks that nobody waits for any more."""
    import ray

    for task in waiting:
        ray.cancel(task, force=True)


def _check_answer(address: str) -> None:
    """Raise ConnectionError if nothing at an address answers: Ray itself tries for minutes."""
    place = address.removeprefix("ray://")
    # Other schemes are those of other packages. With TLS only Ray knows how to ask.
    if ":" not in place or "://" in place or os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return
    import grpc

    with grpc.insecure_channel(place.partition("/")[0]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=SECONDS_FOR_ANSWER)
        except grpc.FutureTimeoutError:
            raise ConnectionError(f"no answer within {SECONDS_FOR_ANSWER} seconds") from None


def _of_task(error: Exception, task: Any) -> Exception:
    """What a task has raised; of a package that a node lacks, that it is the node that lacks it."""
    if isinstance(error, ImportError):
        return EngineError(f"a node cannot run {task}: {error}")
    return error


def _waiting(count: int) -> str:
    """What is known of a cluster of which no result has come for a while."""
    import ray

    of_all, free = (
        resources.get("CPU", 0)
        for resources in (ray.cluster_resources(), ray.available_resources())
    )
    return (
        f"{count:,} tasks run or wait on Ray, none has ended for {SECONDS_OF_SILENCE} seconds: the "
        f"cluster has {of_all:g} processors, of which {free:g} are free; a task takes one"
    )


def _on_node(package: str, wanted: str) -> Callable[[bytes, Mapping[str, str]], Any]:
    """What a node runs. A local function goes there as it is: this package may be another there."""

    def run(pickled: bytes, environment: Mapping[str, str]) -> Any:
        """Run a task; the function is loaded once the environment is there."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version(package)
        except PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise ImportError(
                f"it has {package} {found}, and the step has {wanted}: expected the same on all "
                "nodes"
            )
        os.environ.update(environment)
        import pyarrow as pa

        pa.set_cpu_count(1)
        function, task = pickle.loads(pickled)  # noqa: S301 - of this package's own process
        try:
            return function(task)
        except Exception as error:
            from dagster_active_learning.engines.local_workers import sendable

            raise sendable(error, task) from None

    return run
