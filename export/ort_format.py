"""ONNX Runtime's own file format, for the builds of it that read no other."""

import contextlib
import logging
import warnings
from pathlib import Path

from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)

from export.card import ORT

# Beside it lies what a build of the runtime for these encoders alone needs to know.
OPERATORS = ".required_operators.config"


def write_ort(file: Path) -> tuple[str, str]:
    """Write an encoder in ORT format beside its ONNX file, and the operators it needs.

    The graph is optimised as a session would do when it opens it, but for what only some processors
    can run. Returns the names of both files.
    """
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(None), warnings.catch_warnings():
            # It leaves the file that it reads to be closed by chance.
            warnings.simplefilter("ignore", ResourceWarning)
            convert_onnx_models_to_ort(file, optimization_styles=[OptimizationStyle.Fixed])
    finally:
        logging.disable(before)
    model, operators = file.with_suffix(ORT), file.with_suffix(OPERATORS)
    # Its remarks name folders of this machine.
    lines = [line for line in operators.read_text().splitlines() if not line.startswith("#")]
    operators.write_text("\n".join(lines) + "\n")
    return model.name, operators.name
