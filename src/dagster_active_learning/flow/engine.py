"""The seam to what runs tasks elsewhere: in processes of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

from dagster_active_learning.flow.progress import Report

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs one function over many tasks.

    A task may be run twice, and by two workers at a time: it writes the same bytes each time.
    """

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], report: Report
    ) -> Generator[Result, Any, None]:
        """The results of all tasks, each as soon as it is there, in no certain order.

        Closing the generator ends the tasks that run.

        Args:
            function: A function of a module, so that its name alone finds it elsewhere.
            tasks: Small values that can be pickled, as the results can.
            report: Takes what is to be known meanwhile, such as that workers are waited for.

        Raises:
            ActiveLearningError: If a task raises one; the others are ended.
            EngineError: If the workers of a task are lost again and again.
        """
        ...
