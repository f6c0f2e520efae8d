"""One FAISS index of unit vectors: the kinds there are, built, written, opened and asked.

A kind is FAISS's own factory string: `Flat`, `SQfp16`, `IVF4096,SQ8`, `HNSW32,SQfp16`, `BFlat`, …
Those that begin with B hold sign codes. Every kind takes a selector of rows, so that filters and
deletions are pushed down; kinds that cannot (PQ without lists, `BIVF`) are not offered.
"""

import contextlib
import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from encoder.array_files import naming
from encoder.errors import PocketlensError, first_line
from encoder.sign_codes import pack_signs

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_CODES = r"(Flat|SQfp16|SQ8|SQ4|PQ\d+(x4fs)?|RaBitQ(fs)?)"
_KINDS = re.compile(
    rf"Flat|SQfp16|SQ8|SQ4|RaBitQ|BFlat|IVF(?P<lists>\d+),{_CODES}"
    r"|B?HNSW(?P<links>\d+)(,(Flat|SQfp16|SQ8))?"
)
_EXACT = ("Flat", "SQfp16")
# FAISS asks for this many vectors a centroid to train on.
_POINTS_A_CENTROID = 39
_CENTROIDS_OF_A_CODE = 256
_WRITTEN_AT_ONCE = 1 << 22


@dataclasses.dataclass(frozen=True)
class SearchEffort:
    """Say how hard an index looks: lists probed, candidates kept by a graph, share re-scored.

    `rescore` times as many candidates as asked for are scored again from their stored vectors.
    """

    probes: int = 1
    graph_candidates: int = 64
    rescore: int = 1


@dataclasses.dataclass(frozen=True)
class Kind:
    """Name what a FAISS index is made of."""

    spec: str

    def __post_init__(self) -> None:
        found = _KINDS.fullmatch(self.spec)
        if not found or (self.binary and "," in self.spec):
            raise PocketlensError(
                f"no index of kind {self.spec!r}: Flat, SQfp16, SQ8, SQ4, RaBitQ, "
                "IVF1024,Flat (or any of these behind the comma, or PQ32, PQ32x4fs, RaBitQfs), "
                "HNSW32, HNSW32,SQfp16, HNSW32,SQ8, BFlat or BHNSW32"
            )
        if int(found["lists"] or 1) < 1 or not 2 <= int(found["links"] or 2) <= 512:
            raise PocketlensError(f"no index of kind {self.spec!r}: a number in it is out of range")

    @property
    def binary(self) -> bool:
        """Return whether it holds sign codes."""
        return self.spec.startswith("B")

    @property
    def lists(self) -> int:
        """Return the number of inverted lists; 0 where there are none."""
        return int((_KINDS.fullmatch(self.spec) or {"lists": 0})["lists"] or 0)

    @property
    def graph(self) -> bool:
        """Return whether it walks a graph."""
        return "HNSW" in self.spec

    @property
    def exact(self) -> bool:
        """Return whether it compares with every vector as it is stored."""
        return self.spec in _EXACT

    @property
    def storage(self) -> str:
        """Return how a vector is kept: what stands behind the comma, or all there is."""
        return self.spec.partition(",")[2] or ("Flat" if self.graph else self.spec)

    @property
    def scores_exactly(self) -> bool:
        """Return whether its scores are those of the vectors, in float32 or float16."""
        return not self.binary and self.storage in _EXACT

    @property
    def keeps_vectors(self) -> bool:
        """Return whether the vectors can be read back, row by row, from the index alone."""
        return self.scores_exactly and not self.lists

    def count_training_vectors(self) -> int:
        """Return how many vectors it learns from, where it learns and there are as many."""
        codes = _CENTROIDS_OF_A_CODE if "PQ" in self.spec else 64
        return _POINTS_A_CENTROID * max(self.lists, codes)


