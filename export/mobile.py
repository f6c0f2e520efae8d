"""How much of an encoder a phone's accelerator takes, and what would let it take more.

Judged by ONNX Runtime's own lists of what NNAPI (Android) and Core ML (iOS) support, operator by
operator, with input sizes as they are in the file. A graph that is cut into several parts mostly
runs slower than on the CPU alone: vectors are handed over at each cut.
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.tools.mobile_helpers import usability_checker
from onnxruntime.tools.onnx_model_utils import optimize_model

from export.contract import Contract
from export.quiet import quiet
from export.runtime import QueryEncoder

# How the checker calls each, and its list of operators.
_TARGETS: dict[str, str] = {
    "NNAPI": "",
    "Core ML, ML program": "coreml_supported_mlprogram_ops.md",
    "Core ML, neural network": "coreml_supported_neuralnetwork_ops.md",
}
_INT8_OPERATORS = {"QuantizeLinear", "DequantizeLinear"}
_GATES = {"Sigmoid", "HardSigmoid", "HardSwish"}


@dataclasses.dataclass(frozen=True)
class MobileReport:
    """Say what one accelerator takes of a graph: `verdict` is yes, maybe or no.

    `dynamic` nodes are left because the size of what goes in is not known from the file.
    """

    target: str
    verdict: str
    nodes: int
    taken: int
    parts: int
    missing: tuple[str, ...]
    dynamic: int
    advice: tuple[str, ...]

    def tell(self) -> str:
        """Return the report in words."""
        missing = f"; not known there: {', '.join(self.missing)}" if self.missing else ""
        sizes = f"; {self.dynamic} left out: input of no fixed size" if self.dynamic else ""
        lines = [
            f"{self.target}: {self.verdict}, {self.taken} of {self.nodes} nodes in "
            f"{self.parts} part{'s' if self.parts != 1 else ''}{missing}{sizes}"
        ]
        return "\n".join([*lines, *(f"    {each}" for each in self.advice)])


def report_mobile(file: Path) -> tuple[MobileReport, ...]:
    """Report on an encoder file, once for each accelerator.

    Raises:
        PocketlensError: when it is not an encoder of ours.
    """
    contract = QueryEncoder(file, exact=True).contract
    with tempfile.TemporaryDirectory() as folder:
        # As a session sees it: constants computed, nodes joined.
        optimised = Path(folder) / "optimised.onnx"
        with quiet():
            optimize_model(file, optimised)
        model = onnx.load(optimised)
    _fix_batch(model)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return tuple(_report(target, listed, model, contract) for target, listed in _TARGETS.items())


def _report(target: str, listed: str, model: onnx.ModelProto, contract: Contract) -> MobileReport:
    found: Any = (
        usability_checker.check_coreml_partitions(model, True, listed)
        if listed
        else usability_checker.check_nnapi_partitions(model, True)
    )
    missing = tuple(sorted(name.removeprefix("ai.onnx:") for name in found.unsupported_ops))
    return MobileReport(
        target=target,
        verdict=found.suitability().name.lower(),
        nodes=found.num_nodes,
        taken=found.num_supported_nodes,
        parts=found.num_partitions,
        missing=missing,
        dynamic=found.nodes_unsupported_due_to_dynamic_input,
        advice=tuple(_advise(contract, set(missing), found)),
    )


def _advise(contract: Contract, missing: set[str], found: Any) -> Iterator[str]:
    if found.suitability().name == "YES":
        return
    if contract.kind == "photo" and found.nodes_unsupported_due_to_dynamic_input:
        yield "export --kind pixels: all sizes are fixed, and the app crops and resizes"
    if missing & _INT8_OPERATORS:
        yield "export --precision fp16 or fp32: its 8-bit operators are not taken"
    if missing & _GATES:
        yield "take a trunk without squeeze-and-excite, such as tf_efficientnet_lite0"
    if found.num_partitions > 1 and not missing & (_INT8_OPERATORS | _GATES):
        yield "each cut costs time: compare with the CPU alone on the device, with bench"


def _fix_batch(model: onnx.ModelProto) -> None:
    """Say that one picture goes in at a time, as an app does for accelerators."""
    for value in [*model.graph.input, *model.graph.output]:
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == "batch":
                side.dim_value = 1
    del model.graph.value_info[:]
