"""The search service: throughput against searching in the process, and a long soak.

    python benchmarks/index_service.py http --vectors FILE.npy
    python benchmarks/index_service.py soak --vectors FILE.npy [--minutes 10] [--changes 5]

The service is a process of its own, and so is each client; a client keeps its connection. `soak`
searches without pause, or `--searches` times a second, while items are added and deleted, twenty of
each in a change. With `--json` it prints its figures for a test and records nothing.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
from index_speed import ENCODER, K, Vectors, fill
from index_vectors import make_vectors
from record import update_result

from encoder.errors import PocketlensError
from encoder.memory import count_cores
from server_index.client import SearchClient, encode_vector
from server_index.faiss_index import Kind, SearchEffort
from server_index.index import Index
from server_index.writer import IndexWriter

CLI = Path(__file__).parent.parent / "cli.py"
TOKEN = "a token for the benchmark"
CLIENTS = 4
LOG = "service.log"
# Items in a change of the soak.
_TOGETHER = 20


@contextlib.contextmanager
def served(folder: Path, *, token: str = "", workers: int = 1) -> Iterator[tuple[str, int]]:
    """Serve a folder with the command line; yield the address and the process."""
    environment = {**os.environ, "POCKETLENS_TOKEN": token}
    with folder.with_name(LOG).open("wb") as told:
        process = subprocess.Popen(
            [
                *(sys.executable, str(CLI), "serve", "--index", str(folder), "--port", "0"),
                *("--workers", str(workers)),
            ],
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            env=environment,
        )
    assert process.stdout
    process.stdout.readline()
    address = process.stdout.readline().split()[2]
    for _ in range(200):
        with contextlib.suppress(PocketlensError), SearchClient(address) as client:
            client.describe()
            break
        time.sleep(0.1)
    try:
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def ask_for_a_while(
    address: str,
    space: str,
    queries: Vectors,
    until: float,
    answer: "multiprocessing.Queue[list[float]]",
) -> None:
    """Search until the time comes; answer the milliseconds of each search.

    Requests are made beforehand and answers not parsed: the clients share the service's cores.
    """
    host, _, port = address.removeprefix("http://").partition(":")
    requests = []
    for query in queries:
        asked = {"vector": encode_vector(query), "space": space, "k": K}
        body = json.dumps(asked).encode()
        head = f"POST /v1/search HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        requests.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    times: list[float] = []
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        while time.time() < until:
            started = time.perf_counter()
            connection.sendall(requests[at % len(requests)])
            answer_head, _, rest = connection.recv(1 << 16).partition(b"\r\n\r\n")
            assert answer_head.startswith(b"HTTP/1.1 200"), answer_head
            left = int(answer_head.lower().split(b"content-length:")[1].split()[0]) - len(rest)
            while left > 0:
                left -= len(connection.recv(left))
            times.append(1e3 * (time.perf_counter() - started))
            at += 1
    answer.put(times)


def run_clients(address: str, space: str, queries: Vectors, length: float) -> list[float]:
    """Ask from several processes at once; return the milliseconds of all searches."""
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[list[float]] = context.Queue()
    until = time.time() + length + 2.0
    clients = [
        context.Process(target=ask_for_a_while, args=(address, space, queries, until, answers))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    times = [each for _ in clients for each in answers.get()]
    for client in clients:
        client.join()
    return times


def measure_http(real: Vectors, work: Path, length: float) -> dict[str, float]:
    """Compare searches over loopback with searches in this process, one at a time, in turns."""
    vectors, queries = make_vectors(real, 200_000)
    folder = work / "index"
    fill(folder, vectors, Kind("IVF2048,SQfp16"))
    with IndexWriter(folder) as writer:
        writer.set_effort(SearchEffort(probes=32))
    rates: dict[str, list[float]] = {"http": [], "one_worker": [], "inside": []}
    faiss.omp_set_num_threads(1)
    with (
        Index(folder) as index,
        served(folder) as (one, _),
        served(folder, workers=count_cores()) as (several, _),
    ):
        for _ in range(3):
            until, count = time.perf_counter() + length, 0
            while time.perf_counter() < until:
                index.search(queries[count % len(queries)][None], K)
                count += 1
            rates["inside"].append(count / length)
            for name, address in (("one_worker", one), ("http", several)):
                times = run_clients(address, index.space.id, queries, length)
                # The clients' start is not counted: from the first search to the last.
                rates[name].append(CLIENTS * len(times) / sum(times) * 1e3)
    figures = {f"http.{name}_per_s": float(np.median(found)) for name, found in rates.items()}
    figures["http.vs_inprocess"] = figures["http.http_per_s"] / figures["http.inside_per_s"]
    one_worker = figures["http.one_worker_per_s"] / figures["http.inside_per_s"]
    figures["http.one_worker_vs_inprocess"] = one_worker
    figures["http.clients"] = CLIENTS
    figures["http.p50_ms"] = float(np.percentile(times, 50))
    figures["http.p99_ms"] = float(np.percentile(times, 99))
    return figures


def read_rss_mb(process: int) -> float:
    """Return what a process holds in memory of its own, in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("no RssAnon: this benchmark needs Linux")


