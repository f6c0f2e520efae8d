"""A part of a graph that is ours: nodes and constants collected under one prefix."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18
# The oldest IR that opset 18 allows: older runtimes on devices refuse newer ones.
IR_VERSION = 8


class GraphPart:
    """Collect nodes and constants; every name begins with the prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any) -> str:
        """Hold a constant, one for each name; return the name in the graph."""
        full = self._prefix + name
        self._constants.setdefault(full, numpy_helper.from_array(np.asarray(value), full))
        return full

    def integers(self, name: str, *values: int) -> str:
        """Hold a list of whole numbers, as shapes and axes are given."""
        return self.constant(name, np.array(values, np.int64))

    def add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = self._prefix + name
        node_name = f"{self._prefix}{op}/{name}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=node_name, **attributes))
        return output

    def close(
        self, given: onnx.ValueInfoProto, made: onnx.ValueInfoProto, title: str
    ) -> onnx.ModelProto:
        """Return the part as a model whose output is what the last node makes."""
        self._nodes[-1].output[0] = made.name
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, title, [given], [made], constants)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
