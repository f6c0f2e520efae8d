"""Weights of half the bytes: float16 in the file, float32 in the arithmetic."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from encoder.errors import PocketlensError
from export.contract import PREPROCESS_PREFIX

# Smaller tensors are not worth a node.
_LEAST = 64


def store_half(model: onnx.ModelProto) -> None:
    """Store the network's weights as float16, each cast back once, when a session is opened.

    Arithmetic and speed stay those of float32: few CPUs compute in float16, and a runtime that can
    is free to fold the casts.

    Raises:
        PocketlensError: when a weight is beyond what float16 can hold.
    """
    casts = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if (
            weights.dtype != np.float32
            or weights.size < _LEAST
            or tensor.name.startswith(PREPROCESS_PREFIX)
        ):
            continue
        if np.abs(weights).max() > np.finfo(np.float16).max:
            raise PocketlensError(f"weight {tensor.name} is beyond what fp16 can hold; export fp32")
        name, stored = tensor.name, f"{tensor.name}/fp16"
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), stored))
        casts.append(
            helper.make_node("Cast", [stored], [name], name=f"{name}/cast", to=TensorProto.FLOAT)
        )
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *rest])
