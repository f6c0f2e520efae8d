"""Accelerators of phones: a student is taken whole, and what is not is told with a way out."""

from pathlib import Path

import pytest
from program import succeed

from encoder.checkpoint import Checkpoint
from encoder.model import Architecture
from export.bundle import export_bundle
from export.mobile import report_mobile
from export.variants import plan_variants


@pytest.fixture(scope="module")
def bundle(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("mobile") / "query"
    kinds = ("photo", "pixels")
    export_bundle(plan_variants({"s": student}, kinds=kinds, forms=("float", "binary")), output)
    return output


def test_every_accelerator_takes_all_of_a_fixed_size_encoder(bundle: Path) -> None:
    reports = report_mobile(bundle / "s32.fp32.pixels.onnx")
    assert len(reports) == 3
    for report in reports:
        assert (report.verdict, report.parts) == ("yes", 1)
        assert report.taken == report.nodes and not report.missing and not report.advice


def test_what_is_not_taken_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nnapi = report_mobile(bundle / "s32.fp32.photo.onnx")[0]
    assert nnapi.verdict == "yes" and 0 < nnapi.dynamic == nnapi.nodes - nnapi.taken
    shown = succeed(capsys, "mobile", bundle)
    assert shown.count("NNAPI") == 4 and "not known there: Greater" in shown
    assert "export --kind pixels" in shown


def test_a_way_out_is_told(student: Checkpoint, bundle: Path) -> None:
    """Squeeze-and-excite, as trunks that are not made for phones have it."""
    import dataclasses

    import onnx

    gated = bundle / "gated.onnx"
    model = onnx.load(bundle / "s32.fp32.pixels.onnx")
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.op_type = "HardSigmoid"
            del node.input[1:]
    onnx.save(model, gated)
    neural = report_mobile(gated)[2]
    assert neural.verdict == "no" and neural.parts > 10
    assert any("squeeze-and-excite" in line for line in neural.advice)
    assert dataclasses.replace(neural, missing=()).tell().startswith("Core ML, neural network: no")


def test_generalised_mean_pooling_is_exported_too(student: Checkpoint, tmp_path: Path) -> None:
    import dataclasses

    import torch

    from encoder.teacher import start_model

    torch.manual_seed(0)
    architecture = Architecture(dim=32, pooling="gem", bias=True)
    pooled = dataclasses.replace(
        student, model=start_model(architecture, "").eval(), architecture=architecture
    )
    done = export_bundle(plan_variants({"s": pooled}, kinds=("pixels",)), tmp_path / "query")
    assert done.encoders[0].parity.min_cosine > 0.99999
    assert {report.verdict for report in report_mobile(done.encoders[0].file)} == {"yes"}
