"""Work of the search service on threads: so much at once, so much waiting, each for so long."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class BusyError(Exception):
    """Say that as much is waiting as may wait."""


class Gate:
    """Run calls on so many threads; refuse what would wait behind too many others."""

    def __init__(
        self, threads: int, waiting: int, timeout: float, begin: Callable[[], None] | None = None
    ) -> None:
        """Make the threads, each of which calls `begin` first."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search", initializer=begin)
        self._most, self._timeout = threads + waiting, timeout
        self.pending, self._counting = 0, threading.Lock()

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Return what the call returns.

        Raises:
            BusyError: when too many are waiting.
            TimeoutError: when it has taken too long; if it began, it still ends.
        """
        if self.pending >= self._most:
            raise BusyError
        with self._counting:
            self.pending += 1
        future = self._pool.submit(call)
        # Counted until it ends, not until someone stops waiting: so late ones cannot pile up.
        future.add_done_callback(self._leave)
        async with asyncio.timeout(self._timeout):
            return await asyncio.wrap_future(future)

    def _leave(self, done: Future[Any]) -> None:
        # On the thread that did the work.
        with self._counting:
            self.pending -= 1

    def close(self) -> None:
        """Wait for what has begun, and drop what has not."""
        self._pool.shutdown(cancel_futures=True)
