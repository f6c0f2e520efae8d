"""Connections of the search service: those that ask nothing, too much, or take no answer, end."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Requests that came before the one before them was answered: no client of today sends any.
_MOST_WAITING = 8


class TimedProtocol(HttpToolsProtocol):
    """Close a connection whose next request has not come, head and all, in the keep-alive time.

    Nor may a client let an answer lie for so long. Uvicorn itself waits for ever for a first
    request, for the rest of a head that has begun, and for who does not read: some hundred silent
    clients would keep everyone else out.
    """

    _awaiting: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Read on; wait no longer once a request is there, whose body has limits of its own."""
        super().data_received(data)
        if self.transport.is_closing():
            # What it sent was none.
            self._await_reader()
        elif self._is_answering():
            self._stop_waiting()
        elif not self._awaiting:
            self._await_request()

    def on_headers_complete(self) -> None:
        """Take one more request, where few wait for their turn.

        Uvicorn reads on while requests wait, and holds them all.
        """
        if len(self.pipeline) >= _MOST_WAITING:
            raise ValueError("too many requests at once")
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._go_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """Wait no longer: it has read."""
        self._go_on()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait for the last answer to be read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._await_reader()

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
            self._await_reader()

    def _await_reader(self) -> None:
        if not self._stalled:
            self._stalled = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _go_on(self) -> None:
        if self._stalled:
            self._stalled.cancel()
            self._stalled = None