def measure_soak(
    real: Vectors, work: Path, minutes: float, *, changes_a_second: float, searches_a_second: float
) -> dict[str, float]:
    """Search, add and delete for so long; memory and p99 of the second and the last fifth.

    What was added is deleted a minute later. Searches without pause where none a second are given.
    """
    vectors, queries = make_vectors(real, 60_000)
    folder = work / "index"
    fill(folder, vectors[:50_000])
    spare = vectors[50_000:]
    pause = 1 / changes_a_second
    kept = _TOGETHER * round(60 * changes_a_second)
    times: list[tuple[float, float]] = []
    memory: list[tuple[float, float]] = []
    failures = 0
    with served(folder, token=TOKEN) as (address, process), SearchClient(address) as asking:
        space = asking.describe()["space"]
        with SearchClient(address, token=TOKEN) as changing:
            started, at, number = time.monotonic(), 0, 0
            next_change = next_look = started
            while time.monotonic() - started < 60 * minutes:
                now = time.monotonic()
                if now >= next_change:
                    added = range(number, number + _TOGETHER)
                    ids = [{"id": f"new-{n}"} for n in added]
                    changing.add(ids, spare[np.array(added) % len(spare)], space, ENCODER)
                    if number >= kept:
                        changing.delete([f"new-{n - kept}" for n in added])
                    number, next_change = added.stop, next_change + pause
                if now >= next_look:
                    memory.append((now - started, read_rss_mb(process)))
                    next_look = now + 1.0
                if searches_a_second:
                    time.sleep(max(0.0, started + at / searches_a_second - time.monotonic()))
                begun = time.perf_counter()
                try:
                    asking.search(queries[at % len(queries)], space, K)
                except PocketlensError as error:
                    failures += 1
                    waited = time.perf_counter() - begun
                    print(f"{now - started:.1f} s: {error} ({waited:.1f} s)", file=sys.stderr)
                times.append((now - started, 1e3 * (time.perf_counter() - begun)))
                at += 1
            items = asking.describe()["items"]
    if failures:
        # What the service says of itself, but for its line a request.
        told = folder.with_name(LOG).read_text().splitlines()
        print("\n".join([line for line in told if line[:1] != "{"][-60:]), file=sys.stderr)
    length = 60 * minutes
    early = [each for when, each in times if length / 5 <= when < 2 * length / 5]
    late = [each for when, each in times if when >= 4 * length / 5]
    # From the second fifth on: the first fills what is filled once.
    before = [each for when, each in memory if length / 5 <= when < 2 * length / 5]
    after = [each for when, each in memory if when >= 4 * length / 5]
    return {
        "soak.minutes": minutes,
        "soak.searches": len(times),
        "soak.changes": number // _TOGETHER,
        "soak.deleted": max(0, number - kept),
        "soak.failures": failures,
        "soak.items": items,
        "soak.rss_growth_mb": float(np.median(after) - np.median(before)),
        "soak.rss_mb": float(np.median(after)),
        "soak.p99_early_ms": float(np.percentile(early, 99)),
        "soak.p99_late_ms": float(np.percentile(late, 99)),
        "soak.p50_late_ms": float(np.percentile(late, 50)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for name in ("http", "soak"):
        part = parts.add_parser(name)
        part.add_argument("--vectors", type=Path, required=True)
    parts.choices["http"].add_argument("--seconds", type=float, default=10)
    soak = parts.choices["soak"]
    soak.add_argument("--minutes", type=float, default=10)
    soak.add_argument("--changes", type=float, default=5, help="a second; above 0")
    soak.add_argument("--searches", type=float, default=0, help="a second; 0: without pause")
    soak.add_argument("--json", action="store_true", help="print the figures, record nothing")
    asked = parser.parse_args()
    real = np.load(asked.vectors)
    with tempfile.TemporaryDirectory() as folder:
        if asked.part == "http":
            figures = measure_http(real, Path(folder), asked.seconds)
        else:
            figures = measure_soak(
                real,
                Path(folder),
                asked.minutes,
                changes_a_second=asked.changes,
                searches_a_second=asked.searches,
            )
    if asked.part == "soak" and asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<28} {value:10.3f}")
    named = ("minutes", "changes", "searches") if asked.part == "soak" else ("seconds",)
    option = "".join(f" --{name} {getattr(asked, name):g}" for name in named)
    update_result(
        "server_index",
        figures,
        part=asked.part,
        command=f"python benchmarks/index_service.py {asked.part} --vectors FILE.npy{option}",
        seed=0,
    )


if __name__ == "__main__":
    main()
