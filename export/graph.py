"""Checkpoint → ONNX: pixels in, unit vector out, with the preprocessing inside the graph."""

import json
import warnings
from typing import Any

import onnx
import torch
from onnx import helper

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from encoder.model import EmbeddingModel, fold_for_inference
from export.back import NETWORK_OUTPUT, build_back
from export.contract import KEY, Contract
from export.front import NETWORK_INPUT, build_front
from export.graph_part import IR_VERSION, OPSET
from export.half import store_half
from export.opsets import set_opset


def build_model(
    network: onnx.ModelProto, contract: Contract, opset: int = OPSET
) -> onnx.ModelProto:
    """Put front and back around a network, and the contract into its metadata.

    The same checkpoint gives the same bytes.

    Raises:
        PocketlensError: when the network cannot be written in that opset.
    """
    front = build_front(contract.preprocess, contract.kind)
    model = _join(_join(front, network, NETWORK_INPUT), build_back(contract), NETWORK_OUTPUT)
    _strip(model)
    model.producer_name, model.producer_version = "pocketlens", ""
    if contract.precision == "fp16":
        store_half(model)
    entry = model.metadata_props.add()
    entry.key = KEY
    entry.value = json.dumps(contract.to_json(), sort_keys=True)
    return set_opset(model, opset)


def _join(first: onnx.ModelProto, second: onnx.ModelProto, between: str) -> onnx.ModelProto:
    joined = onnx.compose.merge_models(first, second, io_map=[(between, between)])
    joined.graph.name = "pocketlens"
    del joined.opset_import[:]
    joined.opset_import.append(helper.make_opsetid("", OPSET))
    return joined


class _UpToProjection(torch.nn.Module):
    """Give vectors of any length (to scale them is the back's part), by what every phone computes.

    Accelerators lack reductions and layer norms that ONNX has, and a graph is cut where they stand.
    Means as pooling and as products with constants leave it whole.
    """

    average: torch.Tensor

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.model, width = model, model.projection.in_features
        self.register_buffer("average", torch.full((width, 1), 1 / width))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features, pool = self.model.trunk(pixels), self.model.pool
        if pool is None:
            pooled = self._average_places(features)
        else:
            powered = features.clamp(min=pool.least).pow(pool.exponent)
            pooled = self._average_places(powered).pow(1.0 / pool.exponent)
        centred = pooled - pooled @ self.average
        variance = (centred * centred) @ self.average
        normalised = centred / (variance + self.model.norm.eps).sqrt()
        vectors: torch.Tensor = self.model.projection(normalised)
        return vectors

    def _average_places(self, features: torch.Tensor) -> torch.Tensor:
        """Average `[n, c, h, w]` to `[n, c]`; the rank changes by a reshape to a known width."""
        height, width = features.shape[2:]
        averaged = torch.nn.functional.avg_pool2d(features, (height, width))
        return averaged.reshape(-1, self.model.projection.in_features)


def export_network(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Translate a checkpoint's network alone, for a batch of any size, up to its projection.

    Raises:
        PocketlensError: when the exporter cannot translate the trunk.
    """
    folded = fold_for_inference(checkpoint.model, checkpoint.architecture).eval()
    size = checkpoint.preprocess.size
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, 3, size, size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                _UpToProjection(folded).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[NETWORK_INPUT],
                output_names=[NETWORK_OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
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
