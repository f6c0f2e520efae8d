"""Run the browser's runtime in an installed Chromium, without a window: times and vectors."""

import base64
import contextlib
import http.server
import itertools
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from export.card import find_encoder
from export.latency import Bench, choose_threads, identify
from export.latency_record import LatencyRun, summarise
from export.runtime import QueryEncoder
from export.web_runtime import HEADERS, PACKED, TYPES, list_runtime_files, name_runtime

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# It talks to nobody but this process.
QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_SECONDS = 600.0


def find_browser() -> str:
    """Return the program of an installed Chromium or Chrome.

    Raises:
        PocketlensError: when there is none.
    """
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise PocketlensError(f"--browser: needs one of the programs {', '.join(_PROGRAMS)}")
    return found


def measure_in_browser(encoders: Sequence[Path], bench: Bench) -> list[LatencyRun]:
    """Time every encoder on every number of threads, in rounds in which each has its turn.

    The graph is told whole, as `network`: the browser's ONNX Runtime tells no nodes apart. It has
    no other providers, and no search is timed.

    Raises:
        PocketlensError: when there is no browser, or an encoder does not run in it.
    """
    threads = bench.threads or choose_threads()
    # Exactly: what this CPU's 8-bit products are worth is no matter here.
    opened = [QueryEncoder(file, threads=1, exact=True) for file in encoders]
    pairs = list(itertools.product(opened, threads))
    job = {
        "task": "time",
        "places": [_place(at // len(threads), e.file, n) for at, (e, n) in enumerate(pairs)],
        "picture": "files/picture",
        "rounds": bench.rounds,
        "warm_up": bench.warm_up,
    }
    files = {_name(at, encoder.file): encoder.file for at, encoder in enumerate(opened)}
    answer = _run(job, files, {"picture": bench.picture})
    if max(threads) > 1 and not answer["isolated"]:
        raise PocketlensError("in the browser: no threads; it does not isolate the page")
    runs = []
    for (encoder, _), told in zip(pairs, answer["places"], strict=True):
        taken = np.array(told["taken"])
        stages = {"decode": taken[:, 0], "network": taken[:, 1], "total": taken.sum(axis=1)}
        runs.append(
            LatencyRun(
                **identify(encoder, bench),
                platform="browser",
                runtime=f"{name_runtime()}, {_name_browser(answer['agent'])}",
                provider="wasm",
                threads=int(told["threads"]),
                ms={name: summarise(values) for name, values in stages.items()},
                cold_ms=told["cold"],
            )
        )
    return runs


def encode_in_browser(
    encoders: Sequence[Path], pictures: Sequence[Path]
) -> list[NDArray[np.float32]]:
    """Return each encoder's vectors `[pictures, dim]` of picture files, made in the browser.

    Raises:
        PocketlensError: when there is no browser, or an encoder does not run in it.
    """
    found = [find_encoder(path) for path in encoders]
    job = {
        "task": "encode",
        "places": [_place(at, file, 1) for at, file in enumerate(found)],
        "pictures": [f"files/{number}" for number in range(len(pictures))],
    }
    files = {_name(at, file): file for at, file in enumerate(found)}
    answer = _run(job, files | {str(at): file for at, file in enumerate(pictures)}, {})
    return [
        np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts])
        for texts in answer["vectors"]
    ]


def _name(number: int, file: Path) -> str:
    """Return what a file is served as: two bundles have files of the same name."""
    return f"{number}/{file.name}"


def _place(number: int, file: Path, threads: int) -> dict[str, Any]:
    url = f"files/{urllib.parse.quote(_name(number, file))}"
    return {"url": url, "name": file.name, "threads": threads}


def _name_browser(agent: str) -> str:
    found = re.search(r"(?:Headless)?Chrome/[\d.]+", agent)
    return found[0].replace("/", " ") if found else "browser"


def _run(
    job: Mapping[str, Any], files: Mapping[str, Path], made: Mapping[str, bytes]
) -> dict[str, Any]:
    """Serve the page, its job and its files on this machine, and return what it makes of it."""
    program = find_browser()
    served: dict[str, Path | bytes] = {
        f"/runtime/{name}": file for name, file in list_runtime_files().items()
    }
    served["/"] = served.pop("/runtime/bench.html")
    served |= {f"/files/{name}": file for name, file in files.items()}
    served |= {f"/files/{name}": value for name, value in made.items()}
    served["/job"] = json.dumps(job).encode()
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    with _serve(served, answers) as address, _open_page(program, address) as browser:
        for _ in range(int(_SECONDS)):
            with contextlib.suppress(queue.Empty):
                answer = answers.get(timeout=1)
                break
            if browser.poll() is not None:
                raise PocketlensError(f"{program}: ended before it had done its work")
        else:
            raise PocketlensError(f"{program}: not done within {_SECONDS:g} s")
    if "error" in answer:
        raise PocketlensError(f"in the browser: {answer['error']}")
    return answer


@contextlib.contextmanager
def _serve(
    served: Mapping[str, Path | bytes], answers: "queue.Queue[dict[str, Any]]"
) -> Iterator[str]:
    """Serve at a free port of this machine to itself; yield the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            value = served.get(path)
            if value is None:
                self.send_error(404)
                return
            body = value if isinstance(value, bytes) else value.read_bytes()
            type_ = TYPES.get(Path(path).suffix, "application/octet-stream")
            packed = isinstance(value, Path) and value.suffix == PACKED
            self._answer(body, type_ if path != "/" else TYPES[".html"], packed=packed)

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(b"", "text/plain")

        def _answer(self, body: bytes, type_: str, *, packed: bool = False) -> None:
            self.send_response(200)
            headers = {**HEADERS, "Content-Type": type_}
            for name, text in (
                headers | {"Content-Encoding": "gzip"} if packed else headers
            ).items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextlib.contextmanager
def _open_page(program: str, address: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Open a page in a browser with a profile of its own, and end it with all its processes."""
    # Chromium refuses its sandbox to root.
    flags = ["--headless", *QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [program, *flags, f"--user-data-dir={profile}", address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield browser
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
