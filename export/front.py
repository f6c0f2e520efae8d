"""What stands before the network in a graph: crop, antialiased resize, normalisation."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from encoder.preprocess import CROP_STEPS, Preprocess, crop_steps
from export.contract import INPUTS, PREPROCESS_PREFIX, Kind
from export.graph_part import GraphPart

NETWORK_INPUT = "network_input"
# Pillow's bicubic has this coefficient; ONNX's own default is −0.75.
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


def build_front(preprocess: Preprocess, kind: Kind = "photo") -> onnx.ModelProto:
    """Build what turns one uint8 HWC image, or a batch of cut ones, into the network's input."""
    part, size = GraphPart(PREPROCESS_PREFIX), preprocess.size
    batch: int | str = 1 if kind == "photo" else "batch"
    shape, type_ = [batch, 3, size, size], TensorProto.FLOAT
    planes = INPUTS[kind]
    if kind == "photo":
        shape, type_ = ["height", "width", 3], TensorProto.UINT8
        planes = _cut(part, planes, preprocess)
    mean = part.constant("mean", _channels(preprocess.mean))
    scale = part.constant("scale", 1 / _channels(preprocess.std))
    centred = part.add("Sub", [planes, mean], "centred")
    part.add("Mul", [centred, scale], "input")
    made = [batch, 3, size, size]
    return part.close(
        helper.make_tensor_value_info(INPUTS[kind], type_, shape),
        helper.make_tensor_value_info(NETWORK_INPUT, TensorProto.FLOAT, made),
        "front",
    )


def _cut(part: GraphPart, image: str, preprocess: Preprocess) -> str:
    """Crop and resize an image `[height, width, 3]` to float planes `[1, 3, size, size]`."""
    size = preprocess.size
    cropped = _crop(part, image, preprocess)
    axis = part.constant("batch_axis", np.array([0], np.int64))
    batch = part.add("Unsqueeze", [cropped, axis], "batch")
    # On bytes, channels last, and with weights outside the picture left out, ONNX Runtime
    # rounds as Pillow does: within one grey level. Without exclude_outside the border is off
    # by up to 17.
    sizes = part.constant("sizes", np.array([1, size, size, 3], np.int64))
    resized = part.add(
        "Resize",
        [batch, "", "", sizes],
        "resized",
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        **_MODES[preprocess.interpolation],
    )
    planes = part.add("Transpose", [resized], "planes", perm=[0, 3, 1, 2])
    return part.add("Cast", [planes], "floats", to=TensorProto.FLOAT)


def _crop(part: GraphPart, image: str, preprocess: Preprocess) -> str:
    """Slice the box of `Preprocess.crop_box`, in the same whole-number arithmetic."""
    add, constant = part.add, part.constant
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
    """Return a constant for planes: of one number where all channels have the same.

    ONNX Runtime moves the planes' transposition behind it where it can, and one number a channel
    costs ten times as much on channels that come last.
    """
    different = np.array(values, np.float32)
    return different[:1] if len(set(values)) == 1 else different.reshape(1, 3, 1, 1)
