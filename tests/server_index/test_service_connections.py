"""Clients that say nothing, never end, ask without end or do not read are let go."""

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from running_service import run_server

from server_index.service_connections import TimedProtocol

LARGE = 64 << 20


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with a word, or with far more than buffers hold."""
    assert scope["type"] == "http"
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(LARGE >> 16 if scope["path"] == "/large" else 0):
        await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
    await send({"type": "http.response.body", "body": b"."})


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(
        answer, http=TimedProtocol, timeout_keep_alive=1, lifespan="off", log_level="critical"
    )
    with run_server(config) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        yield host, int(port)


def ask(*paths: str) -> bytes:
    return b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in paths)


def wait_for_end(connection: socket.socket, dripping: bytes = b"") -> float:
    """Return after how many seconds the other side is gone, though bytes go on to come."""
    started = time.monotonic()
    connection.settimeout(0.2)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - started < 20:
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    break
            connection.sendall(dripping)
    return time.monotonic() - started


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nhost: x\r\nnever: "])
def test_a_request_must_come_and_end(server: tuple[str, int], beginning: bytes) -> None:
    with socket.create_connection(server) as connection:
        connection.sendall(beginning)
        assert 0.5 < wait_for_end(connection, dripping=b"z" if beginning else b"") < 10


def test_so_must_the_next_one(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as connection:
        connection.sendall(ask("/"))
        assert connection.recv(1 << 12).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /")
        assert 0.5 < wait_for_end(connection, dripping=b"z") < 10


def test_who_asks_now_and_then_and_reads_slowly_is_served(server: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*server, timeout=30)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"."
        time.sleep(0.5)
    connection.request("GET", "/large")
    response, read = connection.getresponse(), 0
    # For longer than a client may let an answer lie.
    while some := response.read(LARGE // 16):
        read += len(some)
        time.sleep(0.15)
    assert read == LARGE + 1
    connection.close()


def test_who_does_not_read_is_let_go(server: tuple[str, int]) -> None:
    with socket.create_connection(server) as connection:
        connection.sendall(ask("/large"))
        time.sleep(4)
        # What the buffers held is there; the rest never comes.
        read = 0
        with contextlib.suppress(ConnectionError):
            while some := connection.recv(1 << 20):
                read += len(some)
        assert read < LARGE


def test_requests_that_do_not_wait_for_answers_are_few(server: tuple[str, int]) -> None:
    with socket.create_connection(server, timeout=10) as connection:
        connection.sendall(ask(*["/"] * 5))
        stream = connection.makefile("rb")
        for _ in range(5):
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
            while stream.readline() != b"\r\n":
                pass
            assert stream.readline() == b"1\r\n" and stream.readline() == b".\r\n"
            assert stream.readline() == b"0\r\n" and stream.readline() == b"\r\n"
        with contextlib.suppress(ConnectionError):
            connection.sendall(ask(*["/"] * 10_000))
            told = stream.read()
            assert told.count(b"200 OK") < 100
