"""Run the search service: check what can be checked before it listens."""

import dataclasses
import functools
import os
import socket
import tempfile
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from encoder.errors import PocketlensError, first_line
from encoder.wording import counted
from export.card import Card
from export.web_runtime import list_runtime_files
from server_index.contract import SpaceError
from server_index.index import Index
from server_index.page import read_bundle_files
from server_index.service import ServiceSettings, create_app
from server_index.service_connections import TimedProtocol
from server_index.service_front import COUNTS_VARIABLE
from server_index.writer import IndexWriter

TOKEN_VARIABLE = "POCKETLENS_TOKEN"
# Names of this machine to itself; as a request's host, brackets are left away.
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_SHORTEST_TOKEN = 16
# Connections held at once; more are answered with 503.
_CONNECTIONS = 512
# A connection may ask for nothing for so long.
_SILENT_SECONDS = 10


def read_token(file: Path | None) -> str:
    """Return the token of a file, or of the environment; nothing where there is none.

    Raises:
        PocketlensError: when the file cannot be read, or the token is short.
    """
    try:
        token = file.read_text("utf-8").strip() if file else os.environ.get(TOKEN_VARIABLE, "")
    except (OSError, UnicodeDecodeError) as error:
        raise PocketlensError(f"{file}: not a readable token ({first_line(error)})") from None
    if (file or token) and len(token) < _SHORTEST_TOKEN:
        raise PocketlensError(
            f"{file or TOKEN_VARIABLE}: a token must have {_SHORTEST_TOKEN} characters or more"
        )
    return token


def serve_index(settings: ServiceSettings, host: str, port: int, workers: int = 1) -> None:
    """Serve until interrupted, with so many processes.

    Raises:
        PocketlensError: when the index cannot be opened, the address not be listened at, or several
            workers are to change the index.
    """
    if workers < 1:
        raise PocketlensError("--workers must be at least 1")
    if workers > 1 and settings.token:
        raise PocketlensError(
            f"--workers {workers}: only one process can change an index; serve without a token, "
            "and change it with cli add, cli index delete or another service"
        )
    for name, value in (("--max-k", settings.max_k), ("--timeout", settings.timeout)):
        if value <= 0:
            raise PocketlensError(f"{name} must be above 0")
    # Refused here in one line, not in the log of a server that starts and stops.
    if settings.token:
        IndexWriter(settings.folder).close()
    with Index(settings.folder, skip_damaged=settings.skip_damaged) as index:
        if settings.bundle:
            # The page's own files are looked at, too, before anything listens.
            list_runtime_files()
            read_bundle_files(settings.bundle)
            try:
                index.require_space(Card.read(settings.bundle).space)
            except SpaceError as error:
                raise SpaceError(f"--bundle {settings.bundle}: {error}") from None
        print(f"{settings.folder}: {counted(len(index), 'item')} in space {index.space.id}")
    listening = _listen(host, port)
    if host in _LOOPBACK:
        settings = dataclasses.replace(settings, hosts=(*_LOOPBACK, *settings.hosts))
    shown, bound = listening.getsockname()[:2]
    changes = "changes need the token" if settings.token else "read only"
    print(f"listening at http://{shown}:{bound} ({changes})", flush=True)
    if settings.bundle:
        print(f"page that encodes in the browser: http://{shown}:{bound}/", flush=True)
    config = configure_server(settings, workers)
    run = uvicorn.Server(config).run
    if workers == 1:
        run(sockets=[listening])
        return
    with tempfile.TemporaryDirectory() as counts:
        # Where the workers put their counts together.
        os.environ[COUNTS_VARIABLE] = counts
        Multiprocess(config, sockets=[listening]).run()


def configure_server(settings: ServiceSettings, workers: int = 1) -> uvicorn.Config:
    """Return how the service is run: limits of its connections, no log beside its own."""
    return uvicorn.Config(
        functools.partial(create_app, settings),
        factory=True,
        workers=workers,
        http=TimedProtocol,
        log_level="warning",
        access_log=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_SILENT_SECONDS,
        timeout_graceful_shutdown=10,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        # By name: asyncio sends at once only where the protocol says TCP.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        raise PocketlensError(
            f"--host {host} --port {port}: cannot be used ({first_line(error)})"
        ) from None
    return listening
