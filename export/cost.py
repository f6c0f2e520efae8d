"""What an encoder file costs a device: multiplications, bytes, and milliseconds side by side."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.preprocess import Pixels
from export.runtime import QueryEncoder

_PRODUCTS = ("Conv", "Gemm", "MatMul")


def count_macs(file: Path) -> int:
    """Return the multiply-accumulates of the convolutions and matrix products for a picture.

    Resizing, normalising and sums are not counted.

    Raises:
        PocketlensError: when a product's shape does not follow from the file.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(file), data_prop=True)
    graph = model.graph
    shapes = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        # A batch of any size counts as one.
        shapes[value.name] = tuple(
            1 if at.dim_param == "batch" else at.dim_value
            for at in value.type.tensor_type.shape.dim
        )
    total = 0
    for node in graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        weights, made = shapes.get(node.input[1], ()), shapes.get(node.output[0], ())
        if not weights or not made or not all((*weights, *made)):
            raise PocketlensError(f"{file}: the shape of {node.name} ({node.op_type}) is not known")
        if node.op_type == "MatMul" and weights[-1] == 1:
            continue  # a sum in disguise
        of_convolution = node.op_type == "Conv"
        depth = math.prod(weights[1:]) if of_convolution else math.prod(weights) // made[-1]
        total += math.prod(made) * depth
    return total


def time_side_by_side(
    encoders: Sequence[QueryEncoder],
    pictures: Sequence[Pixels],
    *,
    rounds: int,
    warm_up: int = 5,
) -> NDArray[np.float64]:
    """Return the milliseconds `[rounds, encoders]` from each one's decoded picture to the vector.

    In each round every encoder has its turn, so that a noisy machine is fair to all.
    """
    times = np.empty((warm_up + rounds, len(encoders)))
    for row in times:
        for place, encoder in enumerate(encoders):
            started = time.perf_counter()
            encoder.embed(pictures[place])
            row[place] = 1e3 * (time.perf_counter() - started)
    return times[warm_up:]
