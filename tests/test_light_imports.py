"""What a device or a search server imports never loads torch, and `--help` stays light."""

import subprocess
import sys

import pytest

LIGHT = [
    "encoder",
    "encoder.datasets.splits",
    "encoder.embed",
    "encoder.compatibility",
    "encoder.evaluation.matrix",
    "encoder.evaluation.protocol",
    "encoder.evaluation.report",
    "encoder.images",
    "encoder.preprocess",
    "encoder.space",
    "export.latency",
    "export.verify",
    "export.runtime",
    "server_index.backfill",
    "server_index.build",
    "server_index.encode",
    "server_index.index",
    "server_index.writer",
    "server_index.client",
    "server_index.service",
    "server_index.source",
]
HEAVY = ("torch", "torchvision", "timm", "onnx", "pytorch_metric_learning", "matplotlib")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_module_is_light(module: str) -> None:
    assert not loaded_after(f"import {module}") & set(HEAVY)


def test_the_command_line_starts_light() -> None:
    heavy = {*HEAVY, "numpy.linalg", "faiss", "onnxruntime", "PIL.Image"}
    assert not loaded_after("import cli") & heavy
