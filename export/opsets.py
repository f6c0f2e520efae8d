"""Write a graph in an older or newer set of operators than the one it was built in."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from encoder.errors import PocketlensError
from export.graph_part import OPSET

# Older ones lack 8-bit weights with a scale for each channel; newer ones most devices.
OLDEST, NEWEST = 13, 21
# What resizes with an antialias, inside a `photo` graph, came with this one.
OLDEST_PHOTO = 18


def set_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return the model in this opset, with the oldest IR that it allows.

    What older opsets write otherwise is rewritten; that the rest means the same there is for the
    parity check behind it to show.

    Raises:
        PocketlensError: when an operator of the model is not in that opset.
    """
    if opset < OPSET:
        _spell_out_layer_norms(model)
        _put_axes_into_attributes(model)
        _forget_zero_sizes(model)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker raises several kinds
        reason = str(error).partition("\n")[0][:160]
        raise PocketlensError(f"the network cannot be written in opset {opset}: {reason}") from None
    return model


def _put_axes_into_attributes(model: onnx.ModelProto) -> None:
    """Write the axes of reductions as before opset 18; those of sums were inputs from 13 on."""
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if not node.op_type.startswith("Reduce") or node.op_type == "ReduceSum":
            continue
        kept = [each for each in node.attribute if each.name != "noop_with_empty_axes"]
        if len(node.input) == 2 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input.pop()]).tolist()
            kept.append(helper.make_attribute("axes", axes))
        del node.attribute[:]
        node.attribute.extend(kept)
    used = {name for node in model.graph.node for name in node.input}
    left = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)


def _forget_zero_sizes(model: onnx.ModelProto) -> None:
    """Remove what opset 14 lets reshapes say of sides of length 0: there are none."""
    for node in model.graph.node:
        if node.op_type == "Reshape":
            del node.attribute[:]


def _spell_out_layer_norms(model: onnx.ModelProto) -> None:
    """Replace each LayerNormalization over the last axis, new in opset 17, by what it computes."""
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type != "LayerNormalization" or attributes.get("axis", -1) != -1:
            nodes.append(node)
            continue
        nodes += _compute_layer_norm(graph, node, attributes.get("epsilon", 1e-5))
    del graph.node[:]
    graph.node.extend(nodes)


def _compute_layer_norm(
    graph: onnx.GraphProto, node: onnx.NodeProto, epsilon: float
) -> list[onnx.NodeProto]:
    made: list[onnx.NodeProto] = []

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{node.name}/{name}"))
        return f"{node.name}/{name}"

    def add(op: str, name: str, *inputs: str, **attributes: Any) -> str:
        output = f"{node.name}/{name}"
        made.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes))
        return output

    vectors, *affine = node.input
    axis = constant("axis", np.array([-1], np.int64))
    centred = add("Sub", "centred", vectors, add("ReduceMean", "mean", vectors, axis, keepdims=1))
    variance = add("ReduceMean", "variance", add("Mul", "squares", centred, centred), axis)
    least = constant("epsilon", np.array(epsilon, np.float32))
    deviation = add("Sqrt", "deviation", add("Add", "above_zero", variance, least))
    value = add("Div", "normalised", centred, deviation)
    for op, other in zip(("Mul", "Add"), affine, strict=False):
        value = add(op, f"{op.lower()}_affine", value, other)
    made[-1].output[0] = node.output[0]
    return made
