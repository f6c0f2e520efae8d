"""Connections of the search service: those that ask for nothing are closed."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class TimedProtocol(HttpToolsProtocol):
    """Close a connection whose next request has not come, head and all, in the keep-alive time.

    Uvicorn itself waits for ever for a first request, and for the rest of a head that has begun:
    some hundred silent clients would keep everyone else out.
    """

    _awaiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Read on; wait no longer once a request is there, whose body has limits of its own."""
        super().data_received(data)
        if self._is_answering():
            self._stop_waiting()
        elif not self._awaiting:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_request(self) -> None:
        self._awaiting = self.loop.call_later(self.timeout_keep_alive, self._close_silent)

    def _stop_waiting(self) -> None:
        if self._awaiting:
            self._awaiting.cancel()
            self._awaiting = None

    def _close_silent(self) -> None:
        self._awaiting = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.close()
