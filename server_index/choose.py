"""Choose a kind of index for so many vectors and so much memory, and say why.

What is said of a kind is an estimate; whether it finds enough is measured by `tune`.
"""

import dataclasses
import math
import re

from encoder.errors import PocketlensError
from server_index.faiss_index import Kind

# Below, comparing with every vector is fast enough, and finds everything.
EXACT_UP_TO = 100_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
# Re-scored candidates a wanted answer, from the least to the most that is tried.
RESCORES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclasses.dataclass(frozen=True)
class Targets:
    """Say what an index must do: recall at 10 against exact search, bytes held, p95 on a thread."""

    min_recall: float = 0.95
    max_memory: int | None = None
    max_ms: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_recall <= 1:
            raise PocketlensError(f"--min-recall {self.min_recall} must be above 0 and at most 1")
        for name, value in (("--max-memory", self.max_memory), ("--max-ms", self.max_ms)):
            if value is not None and value <= 0:
                raise PocketlensError(f"{name} must be above 0")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Hold a kind that may do, what it holds in memory, and what speaks for it."""

    kind: Kind
    bytes_held: int
    why: str


def read_bytes(text: str) -> int:
    """Read an amount of memory: `4G`, `500M`, `1.5 GB`.

    Raises:
        PocketlensError: when it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not found:
        raise PocketlensError(f"{text!r} is not an amount of memory, as 4G or 500M")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def list_candidates(count: int, dim: int) -> list[Candidate]:
    """Return the kinds for so many vectors, in the order in which they are tried."""
    lists = 2 ** round(math.log2(4 * math.sqrt(max(count, 1))))
    quarter = _divisor(dim, max(1, dim // 2))
    named = [
        (f"IVF{lists},SQfp16", "half precision in lists: little is lost before re-scoring"),
        (f"IVF{lists},SQ8", "a byte a dimension in lists"),
        (f"IVF{lists},PQ{quarter}x4fs", "two bits a dimension in lists, scanned in registers"),
        (f"IVF{lists},RaBitQ", "a bit a dimension in lists, with the vectors' lengths"),
        ("BFlat", "a bit a dimension: all signs are compared"),
    ]
    exact = [
        ("Flat", "compares with every vector: nothing is lost, and nothing has to be learnt"),
        ("SQfp16", "compares with every vector, in half precision"),
    ]
    order = exact + named if count <= EXACT_UP_TO else named
    return [
        Candidate(Kind(spec), estimate_bytes(Kind(spec), count, dim), why) for spec, why in order
    ]


def choose_fitting(count: int, dim: int, targets: Targets) -> list[Candidate]:
    """Return the candidates that memory holds, in order.

    Raises:
        PocketlensError: naming the smallest, where none fits.
    """
    candidates = list_candidates(count, dim)
    most = targets.max_memory
    fitting = [each for each in candidates if most is None or each.bytes_held <= most]
    if not fitting:
        least = min(candidates, key=lambda each: each.bytes_held)
        raise PocketlensError(
            f"--max-memory: {count} vectors of {dim} dimensions need at least "
            f"{format_bytes(least.bytes_held)} ({least.kind.spec})"
        )
    return fitting


def estimate_bytes(kind: Kind, count: int, dim: int) -> int:
    """Return what an index holds in memory while it is searched, apart from vectors on disk."""
    storage = kind.spec.rpartition(",")[2]
    code = _code_bytes(storage, dim)
    if kind.graph:
        links = int(re.findall(r"HNSW(\d+)", kind.spec)[0])
        plain = kind.spec.partition(",")[0] == kind.spec
        code = (dim / 8 if kind.binary else 4 * dim) if plain else code
        # Twice as many links at the bottom, and one in so many vectors has more above.
        code += 8 * links * (1 + 1 / links) + 16
    if kind.lists:
        code += 8
    # Keys, and what tells which rows live.
    return int(count * (code + 9) + 4 * dim * kind.lists)


def _code_bytes(storage: str, dim: int) -> float:
    if storage.startswith("PQ"):
        number, _, packed = storage[2:].partition("x")
        return int(number) / (2 if packed else 1)
    if storage.startswith("RaBitQ"):
        return dim / 8 + 8
    return dim * {"Flat": 4, "SQfp16": 2, "SQ8": 1, "SQ4": 0.5, "BFlat": 1 / 8}.get(storage, 4)


def format_bytes(count: int) -> str:
    """Return bytes as people write them."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1000:.0f} kB"


def _divisor(dim: int, most: int) -> int:
    """Return the largest even number of equal parts that dimensions divide into, up to the most."""
    return next((part for part in range(most, 1, -1) if dim % part == 0 and part % 2 == 0), 1)
