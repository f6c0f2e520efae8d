"""What stands behind the network in a graph: prefix, unit length, or a code of fewer bytes."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.contract import POSTPROCESS_PREFIX, Contract
from export.forms import OUTPUTS, count_values
from export.graph_part import GraphPart

NETWORK_OUTPUT = "network_output"
_TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
# A vector of length zero stays one instead of becoming not a number.
_LEAST_SQUARE = np.float32(1e-24)
_LEAST = np.float32(1e-12)


def build_back(contract: Contract) -> onnx.ModelProto:
    """Build what turns a network's vectors `[n, dim]` into what the contract says is given."""
    form, dim, native = contract.form, contract.dim, contract.space.dim
    of_photo = contract.kind == "photo"
    part, vector = GraphPart(POSTPROCESS_PREFIX), NETWORK_OUTPUT
    if dim < native:
        bounds = [part.integers("from", 0), part.integers("to", dim), part.integers("axis", -1)]
        vector = part.add("Slice", [vector, *bounds], "prefix")
    if form == "binary":
        value = _pack_signs(part, vector, dim)
    else:
        value = _round(part, vector) if form == "int8" else _scale_to_unit(part, vector, dim)
    if of_photo:
        part.add("Squeeze", [value, part.integers("first", 0)], "single")
    batch: int | str = 1 if of_photo else "batch"
    name, type_ = OUTPUTS[form]
    values = count_values(form, dim)
    return part.close(
        helper.make_tensor_value_info(NETWORK_OUTPUT, TensorProto.FLOAT, [batch, native]),
        helper.make_tensor_value_info(
            name, _TYPES[type_], [values] if of_photo else [batch, values]
        ),
        "back",
    )


def _scale_to_unit(part: GraphPart, vector: str, dim: int) -> str:
    # A product with ones is a sum that every accelerator takes; ReduceL2 is not.
    squares = part.add("Mul", [vector, vector], "squares")
    ones = part.constant("ones", np.ones((dim, 1), np.float32))
    summed = part.add("MatMul", [squares, ones], "sum")
    some = part.add("Add", [summed, part.constant("least", _LEAST_SQUARE)], "some")
    return part.add("Div", [vector, part.add("Sqrt", [some], "length")], "unit")


def _round(part: GraphPart, vector: str) -> str:
    sizes = part.add("Abs", [vector], "sizes")
    largest = part.add("ReduceMax", [sizes, part.integers("axis", -1)], "largest", keepdims=1)
    some = part.add("Max", [largest, part.constant("least", _LEAST)], "some")
    shares = part.add("Div", [vector, some], "shares")
    scaled = part.add("Mul", [shares, part.constant("steps", np.float32(127))], "scaled")
    rounded = part.add("Round", [scaled], "rounded")
    return part.add("Cast", [rounded], "code", to=TensorProto.INT8)


def _pack_signs(part: GraphPart, vector: str, dim: int) -> str:
    positive = part.add("Greater", [vector, part.constant("zero", np.float32(0))], "positive")
    bits = part.add("Cast", [positive], "bits", to=TensorProto.FLOAT)
    length = count_values("binary", dim)
    if dim % 8:
        pads = part.integers("pads", 0, 0, 0, 8 * length - dim)
        bits = part.add("Pad", [bits, pads], "filled")
    grouped = part.add("Reshape", [bits, part.integers("in_bytes", -1, length, 8)], "grouped")
    worths = part.constant("worths", (2.0 ** np.arange(7, -1, -1)).astype(np.float32)[:, None])
    summed = part.add("MatMul", [grouped, worths], "summed")
    flat = part.add("Reshape", [summed, part.integers("flat", -1, length)], "bytes")
    return part.add("Cast", [flat], "code", to=TensorProto.UINT8)
