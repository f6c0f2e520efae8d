"""The evaluation itself: its speed and memory on 60,502 items, and off-the-shelf rows.

    python benchmarks/evaluation.py knn60k
    python benchmarks/evaluation.py offtheshelf --data FOLDER

The search of 60,502 × 60,502 × 512 (the test half of Stanford Online Products) is compared with
the matrix product alone, cut up in the way that is fastest here, in alternating rounds; the memory
is the process's peak, data and libraries included. Off-the-shelf rows are ImageNet features of
EfficientNet-Lite0 (average pooling, L2, no training) on the second half of each set's classes:
under a bicubic squash to the square, and under the project's own preprocessing.
"""

import argparse
import functools
import resource
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import flatten_row, update_result
from threadpoolctl import threadpool_limits
from timing import seconds
from torch.nn import functional

from encoder.backbones import DEFAULT_TRUNK, build_trunk, input_statistics, load_imagenet
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.embed import Embedder, embed_all
from encoder.evaluation.block_search import BLOCK_ROWS, TILE_COLUMNS
from encoder.evaluation.metrics import Labels, Vectors, rank_whole
from encoder.evaluation.neighbours import find_neighbours
from encoder.evaluation.protocol import EncodedSet, evaluate_pair
from encoder.images import decode_image
from encoder.memory import count_cores, keep_memory
from encoder.model import fold_batch_norm
from encoder.preprocess import Pixels, Preprocess, normalise
from encoder.progress import track

ITEMS, DIM = 60_502, 512
CLASSES = 11_316
NEIGHBOURS = (10, 1000)
# Rows and columns of a product.
BLOCKS = ((512, 4096), (BLOCK_ROWS, TILE_COLUMNS), (1024, 8192), (1024, ITEMS))


def peak_gb() -> float:
    """Return the process's largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_knn(rounds: int) -> dict[str, float]:
    """Compare the search with the product alone, and time the whole ranking."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(ITEMS) % CLASSES)
    centres = rng.standard_normal((CLASSES, DIM), np.float32)
    vectors = centres[labels] + 1.5 * rng.standard_normal((ITEMS, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = np.arange(ITEMS)

    def multiply(rows: int, columns: int, apart: bool, total: int = ITEMS) -> None:
        def one(start: int) -> None:
            block = vectors[start : start + rows]
            for tile in range(0, ITEMS, columns):
                block @ vectors[tile : tile + columns].T

        # A block to each core, or each block on all cores.
        threads = count_cores() if apart else 1
        limit = threadpool_limits(1 if apart else None, user_api="blas")
        with limit, ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(0, total, rows)))

    def search(count: int) -> None:
        for _ in find_neighbours(vectors, vectors, count, own=own):
            pass

    def search_apart() -> None:
        for _ in find_neighbours(others, vectors, NEIGHBOURS[-1]):
            pass

    # As many queries that are not the database: no product serves twice.
    others = np.roll(vectors, 1, axis=0)

    ways = [(*block, apart) for block in BLOCKS for apart in (False, True)]
    trials = [[seconds(lambda way=way: multiply(*way, total=4096)) for way in ways] for _ in "abc"]
    fastest = ways[int(np.argmin(np.median(trials, axis=0)))]
    trial = {
        "matmul": lambda: multiply(*fastest),
        **{f"k{count}": functools.partial(search, count) for count in NEIGHBOURS},
        "apart": search_apart,
    }
    times: dict[str, list[float]] = {name: [] for name in trial}
    for _ in range(rounds):
        for name, run in trial.items():
            times[name].append(seconds(run))
    peak = peak_gb()
    each = {name: statistics.median(values) for name, values in times.items()}
    whole = seconds(lambda: rank_whole(vectors, labels, vectors, labels, own=own))
    return {
        "knn60k.peak_gb": peak,
        "knn60k.vs_matmul": each["k1000"] / each["matmul"],
        "knn60k.k10.vs_matmul": each["k10"] / each["matmul"],
        "knn60k.apart.vs_matmul": each["apart"] / each["matmul"],
        "knn60k.matmul_s": each["matmul"],
        "knn60k.k1000_s": each["k1000"],
        "knn60k.whole_ranking_s": whole,
        "knn60k.whole_ranking.peak_gb": peak_gb(),
    }


def measure_off_the_shelf(data: Path, sizes: tuple[int, ...]) -> dict[str, float]:
    """Evaluate ImageNet features on the test classes of cars and birds."""
    trunk = build_trunk(DEFAULT_TRUNK)
    load_imagenet(trunk, DEFAULT_TRUNK)
    network = fold_batch_norm(trunk, DEFAULT_TRUNK).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = input_statistics(DEFAULT_TRUNK)
    figures: dict[str, float] = {}
    for name in ("cars", "cub"):
        table = split_classes(read_table(data / name), SplitRule()).split("test")
        for size in sizes:
            preprocess = Preprocess(size=size, mean=mean, std=std)

            def embed(pixels: Pixels, preprocess: Preprocess = preprocess) -> Vectors:
                with torch.inference_mode():
                    images = torch.from_numpy(normalise(pixels, preprocess))
                    images = images.to(memory_format=torch.channels_last)
                    pooled = network(images).mean(dim=(2, 3))
                    return functional.normalize(pooled, dim=1).numpy()

            def bicubic(file: Path, size: int = size) -> Pixels:
                image = Image.fromarray(decode_image(file))
                return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))

            with track(f"{name} at {size}", 2 * len(table)) as advance:
                own = embed_all(table.sources(), preprocess, Embedder(embed), advance=advance)
                squashed = []
                for start in range(0, len(table), 32):
                    files = table.files()[start : start + 32]
                    squashed.append(embed(np.stack([bicubic(file) for file in files])))
                    advance(len(files))
            labels = table.labels()
            for key, vectors in (("", np.concatenate(squashed)), (".own", own.vectors)):
                figures |= _score(f"offtheshelf.{name}.{size}{key}", vectors, labels)
    return figures


def _score(key: str, vectors: Vectors, labels: Labels) -> dict[str, float]:
    everyone = np.ones(len(labels), bool)
    encoded = EncodedSet(vectors, labels, np.arange(len(labels)), everyone, everyone)
    return flatten_row(key, evaluate_pair(key, encoded, encoded).to_json())


def main() -> None:
    """Parse, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["knn60k", "offtheshelf"])
    parser.add_argument("--data", type=Path, help="folder with the image folders cars and cub")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_memory()
    torch.set_num_threads(count_cores())
    if arguments.part == "knn60k":
        figures = measure_knn(arguments.rounds)
        command = f"python benchmarks/evaluation.py knn60k --rounds {arguments.rounds}"
    elif arguments.data is None:
        parser.error("offtheshelf needs --data")
    else:
        figures = measure_off_the_shelf(arguments.data, (224, 128))
        command = "python benchmarks/evaluation.py offtheshelf --data DATA"
    for name, value in figures.items():
        print(f"{name:<44} {value:8.3f}")
    update_result("evaluation", figures, part=arguments.part, command=command, seed=0)


if __name__ == "__main__":
    main()
