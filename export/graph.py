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
from export.contract import KEY, OUTPUT, Contract, Kind
from export.front import IR_VERSION, NETWORK_INPUT, OPSET, build_front
from export.half import store_half


def build_model(network: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """Put the front before a network and the contract into its metadata.

    The same checkpoint gives the same bytes.
    """
    front = build_front(contract.preprocess, contract.kind)
    model = onnx.compose.merge_models(
        front, network, io_map=[(NETWORK_INPUT, NETWORK_INPUT)], name="pocketlens"
    )
    _strip(model)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.producer_name, model.producer_version = "pocketlens", ""
    if contract.precision == "fp16":
        store_half(model)
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


def export_network(checkpoint: Checkpoint, kind: Kind = "photo") -> onnx.ModelProto:
    """Translate a checkpoint's network alone: for one image, or for a batch of any size.

    Raises:
        PocketlensError: when the exporter cannot translate the trunk.
    """
    folded = fold_for_inference(checkpoint.model, checkpoint.architecture).eval()
    size = checkpoint.preprocess.size
    several = kind == "pixels"
    network: torch.nn.Module = folded if several else _SingleImage(folded).eval()
    # A batch of one would be taken for a constant.
    example = torch.zeros(2 if several else 1, 3, size, size)
    shapes = ({0: torch.export.Dim("batch")},) if several else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[NETWORK_INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
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
