"""The retrieval gate: an int8 encoder is accepted only if its queries still find what they found.

What is judged is the arithmetic of the format, exactly, as phones and CPUs with 8-bit dot products
compute it: the same answer on every machine. Older x86 CPUs saturate; `runtime` notices that where
a file is opened.
"""

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.evaluation.protocol import EncodedSet, compare_rows, evaluate_pair
from encoder.preprocess import Preprocess, normalise
from encoder.progress import track
from export.front import NETWORK_INPUT
from export.quantise import Quantiser

Vectors = NDArray[np.float32]
# Enough to tell which nodes do harm.
_LOOKED_AT = 48


@dataclasses.dataclass(frozen=True)
class GateLimits:
    """Hold what an encoder may lose: points of R@1 (upper bound), and cosine to fp32 (mean)."""

    max_drop: float = 1.0
    min_cosine: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.max_drop <= 100:
            raise PocketlensError(f"--max-drop {self.max_drop} is not above 0 and at most 100")
        if not 0 <= self.min_cosine < 1:
            raise PocketlensError(f"--min-cosine {self.min_cosine} is not at least 0 and below 1")


@dataclasses.dataclass(frozen=True)
class GateSet:
    """Hold cut pictures `[n, size, size, 3]` that ask, and what they ask: nothing, if unlabelled.

    `database` has one vector and one label for each picture.
    """

    images: NDArray[np.uint8]
    preprocess: Preprocess
    database: EncodedSet | None = None
    split: str = "val"


@dataclasses.dataclass(frozen=True)
class GateReport:
    """Say what was lost: `drop` and `upper` in points of R@1, None where nothing was asked.

    `split` says which images asked: the training's own (`train`) flatter.
    """

    images: int
    split: str
    mean_cosine: float
    drop: float | None
    upper: float | None
    kept: tuple[str, ...]
    tried: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {**dataclasses.asdict(self), "kept": list(self.kept)}

    def tell(self) -> str:
        """Return the report in words."""
        lost = (
            "R@1 not measured: no labels"
            if self.drop is None
            else (f"R@1 falls by {self.drop:.2f} points, at most {self.upper:.2f}")
        )
        floats = f"; {len(self.kept)} nodes stay in float" if self.kept else ""
        near = f"mean cosine {self.mean_cosine:.4f}"
        return f"int8 on {self.images} {self.split} images: {near}, {lost}{floats}"

    def passes(self, limits: GateLimits) -> bool:
        """Return whether this little may be lost."""
        near = self.mean_cosine >= limits.min_cosine
        return near and (self.upper is None or self.upper < limits.max_drop)


def quantise_gated(
    network: onnx.ModelProto, quantiser: Quantiser, asked: GateSet, limits: GateLimits
) -> tuple[onnx.ModelProto, GateReport]:
    """Return the network in int8, with as few nodes in float32 as the gate asks for.

    If all in int8 does not pass, nodes are tried one by one, and the most harmful 1, 2, 4, … stay
    in float32.

    Raises:
        PocketlensError: when it does not pass with half of the nodes in float32.
    """
    plain = embed_exactly(network, asked.images, asked.preprocess)

    def attempt(kept: tuple[str, ...], tried: int) -> tuple[onnx.ModelProto, GateReport]:
        model = quantiser.quantise(kept)
        found = embed_exactly(model, asked.images, asked.preprocess)
        return model, _report(plain, found, asked, kept, tried)

    model, report = attempt((), 1)
    if report.passes(limits):
        return model, report
    order = rank_harm(plain, quantiser, asked)
    count, tried = 1, 1 + len(order)
    while count <= len(order) // 2:
        tried += 1
        model, report = attempt(tuple(order[:count]), tried)
        if report.passes(limits):
            return model, report
        count *= 2
    lost = "" if report.upper is None else f", R@1 falls by up to {report.upper:.2f} points"
    raise PocketlensError(
        f"int8 loses too much even with {len(report.kept)} of {len(order)} nodes in float: mean "
        f"cosine {report.mean_cosine:.4f}{lost}; export fp16, or raise --max-drop and lower "
        "--min-cosine"
    )


def rank_harm(plain: Vectors, quantiser: Quantiser, asked: GateSet) -> list[str]:
    """Return the nodes, the one whose quantisation alone changes the vectors most first."""
    images, expected = asked.images[:_LOOKED_AT], plain[:_LOOKED_AT]
    cosines: dict[str, float] = {}
    with track("looking for harmful nodes", len(quantiser.nodes)) as advance:
        for node in quantiser.nodes:
            alone = quantiser.quantise([name for name in quantiser.nodes if name != node])
            found = embed_exactly(alone, images, asked.preprocess)
            cosines[node] = float((found * expected).sum(axis=1).mean())
            advance(1)
    return sorted(cosines, key=lambda node: cosines[node])


def embed_exactly(
    network: onnx.ModelProto, images: NDArray[np.uint8], preprocess: Preprocess
) -> Vectors:
    """Return a network's unit vectors; 8-bit products computed exactly, if slowly, on any CPU."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        network.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = (normalise(image[None], preprocess) for image in images)
    found = np.concatenate([session.run(None, {NETWORK_INPUT: each})[0] for each in inputs])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def _report(
    plain: Vectors,
    found: Vectors,
    asked: GateSet,
    kept: tuple[str, ...],
    tried: int,
) -> GateReport:
    drop = upper = None
    database = asked.database
    if database is not None:
        before, after = (
            evaluate_pair(name, dataclasses.replace(database, vectors=vectors), database)
            for name, vectors in (("fp32", plain), ("int8", found))
        )
        drop = before.figures["r1"] - after.figures["r1"]
        upper = compare_rows(before, after)["r1"].high
    mean_cosine = float((plain * found).sum(axis=1).mean())
    return GateReport(len(plain), asked.split, mean_cosine, drop, upper, kept, tried)
