"""An index folder against raw FAISS: search, building, a million vectors.

    python benchmarks/index_speed.py vectors --data FOLDER… --encoder ENCODER --out FILE.npy
    python benchmarks/index_speed.py search --vectors FILE.npy
    python benchmarks/index_speed.py build --vectors FILE.npy
    python benchmarks/index_speed.py million --vectors FILE.npy
    python benchmarks/index_speed.py binary --vectors FILE.npy

`vectors` encodes real photos once; the others make vectors like them (`index_vectors`). What is
compared is timed in turns in one run, on all cores, or on one thread where a single query is.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from index_vectors import encode_sets, make_vectors
from record import update_result

from encoder.evaluation.index_recall import measure_index_recall
from encoder.memory import keep_memory
from encoder.space import mint_space
from server_index import faiss_index
from server_index.arrange import arrange
from server_index.choose import Targets, choose_fitting
from server_index.faiss_index import Kind, SearchEffort, Vectors, on_one_thread
from server_index.index import Index
from server_index.items import Item
from server_index.writer import IndexWriter, create_index

K = 10
ENCODER = "0" * 16
MILLION = 1_000_000
MAX_MEMORY = 400_000_000
SIZES = (10_000, 30_000, 100_000, 300_000, MILLION)


def make_items(count: int) -> list[Item]:
    """Return items with ids and paths as a folder of images gives them."""
    return [Item(f"{n % 997:03d}/photo-{n:08d}.jpg", f"/photos/{n:08d}.jpg") for n in range(count)]


def fill(
    folder: Path, vectors: Vectors, kind: Kind | None = None, items: list[Item] | None = None
) -> None:
    """Write an index of vectors that are at hand, as one segment."""
    create_index(folder, mint_space("teacher", vectors.shape[1], "benchmark"))
    with IndexWriter(folder) as writer:
        if kind:
            writer.start_kind(kind, draw_sample(kind, vectors))
        writer.add_segment(vectors, items or make_items(len(vectors)), ENCODER)


def draw_sample(kind: Kind, vectors: Vectors) -> Vectors:
    """Return as many vectors as the kind learns from."""
    size = min(len(vectors), kind.count_training_vectors())
    drawn = np.random.default_rng(0).choice(len(vectors), size, replace=False)
    return vectors[np.sort(drawn)]


def in_turns(rounds: int, **calls: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each call, all of them once in each round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def time_queries(call: Callable[[Vectors], object], queries: Vectors) -> list[float]:
    """Return microseconds of each query, asked one by one."""
    times = []
    for query in queries:
        started = time.perf_counter()
        call(query[None])
        times.append(1e6 * (time.perf_counter() - started))
    return times


def measure_search(real: Vectors, work: Path, rounds: int) -> dict[str, float]:
    """Compare searches through the folder with FAISS alone: the same file, the same effort."""
    vectors, queries = make_vectors(real, 200_000)
    figures: dict[str, float] = {}
    for name, kind, effort in (
        ("flat", Kind("Flat"), SearchEffort()),
        ("ivf", Kind("IVF2048,SQfp16"), SearchEffort(probes=32)),
        ("ivf_rescored", Kind("IVF2048,SQ8"), SearchEffort(probes=32, rescore=4)),
        ("hnsw", Kind("HNSW32,SQfp16"), SearchEffort(graph_candidates=64)),
    ):
        folder = work / name
        # Few where all are compared: of ten milliseconds, a tenth of one is not seen.
        fill(folder, vectors[:20_000] if kind.exact else vectors, kind)
        with IndexWriter(folder) as writer:
            writer.set_effort(effort)
        with Index(folder) as index:
            (part,) = index.snapshot.parts
            assert part.segment
            raw = part.segment.index
            asked = K * effort.rescore
            parameters = None
            if kind.lists:
                parameters = faiss.SearchParametersIVF(nprobe=effort.probes)
            if kind.graph:
                parameters = faiss.SearchParametersHNSW(efSearch=effort.graph_candidates)
            batch = in_turns(
                rounds,
                ours=lambda index=index: index.find(queries, K),
                raw=lambda raw=raw, n=asked, p=parameters: raw.search(queries, n, params=p),
            )
            figures[f"search.{name}.vs_faiss"] = batch["raw"] / batch["ours"]
            figures[f"search.{name}.batch_us_per_query"] = 1e6 * batch["ours"] / len(queries)
            with on_one_thread():
                times: dict[str, list[float]] = {"ours": [], "raw": [], "items": []}
                few = queries[:300]
                for _ in range(rounds):
                    times["ours"] += time_queries(lambda q, i=index: i.find(q, K), few)
                    times["items"] += time_queries(lambda q, i=index: i.search(q, K), few)
                    times["raw"] += time_queries(
                        lambda q, r=raw, n=asked, p=parameters: r.search(q, n, params=p), few
                    )
            each = {which: statistics.median(found) for which, found in times.items()}
            figures[f"search.{name}.single_us"] = each["ours"]
            figures[f"search.{name}.overhead_us"] = each["ours"] - each["raw"]
            figures[f"search.{name}.overhead_with_items_us"] = each["items"] - each["raw"]
    ratios = [value for name, value in figures.items() if name.endswith(".vs_faiss")]
    overheads = [value for name, value in figures.items() if name.endswith(".overhead_us")]
    return {
        **figures,
        "search.vs_faiss": min(ratios),
        "search.overhead_us": max(overheads),
        "search.overhead_with_items_us": max(
            value for name, value in figures.items() if name.endswith("_with_items_us")
        ),
    }


def write_plainly(file: Path, data: bytes) -> None:
    """Write bytes in sequence, and wait for the disk."""
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def build_raw(kind: Kind, vectors: Vectors, file: Path) -> None:
    """Build an index with nothing but FAISS, on as many training vectors as ours takes."""
    index = faiss_index.make_index(kind, vectors.shape[1])
    if not index.is_trained:
        faiss_index.train(index, kind, draw_sample(kind, vectors))
    index.add(vectors)
    faiss.write_index(index, str(file))


def measure_build(real: Vectors, work: Path, rounds: int) -> dict[str, float]:
    """Compare building through the folder with FAISS alone, and a flat one with the disk."""
    vectors, _ = make_vectors(real, 200_000)
    named = make_items(len(vectors))
    figures: dict[str, float] = {}
    for name, kind in (
        ("ivf", Kind("IVF2048,SQ8")),
        ("pq", Kind("IVF1024,PQ64x4fs")),
        ("hnsw", Kind("HNSW32,SQfp16")),
    ):

        def ours(kind: Kind = kind) -> None:
            shutil.rmtree(work / "ours", ignore_errors=True)
            fill(work / "ours", vectors, kind, named)

        def raw(kind: Kind = kind) -> None:
            build_raw(kind, vectors, work / "raw.faiss")

        each = in_turns(rounds, ours=ours, raw=raw)
        figures[f"build.{name}.s"] = each["ours"]
        figures[f"build.{name}.vs_faiss"] = each["raw"] / each["ours"]
    many, _ = make_vectors(real, 500_000)
    items, data = make_items(len(many)), many.tobytes()

    def flat() -> None:
        shutil.rmtree(work / "flat", ignore_errors=True)
        create_index(work / "flat", mint_space("teacher", many.shape[1], "benchmark"))
        with IndexWriter(work / "flat") as writer:
            writer.add_segment(many, items, ENCODER)

    def disk() -> None:
        write_plainly(work / "disk", data)

    each = in_turns(rounds, flat=flat, disk=disk)
    figures["build.flat_s"], figures["build.disk_s"] = each["flat"], each["disk"]
    figures["build.flat_vs_disk"] = each["disk"] / each["flat"]
    figures["build.vs_faiss"] = min(
        value for name, value in figures.items() if name.endswith(".vs_faiss")
    )
    return figures


def measure_million(real: Vectors, work: Path) -> dict[str, float]:
    """Let the index of more and more vectors be chosen by the targets; measure what was chosen."""
    figures: dict[str, float] = {}
    for count in SIZES:
        vectors, queries = make_vectors(real, count)
        folder = work / str(count)
        targets = Targets(max_memory=MAX_MEMORY if count == MILLION else None)
        started = time.perf_counter()
        fill(folder, vectors)
        with IndexWriter(folder) as writer:
            for line in arrange(writer, targets):
                print(f"{count}: {line}", flush=True)
            kind = writer.state.kind
        key = f"size.{count}"
        figures[f"{key}.build_s"] = time.perf_counter() - started
        started = time.perf_counter()
        index = Index(folder)
        figures[f"{key}.open_s"] = time.perf_counter() - started
        answers = index.find(queries, K)
        recall = measure_index_recall(queries, vectors, answers.keys)
        with on_one_thread():
            times = time_queries(lambda query, index=index: index.search(query, K), queries)
        held = sum(file.stat().st_size for file in folder.glob("segments/*/index.faiss"))
        stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        figures |= {
            f"{key}.recall10": float(recall.mean()),
            f"{key}.p50_ms": float(np.percentile(times, 50)) / 1e3,
            f"{key}.p95_ms": float(np.percentile(times, 95)) / 1e3,
            f"{key}.bytes_per_vector": held / count,
            f"{key}.disk_bytes_per_vector": stored / count,
        }
        print(count, kind.spec, index.snapshot.effort, figures[f"{key}.recall10"], flush=True)
        index.close()
        shutil.rmtree(folder)
    for name in ("recall10", "p95_ms", "open_s", "bytes_per_vector", "build_s"):
        figures[f"million.{name}"] = figures[f"size.{MILLION}.{name}"]
    fitting = choose_fitting(MILLION, real.shape[1], Targets(max_memory=MAX_MEMORY))
    figures["million.max_memory"] = MAX_MEMORY
    figures["million.estimated_bytes"] = fitting[0].bytes_held
    return figures


def measure_binary(real: Vectors, work: Path) -> dict[str, float]:
    """Compare sign codes, re-scored more and more, with float kinds: size, recall, time."""
    vectors, queries = make_vectors(real, 200_000)
    figures: dict[str, float] = {}
    fill(work / "index", vectors)
    for name, kind, efforts in (
        ("flat", "Flat", [SearchEffort()]),
        ("sqfp16", "SQfp16", [SearchEffort()]),
        ("signs", "BFlat", [SearchEffort(rescore=n) for n in (1, 4, 16, 64)]),
        ("rabitq", "RaBitQ", [SearchEffort(rescore=n) for n in (1, 4, 16)]),
        ("ivf_sq8", "IVF2048,SQ8", [SearchEffort(probes=32, rescore=n) for n in (1, 4)]),
        ("ivf_pq", "IVF2048,PQ128x4fs", [SearchEffort(probes=32, rescore=n) for n in (1, 4, 16)]),
        ("ivf_rabitq", "IVF2048,RaBitQ", [SearchEffort(probes=32, rescore=n) for n in (1, 4, 16)]),
    ):
        with IndexWriter(work / "index") as writer:
            writer.compact(Kind(kind))
        held = sum(file.stat().st_size for file in (work / "index").glob("segments/*/index.faiss"))
        for effort in efforts:
            with IndexWriter(work / "index") as writer:
                writer.set_effort(effort)
            with Index(work / "index") as index, on_one_thread():
                answers = index.find(queries, K)
                times = time_queries(lambda query, i=index: i.find(query, K), queries[:200])
            key = f"codes.{name}.rescore{effort.rescore}"
            recall = measure_index_recall(queries, vectors, answers.keys)
            figures[f"{key}.recall10"] = float(recall.mean())
            figures[f"{key}.p50_ms"] = statistics.median(times) / 1e3
            figures[f"{key}.bytes_per_vector"] = held / len(vectors)
            print(key, figures[f"{key}.recall10"], figures[f"{key}.p50_ms"], flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    vectors = parts.add_parser("vectors")
    vectors.add_argument("--data", type=Path, nargs="+", required=True)
    vectors.add_argument("--encoder", type=Path, required=True)
    vectors.add_argument("--out", type=Path, required=True)
    for name in ("search", "build", "million", "binary"):
        part = parts.add_parser(name)
        part.add_argument("--vectors", type=Path, required=True)
        part.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    keep_memory()
    if asked.part == "vectors":
        np.save(asked.out, encode_sets(asked.data, asked.encoder))
        return
    real = np.load(asked.vectors)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if asked.part == "search":
            figures = measure_search(real, work, asked.rounds)
        elif asked.part == "build":
            figures = measure_build(real, work, asked.rounds)
        elif asked.part == "million":
            figures = measure_million(real, work)
        else:
            figures = measure_binary(real, work)
    for name, value in figures.items():
        print(f"{name:<44} {value:12.4f}")
    update_result(
        "server_index",
        figures,
        part=asked.part,
        command=f"python benchmarks/index_speed.py {asked.part} --vectors FILE.npy",
        seed=0,
        vectors=f"{len(real)} real ones of {real.shape[1]} dimensions, jittered",
    )


if __name__ == "__main__":
    main()
