"""Threads that share the machine's cores: what a training step waits for goes first.

A network whose layers run on all cores at once waits at each layer for the slowest core. Parts of
a batch on a core each wait once a step, and while one part is waited for, the other cores prepare
what comes next.
"""

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

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
        self._tasks: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]]
        self._tasks = queue.PriorityQueue()
        self._serial = itertools.count()
        self._waiting: set[Future[Any]] = set()
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
        for future in list(self._waiting):
            future.cancel()
        for _ in self._threads:
            self._tasks.put((_URGENT, next(self._serial), None))
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _put(self, priority: int, tasks: Sequence[Callable[[], _Result]]) -> list[Future[_Result]]:
        futures: list[Future[_Result]] = []
        for task in tasks:
            future: Future[_Result] = Future()
            futures.append(future)
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)
            self._tasks.put((priority, next(self._serial), _bind(future, task)))
        return futures

    def _work(self, cores: int) -> None:
        use_cores(cores)
        while (task := self._tasks.get()[2]) is not None:
            task()


def _bind(future: Future[_Result], task: Callable[[], _Result]) -> Callable[[], None]:
    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)

    return run
