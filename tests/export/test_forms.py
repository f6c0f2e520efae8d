"""Codes and prefixes made inside the graph: the numpy forms of the whole vector, and no others."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from program import refuse, succeed

from encoder.checkpoint import Checkpoint, save_checkpoint
from export.bundle import export_bundle
from export.card import Card
from export.contract import Contract
from export.forms import count_values, express, read_vectors
from export.golden import make_golden_images
from export.runtime import QueryEncoder
from export.variants import plan_variants

# None so near to zero that its sign is a matter of rounding.
Component = st.floats(0.0625, 1, width=16) | st.floats(-1, -0.0625, width=16)
Vectors = arrays.arrays(np.float32, (3, 21), elements=Component)


@pytest.fixture(scope="module")
def forms(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("forms") / "query"
    variants = plan_variants(
        {"student": student},
        kinds=("photo", "pixels"),
        forms=("float", "int8", "binary"),
        dims=(32, 20),
        pixels_opset=13,
    )
    export_bundle(variants, output)
    return output


def test_a_graph_gives_the_forms_of_the_whole_vector(forms: Path) -> None:
    pictures = list(make_golden_images().values())
    whole = QueryEncoder(forms, form="float", dim=32).encode_batch(pictures)
    names = [str(entry["file"]) for entry in Card.read(forms).encoders]
    assert len(names) == 12 and "s32.fp32.pixels.d20.binary.onnx" in names
    for name in names:
        encoder = QueryEncoder(forms / name, threads=1)
        form, dim = encoder.contract.form, encoder.contract.dim
        found, expected = encoder.encode_batch(pictures), express(whole, form, dim)
        assert found.shape == (len(pictures), count_values(form, dim)) == expected.shape
        assert found.dtype == expected.dtype
        least = 0.99 if form == "binary" else 0.9999
        near = (encoder.read(found) * read_vectors(expected, form, dim)).sum(axis=1)
        assert near.mean() > least, name
        np.testing.assert_allclose(encoder.read(found[0]), encoder.read(found)[0])
        assert encoder.encode_batch([]).dtype == found.dtype


def test_old_runtimes_are_given_operators_that_they_know(forms: Path) -> None:
    import onnx

    for entry in Card.read(forms).encoders:
        model = onnx.load(forms / str(entry["file"]))
        old = entry["input"] == "pixels"
        assert [(each.domain, each.version) for each in model.opset_import] == [
            ("", 13 if old else 18)
        ]
        assert model.ir_version == (7 if old else 8)
        operators = {node.op_type for node in model.graph.node}
        assert not {"LayerNormalization", "ReduceL2", "ReduceMean"} & operators
        assert all(node.name for node in model.graph.node)
    assert {entry["opset"] for entry in Card.read(forms).encoders} == {13, 18}


def test_codes_are_found_verified_and_told_about(
    forms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert succeed(capsys, "verify", forms).count("golden pictures") == 12
    told = succeed(capsys, "inspect", forms)
    assert "20-d binary out" in told and "opset 13" in told
    alone = succeed(capsys, "inspect", forms / "s32.fp32.photo.d20.binary.onnx")
    assert "output code: uint8 [3]" in alone
    assert QueryEncoder(forms, form="binary", dim=20).contract.prefix == 20


def test_an_index_of_floats_refuses_codes(forms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = forms / "s32.fp32.photo.int8.onnx"
    shown = refuse(capsys, "build-index", forms / "golden", forms / "index", "--encoder", code)
    assert "gives 32-d int8; take one that gives float vectors of all 32 dimensions" in shown


def test_what_no_encoder_gives_is_refused(
    student: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(student, (tmp_path / "student").mkdir() or tmp_path / "student")
    for flags, said in (
        (("--dim", 33), "--dim 33 is not in 1..32"),
        (("--form", "sparse"), "--form 'sparse' is not one of float, int8, binary"),
        (("--opset", 17), "--opset 17 is not in 18..21"),
        (("--pixels-opset", 12), "--pixels-opset 12 is not in 13..21"),
    ):
        told = refuse(capsys, "export", tmp_path / "student", tmp_path / "query", *flags)
        assert said in told
    assert not (tmp_path / "query").exists()


@settings(deadline=None)
@given(Vectors, st.integers(1, 21))
def test_codes_stand_for_what_they_were_made_of(vectors: np.ndarray, dim: int) -> None:
    prefix = vectors[:, :dim] / np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
    eighth = read_vectors(express(vectors, "int8", dim), "int8", dim)
    # A step is a 127th of the largest component; rounding moves each by half of one at most.
    assert np.abs(eighth - prefix).max() <= 1.01 / 127
    signs = read_vectors(express(vectors, "binary", dim), "binary", dim)
    np.testing.assert_array_equal(signs > 0, prefix > 0)
    np.testing.assert_allclose(np.abs(signs), dim**-0.5, rtol=1e-6)
    floats = read_vectors(express(vectors, "float", dim), "float", dim)
    np.testing.assert_allclose(floats, prefix, rtol=1e-5)


def test_metadata_of_an_impossible_output_is_refused(student: Checkpoint) -> None:
    import json

    from encoder.errors import PocketlensError
    from export.contract import KEY

    contract = Contract(student.space, "00", student.preprocess, "fp32", "student", prefix=20)
    value = contract.to_json()
    assert Contract.from_metadata({KEY: json.dumps(value)}, "x") == contract
    value["output"]["dim"] = 33
    with pytest.raises(PocketlensError, match="metadata is damaged"):
        Contract.from_metadata({KEY: json.dumps(value)}, "x")
