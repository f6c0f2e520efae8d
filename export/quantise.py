"""int8: static quantisation of a network, calibrated on pictures behind its own preprocessing.

Weights are int8 for each channel, activations uint8 for each tensor, in the QDQ form that every
runtime reads. Only the network is quantised, never the preprocessing before it.
"""

import math
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from encoder.preprocess import Preprocess, normalise
from export.front import NETWORK_INPUT
from export.quiet import quiet

# What has weights, or joins branches: each is quantised with the activation behind it.
_OPERATORS = ("Conv", "Gemm", "MatMul", "Add")
_ACTIVATIONS = ("Clip", "Relu")


class Quantiser:
    """Quantise one network again and again, keeping more or fewer of its nodes in float32."""

    def __init__(
        self, network: onnx.ModelProto, images: NDArray[np.uint8], preprocess: Preprocess
    ) -> None:
        """Prepare a network; `images` `[n, size, size, 3]` are cut ones to calibrate on."""
        self._images, self._preprocess = images, preprocess
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self._scratch.name)
        plain, self._prepared = folder / "network.onnx", folder / "prepared.onnx"
        self._output, self._ranges = folder / "int8.onnx", folder / "ranges.json"
        onnx.save(network, plain)
        with quiet():
            # Symbolic shape inference stumbles over what PyTorch's exporter writes.
            quant_pre_process(plain, self._prepared, skip_symbolic_shape=True)
        graph = onnx.load(self._prepared).graph
        constants = {each.name: tuple(each.dims) for each in graph.initializer}
        self.nodes = tuple(
            node.name
            for node in graph.node
            if node.op_type in _OPERATORS and not _is_of_norm(node, constants)
        )
        behind = {node.input[0]: node.name for node in graph.node if node.op_type in _ACTIVATIONS}
        self._activations = {
            node.name: behind[node.output[0]] for node in graph.node if node.output[0] in behind
        }

    def quantise(self, kept: Collection[str] = ()) -> onnx.ModelProto:
        """Return the network in int8 but for the nodes named; the first call calibrates."""
        chosen = [name for name in self.nodes if name not in kept]
        chosen += [self._activations[name] for name in chosen if name in self._activations]
        with quiet():
            quantize_static(
                self._prepared,
                self._output,
                _Reader(self._images, self._preprocess),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=chosen,
                calibration_cache_path=self._ranges,
            )
        return onnx.load(self._output)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.cleanup()


def _is_of_norm(node: onnx.NodeProto, constants: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a node sums a vector, or adds one number to all: rounded, these ruin it."""
    shapes = [constants[name] for name in node.input if name in constants]
    if node.op_type == "MatMul":
        return any(shape[-1:] == (1,) for shape in shapes)
    return node.op_type == "Add" and any(math.prod(shape) == 1 for shape in shapes)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Give the pictures to calibrate on, one by one."""

    def __init__(self, images: NDArray[np.uint8], preprocess: Preprocess) -> None:
        self._inputs = ({NETWORK_INPUT: normalise(image[None], preprocess)} for image in images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next input, or nothing behind the last one."""
        return next(self._inputs, None)
