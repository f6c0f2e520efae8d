"""Checkpoint → ONNX: pixels in, unit vector out, with the preprocessing inside the graph."""

import json
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from encoder.model import EmbeddingModel, fold_for_inference
from encoder.preprocess import CROP_STEPS, Preprocess, crop_steps
from export.contract import INPUT, KEY, OUTPUT, PREPROCESS_PREFIX, Contract

OPSET = 18
# The oldest IR that opset 18 allows: older runtimes on devices refuse newer ones.
IR_VERSION = 8
_PIXELS = "network_input"
# Pillow's bicubic has this coefficient; ONNX's own default is −0.75.
_MODES: dict[str, dict[str, Any]] = {
    "bilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
}


def build_photo_model(checkpoint: Checkpoint, contract: Contract) -> onnx.ModelProto:
    """Build the `photo` graph of a checkpoint; the same checkpoint gives the same bytes.

    Raises:
        PocketlensError: when the exporter cannot translate the trunk.
    """
    network = _export_network(checkpoint)
    front = build_front(checkpoint.preprocess)
    model = onnx.compose.merge_models(
        front, network, io_map=[(_PIXELS, _PIXELS)], name="pocketlens"
    )
    _strip(model)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.producer_name, model.producer_version = "pocketlens", ""
    entry = model.metadata_props.add()
    entry.key = KEY
    entry.value = json.dumps(contract.to_json(), sort_keys=True)
    onnx.checker.check_model(model, full_check=True)
    return model


class _SingleImage(torch.nn.Module):
    """Embed one image: the output of a `photo` graph has no batch axis."""

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model(pixels)[0]  # type: ignore[no-any-return]


def _export_network(checkpoint: Checkpoint) -> onnx.ModelProto:
    network = _SingleImage(fold_for_inference(checkpoint.model, checkpoint.architecture)).eval()
    size = checkpoint.preprocess.size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (torch.zeros(1, 3, size, size),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[_PIXELS],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds
        reason = str(error).partition("\n")[0][:160]
        raise PocketlensError(
            f"trunk {checkpoint.architecture.trunk!r} cannot be exported ({reason})"
        ) from None
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    return model


def build_front(preprocess: Preprocess) -> onnx.ModelProto:
    """Build crop, antialiased resize and normalisation of one uint8 HWC image."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), PREPROCESS_PREFIX + name))
        return PREPROCESS_PREFIX + name

    def add(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = PREPROCESS_PREFIX + name
        node_name = f"{PREPROCESS_PREFIX}{op}/{name}"
        nodes.append(helper.make_node(op, inputs, [output], name=node_name, **attributes))
        return output

    cropped = _add_crop(preprocess, add, constant)
    size = preprocess.size
    batch = add("Unsqueeze", [cropped, constant("batch_axis", np.array([0], np.int64))], "batch")
    # On bytes, channels last, and with weights outside the picture left out, ONNX Runtime rounds
    # as Pillow does: within one grey level. Without exclude_outside the border is off by up to 17.
    sizes = constant("sizes", np.array([1, size, size, 3], np.int64))
    resized = add(
        "Resize",
        [batch, "", "", sizes],
        "resized",
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        **_MODES[preprocess.interpolation],
    )
    planes = add("Transpose", [resized], "planes", perm=[0, 3, 1, 2])
    floats = add("Cast", [planes], "floats", to=TensorProto.FLOAT)
    mean = constant("mean", np.array(preprocess.mean, np.float32).reshape(1, 3, 1, 1))
    scale = constant("scale", (1 / np.array(preprocess.std, np.float32)).reshape(1, 3, 1, 1))
    centred = add("Sub", [floats, mean], "centred")
    nodes.append(
        helper.make_node("Mul", [centred, scale], [_PIXELS], name=PREPROCESS_PREFIX + "Mul/input")
    )
    graph = helper.make_graph(
        nodes,
        "front",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["height", "width", 3])],
        [helper.make_tensor_value_info(_PIXELS, TensorProto.FLOAT, [1, 3, size, size])],
        constants,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)


def _add_crop(preprocess: Preprocess, add: Any, constant: Any) -> str:
    """Slice the box of `Preprocess.crop_box`, in the same whole-number arithmetic."""
    if preprocess.fit == "squash" and preprocess.crop == 1.0:
        return INPUT
    sides = add("Shape", [INPUT], "sides", start=0, end=2)
    available = sides
    if preprocess.fit == "crop":
        available = add("ReduceMin", [sides], "shorter", keepdims=1)
    scaled = add(
        "Mul", [available, constant("share", np.int64(crop_steps(preprocess.crop)))], "scaled"
    )
    rounded = add("Add", [scaled, constant("half", np.int64(CROP_STEPS // 2))], "rounded")
    divided = add("Div", [rounded, constant("steps", np.int64(CROP_STEPS))], "divided")
    kept = add("Max", [divided, constant("one", np.int64(1))], "kept")
    spare = add("Sub", [sides, kept], "spare")
    starts = add("Div", [spare, constant("two", np.int64(2))], "starts")
    ends = add("Add", [starts, kept], "ends")
    axes = constant("axes", np.array([0, 1], np.int64))
    return str(add("Slice", [INPUT, starts, ends, axes], "cropped"))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter leaves for debugging: stack traces, paths, doc strings."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for item in [*model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise the model: equal models, equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data
