"""A graph written for an older opset computes what it did."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoder.errors import PocketlensError
from export.opsets import set_opset


def make_model(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[
        0
    ]
    return found


@pytest.mark.parametrize("affine", [0, 1, 2])
def test_what_is_newer_is_spelled_out(affine: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (4, 6)).astype(np.float32)
    scale = rng.normal(size=6).astype(np.float32) if affine else np.ones(6, np.float32)
    names = ["x", "scale", "bias"][: max(2, affine + 1)]
    bias = rng.normal(size=6).astype(np.float32)
    model = make_model(
        helper.make_node("LayerNormalization", names, ["normed"], name="norm", epsilon=1e-3),
        helper.make_node("ReduceMax", ["normed", "last"], ["largest"], name="max", keepdims=1),
        helper.make_node("Reshape", ["normed", "shape"], ["shaped"], name="shape", allowzero=1),
        helper.make_node("Sub", ["shaped", "largest"], ["y"], name="sub"),
        scale=scale,
        bias=bias,
        last=np.array([-1], np.int64),
        shape=np.array([-1, 6], np.int64),
    )
    before = run(model, x)
    centred = x - x.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-3) * scale
    normed = normed + bias if affine == 2 else normed
    np.testing.assert_allclose(before, normed - normed.max(axis=1, keepdims=True), atol=1e-5)
    old = set_opset(model, 13)
    assert (old.opset_import[0].version, old.ir_version) == (13, 7)
    np.testing.assert_allclose(run(old, x), before, atol=1e-5)
    assert all(node.name for node in old.graph.node)


def test_newer_opsets_have_their_own_ir() -> None:
    model = make_model(helper.make_node("Abs", ["x"], ["y"], name="abs"))
    newer = set_opset(model, 21)
    assert (newer.opset_import[0].version, newer.ir_version) == (21, 10)


def test_an_operator_that_an_opset_lacks_is_named() -> None:
    model = make_model(helper.make_node("Mish", ["x"], ["y"], name="new"))
    with pytest.raises(PocketlensError, match=r"cannot be written in opset 17: .*Mish"):
        set_opset(model, 17)