def make_index(kind: Kind, dim: int) -> Any:
    """Return an empty index.

    Raises:
        PocketlensError: when FAISS has no such index of this dimension.
    """
    try:
        if kind.binary:
            return faiss.index_binary_factory(_code_bits(dim), kind.spec)
        return faiss.index_factory(dim, kind.spec, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise PocketlensError(
            f"no index of kind {kind.spec!r} for {dim} dimensions ({_reason(error)})"
        ) from None


def require_enough(kind: Kind, count: int) -> None:
    """Refuse a kind that so many vectors are too few to train.

    Raises:
        PocketlensError: naming how many it needs.
    """
    least = kind.lists or (_CENTROIDS_OF_A_CODE if "PQ" in kind.spec else 1)
    if count < least:
        raise PocketlensError(
            f"an index of kind {kind.spec} needs {least} vectors to learn from, and there are "
            f"{count}; choose a smaller one, or Flat"
        )


def train(index: Any, kind: Kind, sample: Vectors) -> None:
    """Train an index on a sample `[n, dim]`.

    Raises:
        PocketlensError: when the sample is too small.
    """
    require_enough(kind, len(sample))
    for learner in (index, getattr(index, "pq", None)):
        clustering = getattr(learner, "cp", None)
        if clustering is not None:
            # Its advice on how many to train on is followed where there are as many.
            clustering.min_points_per_centroid = 1
    index.train(sample)


def add(index: Any, kind: Kind, vectors: Vectors) -> None:
    """Append unit vectors `[n, dim]`."""
    index.add(pack_signs(vectors) if kind.binary else np.ascontiguousarray(vectors))


def write(index: Any, kind: Kind, file: Path) -> None:
    """Write an index to a file that plain FAISS opens.

    Raises:
        OSError: naming the file, when it cannot be written.
        PocketlensError: when FAISS cannot write an index like this.
    """
    library: Any = faiss
    try:
        # Not by FAISS: that the end of a file found no room, it prints and goes on.
        with naming(file), file.open("wb") as stream:
            writer = library.PyCallbackIOWriter(stream.write, _WRITTEN_AT_ONCE)
            (faiss.write_index_binary if kind.binary else faiss.write_index)(index, writer)
    except RuntimeError as error:
        raise PocketlensError(f"{file}: cannot be written ({_reason(error)})") from None


def read(kind: Kind, file: Path, *, mapped: bool = True) -> Any:
    """Open an index; `mapped` leaves its vectors in the file.

    Raises:
        PocketlensError: when FAISS cannot read it.
    """
    try:
        opened = (faiss.read_index_binary if kind.binary else faiss.read_index)(
            str(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0
        )
    except RuntimeError as error:
        raise PocketlensError(f"{file}: FAISS cannot read it ({_reason(error)})") from None
    return opened


def view_vectors(index: Any, kind: Kind) -> NDArray[Any]:
    """Return the vectors `[n, dim]` that an index keeps as they are, float32 or float16, uncopied.

    They live as long as the index does.
    """
    if not kind.keeps_vectors:
        raise ValueError(f"{kind.spec} does not keep vectors")
    stored: Any = faiss.downcast_index(index.storage) if kind.graph else index
    count, dim = int(index.ntotal), int(index.d)
    if not count:
        return np.empty((0, dim), np.float32)
    flat = faiss.rev_swig_ptr(stored.codes.data(), stored.codes.size())
    number = np.float16 if "SQfp16" in kind.spec else np.float32
    view: NDArray[Any] = flat.view(number).reshape(count, dim)
    return view


def view_codes(index: Any) -> NDArray[np.uint8]:
    """Return the sign codes `[n, ⌈dim / 8⌉]` of a binary index, uncopied; as `view_vectors`."""
    stored: Any = faiss.downcast_IndexBinary(index.storage) if hasattr(index, "hnsw") else index
    codes: NDArray[np.uint8] = faiss.rev_swig_ptr(stored.xb.data(), stored.xb.size())
    return codes.reshape(int(stored.ntotal), int(stored.code_size))


def refine(index: Any, vectors: NDArray[np.float16]) -> Any:
    """Return an index that scores what another found by the vectors `[n, dim]` as they are stored.

    They are not copied: keep them, and the index, as long as what is returned.
    """
    library: Any = faiss
    stored = library.IndexScalarQuantizer(
        vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    codes = vectors.reshape(-1).view(np.uint8)
    stored.codes = library.MaybeOwnedVectorUInt8.create_view(
        faiss.swig_ptr(codes), codes.nbytes, _map_something().codes.owner
    )
    stored.ntotal = len(vectors)
    return faiss.IndexRefine(index, stored)


@functools.cache
def _map_something() -> Any:
    """Return an index in a file, for its owner: FAISS borrows no memory without one."""
    empty = faiss.IndexFlatIP(1)
    empty.add(np.zeros((1, 1), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "owner.faiss")
        faiss.write_index(empty, file)
        return faiss.read_index(file, faiss.IO_FLAG_MMAP_IFC)


def find(
    index: Any,
    kind: Kind,
    queries: Vectors,
    count: int,
    effort: SearchEffort,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[Vectors, Rows]:
    """Return scores and rows `[n, count]` of what seems nearest to unit vectors, best first.

    Where there are no more, the score is minus infinity. Only rows that are `allowed`, one boolean
    for each, are answered. Scores are cosines, of sign codes shares of bits. An index that was
    refined looks at `effort.rescore` times as many rows.
    """
    if allowed is None:
        parameters = _plain_parameters(kind, count, effort)
    else:
        bits = np.packbits(allowed, bitorder="little")
        chosen = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bits))
        parameters = _parameters(kind, count, effort, sel=chosen)
    asked = pack_signs(queries) if kind.binary else np.ascontiguousarray(queries)
    # A loss library puts a search of tensors in place of the one that takes parameters.
    search = getattr(index, "search_numpy", index.search)
    scores, rows = search(asked, count, params=parameters)
    if kind.binary:
        scores = 1 - scores.astype(np.float32) / (index.d / 2)
    # They stand at the end.
    if rows[:, -1:].min(initial=0) < 0:
        scores[rows < 0] = -np.inf
    return scores, rows


@functools.lru_cache(64)
def _plain_parameters(kind: Kind, count: int, effort: SearchEffort) -> Any:
    return _parameters(kind, count, effort)


def _parameters(kind: Kind, count: int, effort: SearchEffort, **selector: Any) -> Any:
    # Its type hints do not know what its own constructors take.
    library: Any = faiss
    looked_at = count if kind.scores_exactly or kind.binary else count * effort.rescore
    if kind.lists:
        found = library.SearchParametersIVF(nprobe=min(effort.probes, kind.lists), **selector)
    elif kind.graph:
        width = max(effort.graph_candidates, looked_at)
        found = library.SearchParametersHNSW(efSearch=width, **selector)
    elif selector:
        found = library.SearchParameters(**selector)
    else:
        found = None
    if kind.scores_exactly or kind.binary:
        return found
    return library.IndexRefineSearchParameters(
        k_factor=effort.rescore, **({"base_index_params": found} if found else {})
    )


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    """Keep what this thread asks of FAISS to one thread."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _code_bits(dim: int) -> int:
    return -(-dim // 8) * 8


def _reason(error: RuntimeError) -> str:
    # FAISS says where in its source an error arose, and what is wrong last.
    return first_line(RuntimeError(str(error).rpartition("Error: ")[2]))
