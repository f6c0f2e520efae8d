"""What stands before the search service's routes: limits of the body, a log line, counts."""

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


class Front:
    """Limit the body, log a line of JSON for each request, and count it."""

    def __init__(self, app: App, *, metrics: Metrics, max_body: int, log: bool) -> None:
        self._app, self._metrics, self._max_body, self._log = app, metrics, max_body, log

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        announced = _announced_length(scope)
        # What is announced as far too large is not read at all.
        most = 0 if announced > _DRAINED * self._max_body else _DRAINED * self._max_body
        body = await _read_body(receive, most)
        read = False

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
            if max(len(body), announced) > self._max_body:
                await _refuse(send_noted, 413, f"the body may hold {self._max_body} bytes")
            else:
                await self._app(scope, receive_again, send_noted)
        finally:
            taken = time.perf_counter() - started
            # The route's template: what clients make up must not become labels.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(taken)
            if self._log:
                _write_line(scope, status, taken, len(body))


async def _read_body(receive: Receive, most: int) -> bytes:
    """Return the body, or of a longer one a part that is longer than `most`."""
    parts, length, more = [], 0, True
    while more and length <= most:
        message = await receive()
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        more = bool(message.get("more_body"))
    return b"".join(parts)


def _announced_length(scope: Message) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0


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
