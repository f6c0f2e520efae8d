"""What stands before the search service's routes: limits of the body, a log line, counts."""

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Read by the library when it is imported: a folder, where several processes count.
COUNTS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Times the limit: so much of a body that is too large is taken in before it is refused.
_DRAINED = 4
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """Hold the figures that Prometheus asks for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pocketlens_requests", "Requests served", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "pocketlens_request_seconds",
            "Time to answer",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.pending = self._gauge("pending", "Searches that run or wait", "livesum")
        self.items = self._gauge("items", "Items in the index", "livemax")
        self.generation = self._gauge("generation", "Generation served", "livemin")

    def _gauge(
        self, name: str, told: str, joined: Literal["livesum", "livemax", "livemin"]
    ) -> Gauge:
        return Gauge(f"pocketlens_{name}", told, registry=self.registry, multiprocess_mode=joined)

    def write(self) -> bytes:
        """Return the figures as Prometheus reads them, of all workers."""
        if COUNTS_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        collect: Any = MultiProcessCollector
        collect(together)
        return generate_latest(together)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bound the bytes of a search and of a change by who has the token, and the seconds to send."""

    search: int
    change: int
    seconds: float


class Front:
    """Limit the body, log a line of JSON for each request, and count it."""

    def __init__(
        self,
        app: App,
        *,
        metrics: Metrics,
        limits: Limits,
        is_trusted: Callable[[str], bool],
        log: bool,
    ) -> None:
        self._app, self._metrics, self._limits = app, metrics, limits
        self._is_trusted, self._log = is_trusted, log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, read = time.perf_counter(), 500, False
        most = self._find_limit(scope)
        announced = _read_length(scope)
        body: bytes | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                # What is announced as far too large is not read at all.
                if announced <= _DRAINED * most:
                    body = await _read_body(receive, most)
            late = False
        except TimeoutError:
            late = True

        async def receive_again() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if late:
                await _refuse(send_noted, 408, "the body did not come in time")
            elif body is None or announced > most:
                await _refuse(send_noted, 413, f"the body may hold {most} bytes")
            else:
                await self._app(scope, receive_again, send_noted)
        finally:
            taken = time.perf_counter() - started
            # The route's template: what clients make up must not become labels.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(taken)
            if self._log:
                _write_line(scope, status, taken, len(body or b""))

    def _find_limit(self, scope: Message) -> int:
        """Return how long a body may be: of a change, so long only from who has the token."""
        if not scope["path"].startswith("/v1/items"):
            return self._limits.search
        trusted = self._is_trusted(_read_header(scope, b"authorization"))
        return max(self._limits.change if trusted else 0, self._limits.search)


async def _read_body(receive: Receive, most: int) -> bytes | None:
    """Return the body; of a longer one nothing, though some of it is taken in."""
    body, length, more = bytearray(), 0, True
    while more and length <= _DRAINED * most:
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        if length <= most:
            body += part
        more = bool(message.get("more_body"))
    return bytes(body) if length <= most else None


def _read_header(scope: Message, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _read_length(scope: Message) -> int:
    announced = _read_header(scope, b"content-length")
    return int(announced) if announced.isdecimal() and len(announced) < 20 else 0


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _write_line(scope: Message, status: int, taken: float, received: int) -> None:
    client = scope.get("client")
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "client": client[0] if client else "",
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "ms": round(1000 * taken, 2),
        "received": received,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
