"""Work of the search service on threads: so much at once, so much waiting, each for so long."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Result = TypeVar("_Result")


class BusyError(Exception):
    """Say that as much is waiting as may wait."""


class Gate:
    """Run calls on so many threads; refuse what would wait behind too many others."""

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._most, self._timeout = threads + waiting, timeout
        self.pending = 0

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """Return what the call returns.

        Raises:
            BusyError: when too many are waiting.
            TimeoutError: when it has taken too long; if it began, it still ends.
        """
        if self.pending >= self._most:
            raise BusyError
        self.pending += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(call)
        # Counted until it ends, not until someone stops waiting: so late ones cannot pile up.
        future.add_done_callback(lambda done: self._count_down(loop, done))
        async with asyncio.timeout(self._timeout):
            return await asyncio.wrap_future(future)

    def _count_down(self, loop: asyncio.AbstractEventLoop, done: Future[_Result]) -> None:
        try:
            loop.call_soon_threadsafe(self._leave)
        except RuntimeError:  # the service is being shut down
            self._leave()

    def _leave(self) -> None:
        self.pending -= 1

    def close(self) -> None:
        """Wait for what has begun, and drop what has not."""
        self._pool.shutdown(cancel_futures=True)
