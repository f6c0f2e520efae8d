"""A search service of a real server in a thread, at a free port."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from server_index.serve import configure_server
from server_index.service import ServiceSettings

TOKEN = "a token of tests, long enough"


@contextlib.contextmanager
def run_service(settings: ServiceSettings) -> Iterator[str]:
    """Serve until the block ends; yield the address."""
    with run_server(configure_server(settings)) as address:
        yield address


@contextlib.contextmanager
def run_server(config: uvicorn.Config) -> Iterator[str]:
    """Run any server until the block ends; yield the address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the service did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
