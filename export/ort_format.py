"""ONNX Runtime's own file format, for the builds of it that read no other."""

from pathlib import Path

from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)

from export.card import ORT
from export.quiet import quiet

# Beside it lies what a build of the runtime for these encoders alone needs to know.
OPERATORS = ".required_operators.config"


def write_ort(file: Path) -> tuple[str, str]:
    """Write an encoder in ORT format beside its ONNX file, and the operators it needs.

    The graph is optimised as a session would do when it opens it, but for what only some processors
    can run. Returns the names of both files.
    """
    with quiet():
        convert_onnx_models_to_ort(file, optimization_styles=[OptimizationStyle.Fixed])
    model, operators = file.with_suffix(ORT), file.with_suffix(OPERATORS)
    # Its remarks name folders of this machine.
    lines = [line for line in operators.read_text().splitlines() if not line.startswith("#")]
    operators.write_text("\n".join(lines) + "\n")
    return model.name, operators.name
