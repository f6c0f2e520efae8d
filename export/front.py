"""What stands before the network in a graph: crop, antialiased resize, normalisation."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from encoder.preprocess import CROP_STEPS, Preprocess, crop_steps
from export.contract import INPUTS, PREPROCESS_PREFIX, Kind

OPSET = 18
# The oldest IR that opset 18 allows: older runtimes on devices refuse newer ones.
IR_VERSION = 8
NETWORK_INPUT = "network_input"
# Pillow's bicubic has this coefficient; ONNX's own default is −0.75.
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


def build_front(preprocess: Preprocess, kind: Kind = "photo") -> onnx.ModelProto:
    """Build what turns one uint8 HWC image, or a batch of cut ones, into the network's input."""
    return _Front(preprocess).build(kind)


class _Front:
    """Collect the nodes and constants of the graph before the network."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def build(self, kind: Kind) -> onnx.ModelProto:
        """Return the graph as a model of its own."""
        size = self.preprocess.size
        batch: int | str = 1 if kind == "photo" else "batch"
        shape, type_ = [batch, 3, size, size], TensorProto.FLOAT
        planes = INPUTS[kind]
        if kind == "photo":
            shape, type_ = ["height", "width", 3], TensorProto.UINT8
            planes = self._cut(planes)
        mean = self._constant("mean", _channels(self.preprocess.mean))
        scale = self._constant("scale", 1 / _channels(self.preprocess.std))
        centred = self._add("Sub", [planes, mean], "centred")
        name = PREPROCESS_PREFIX + "Mul/input"
        self.nodes.append(helper.make_node("Mul", [centred, scale], [NETWORK_INPUT], name=name))
        made = [batch, 3, size, size]
        graph = helper.make_graph(
            self.nodes,
            "front",
            [helper.make_tensor_value_info(INPUTS[kind], type_, shape)],
            [helper.make_tensor_value_info(NETWORK_INPUT, TensorProto.FLOAT, made)],
            self.constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)

    def _constant(self, name: str, value: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(value), PREPROCESS_PREFIX + name)
        self.constants.append(tensor)
        return PREPROCESS_PREFIX + name

    def _add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = PREPROCESS_PREFIX + name
        node_name = f"{PREPROCESS_PREFIX}{op}/{name}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=node_name, **attributes))
        return output

    def _cut(self, image: str) -> str:
        """Crop and resize an image `[height, width, 3]` to float planes `[1, 3, size, size]`."""
        size = self.preprocess.size
        cropped = self._crop(image)
        axis = self._constant("batch_axis", np.array([0], np.int64))
        batch = self._add("Unsqueeze", [cropped, axis], "batch")
        # On bytes, channels last, and with weights outside the picture left out, ONNX Runtime
        # rounds as Pillow does: within one grey level. Without exclude_outside the border is off
        # by up to 17.
        sizes = self._constant("sizes", np.array([1, size, size, 3], np.int64))
        resized = self._add(
            "Resize",
            [batch, "", "", sizes],
            "resized",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
            **_MODES[self.preprocess.interpolation],
        )
        planes = self._add("Transpose", [resized], "planes", perm=[0, 3, 1, 2])
        return self._add("Cast", [planes], "floats", to=TensorProto.FLOAT)

    def _crop(self, image: str) -> str:
        """Slice the box of `Preprocess.crop_box`, in the same whole-number arithmetic."""
        preprocess, add, constant = self.preprocess, self._add, self._constant
        if preprocess.fit == "squash" and preprocess.crop == 1.0:
            return image
        sides = add("Shape", [image], "sides", start=0, end=2)
        available = sides
        if preprocess.fit == "crop":
            available = add("ReduceMin", [sides], "shorter", keepdims=1)
        share = constant("share", np.int64(crop_steps(preprocess.crop)))
        scaled = add("Mul", [available, share], "scaled")
        rounded = add("Add", [scaled, constant("half", np.int64(CROP_STEPS // 2))], "rounded")
        divided = add("Div", [rounded, constant("steps", np.int64(CROP_STEPS))], "divided")
        kept = add("Max", [divided, constant("one", np.int64(1))], "kept")
        spare = add("Sub", [sides, kept], "spare")
        starts = add("Div", [spare, constant("two", np.int64(2))], "starts")
        ends = add("Add", [starts, kept], "ends")
        axes = constant("axes", np.array([0, 1], np.int64))
        return add("Slice", [image, starts, ends, axes], "cropped")


def _channels(values: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(1, 3, 1, 1)
