"""Threads that share the machine's cores: what a training step waits for goes first.

A network whose layers run on all cores at once waits at each layer for the slowest core. Parts of
a batch on a core each wait once a step, and while one part is waited for, the other cores prepare
what comes next.
"""

import contextlib
import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Self, TypeVar

import torch

from encoder.inference import use_cores
from encoder.memory import count_cores

_Result = TypeVar("_Result")
# More parts of a batch than this are too small to be worth a thread each.
_MOST_ON_CPU = 8
_URGENT, _AHEAD = 0, 1


class CoreWorkers:
    """Run tasks on threads that divide the cores among them, urgent tasks first.

    Beside an accelerator every core has a thread. On a CPU, where the tasks are networks, there are
    at most eight, and each uses as many cores as there are for it.
    """

    def __init__(self, device: torch.device) -> None:
        cores = count_cores()
        self.count = cores if device.type != "cpu" else min(cores, _MOST_ON_CPU)
        self._tasks: queue.PriorityQueue[tuple[int, int, _Task[Any] | None]] = queue.PriorityQueue()
        self._serial = itertools.count()
        self._threads = [
            threading.Thread(target=self._work, args=(cores // self.count,), daemon=True)
            for _ in range(self.count)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, tasks: Sequence[Callable[[], _Result]]) -> list[Future[_Result]]:
        """Start tasks that are done when nothing is waited for, in order."""
        return self._put(_AHEAD, tasks)

    def run(self, tasks: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """Return what the tasks return, done before all others."""
        return [future.result() for future in self._put(_URGENT, tasks)]

    def close(self) -> None:
        """Forget what is not begun and stop the threads."""
        with contextlib.suppress(queue.Empty):
            while (task := self._tasks.get_nowait()[2]) is not None:
                task.future.cancel()
        for _ in self._threads:
            self._tasks.put((_URGENT, next(self._serial), None))
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _put(self, priority: int, tasks: Sequence[Callable[[], _Result]]) -> list[Future[_Result]]:
        if threading.current_thread() in self._threads:
            raise RuntimeError("a task must not wait for tasks: its thread is what they wait for")
        begun = [_Task(Future[_Result](), task) for task in tasks]
        for task in begun:
            self._tasks.put((priority, next(self._serial), task))
        return [task.future for task in begun]

    def _work(self, cores: int) -> None:
        use_cores(cores)
        while (task := self._tasks.get()[2]) is not None:
            task.run()


@dataclasses.dataclass(frozen=True)
class _Task(Generic[_Result]):
    future: Future[_Result]
    call: Callable[[], _Result]

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.call())
        except BaseException as error:
            self.future.set_exception(error)
