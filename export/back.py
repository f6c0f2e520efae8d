"""What stands behind the network in a graph: prefix, unit length, or a code of fewer bytes."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.contract import POSTPROCESS_PREFIX, Contract
from export.forms import OUTPUTS, count_values
from export.front import IR_VERSION, OPSET

NETWORK_OUTPUT = "network_output"
_TYPES = {"float32": TensorProto.FLOAT, "int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
# A vector of length zero stays one instead of becoming not a number.
_LEAST_SQUARE = np.float32(1e-24)
_LEAST = np.float32(1e-12)


def build_back(contract: Contract) -> onnx.ModelProto:
    """Build what turns a network's vectors `[n, dim]` into what the contract says is given."""
    return _Back(contract).build()


class _Back:
    """Collect the nodes and constants of the graph behind the network."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        """Return the graph as a model of its own."""
        contract = self.contract
        form, dim, native = contract.form, contract.dim, contract.space.dim
        of_photo = contract.kind == "photo"
        batch: int | str = 1 if of_photo else "batch"
        vector = NETWORK_OUTPUT
        if dim < native:
            bounds = [self._whole(name, [at]) for name, at in (("from", 0), ("to", dim))]
            vector = self._add("Slice", [vector, *bounds, self._whole("axis", [-1])], "prefix")
        make = {"float": self._scale_to_unit, "int8": self._round, "binary": self._pack_signs}
        name, type_ = OUTPUTS[form]
        value = make[form](vector)
        if of_photo:
            value = _node("Squeeze", [self._put(value, "batch"), self._whole("first", [0])])
        self._add_node(value, name)
        values = count_values(form, dim)
        made = helper.make_tensor_value_info(
            name, _TYPES[type_], [values] if of_photo else [batch, values]
        )
        given = helper.make_tensor_value_info(NETWORK_OUTPUT, TensorProto.FLOAT, [batch, native])
        graph = helper.make_graph(self.nodes, "back", [given], [made], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)

    def _scale_to_unit(self, vector: str) -> onnx.NodeProto:
        # A product with ones is a sum that every accelerator takes; ReduceL2 is not.
        squares = self._add("Mul", [vector, vector], "squares")
        ones = self._constant("ones", np.ones((self.contract.dim, 1), np.float32))
        summed = self._add("MatMul", [squares, ones], "sum")
        some = self._add("Add", [summed, self._constant("least", _LEAST_SQUARE)], "some")
        return _node("Div", [vector, self._add("Sqrt", [some], "length")])

    def _round(self, vector: str) -> onnx.NodeProto:
        sizes = self._add("Abs", [vector], "sizes")
        largest = self._add("ReduceMax", [sizes, self._whole("axis", [-1])], "largest", keepdims=1)
        least = self._constant("least", _LEAST)
        shares = self._add("Div", [vector, self._add("Max", [largest, least], "some")], "shares")
        scaled = self._add("Mul", [shares, self._constant("steps", np.float32(127))], "scaled")
        return _node("Cast", [self._add("Round", [scaled], "rounded")], to=TensorProto.INT8)

    def _pack_signs(self, vector: str) -> onnx.NodeProto:
        dim = self.contract.dim
        positive = self._add("Greater", [vector, self._constant("zero", np.float32(0))], "positive")
        bits = self._add("Cast", [positive], "bits", to=TensorProto.FLOAT)
        missing = -dim % 8
        if missing:
            bits = self._add("Pad", [bits, self._whole("pads", [0, 0, 0, missing])], "filled")
        shape = self._whole("in_bytes", [-1, count_values("binary", dim), 8])
        grouped = self._add("Reshape", [bits, shape], "grouped")
        worths = self._constant("worths", (2.0 ** np.arange(7, -1, -1)).astype(np.float32)[:, None])
        summed = self._add("MatMul", [grouped, worths], "summed")
        flat = self._whole("flat", [-1, count_values("binary", dim)])
        return _node("Cast", [self._add("Reshape", [summed, flat], "bytes")], to=TensorProto.UINT8)

    def _whole(self, name: str, values: list[int]) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, value: Any) -> str:
        full = POSTPROCESS_PREFIX + name
        if all(constant.name != full for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(value), full))
        return full

    def _add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self._put(_node(op, inputs, **attributes), name)

    def _put(self, node: onnx.NodeProto, name: str) -> str:
        self._add_node(node, POSTPROCESS_PREFIX + name)
        return POSTPROCESS_PREFIX + name

    def _add_node(self, node: onnx.NodeProto, output: str) -> None:
        node.output.append(output)
        node.name = f"{POSTPROCESS_PREFIX}{node.op_type}/{output.removeprefix(POSTPROCESS_PREFIX)}"
        self.nodes.append(node)


def _node(op: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [], **attributes)
