"""A bundle of several encoders: what it holds, that all agree, and that damage is found."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from program import refuse, succeed

from encoder.checkpoint import Checkpoint, save_checkpoint
from encoder.errors import PocketlensError
from encoder.space import mint_space
from export.bundle import export_bundle
from export.card import Card, find_encoder
from export.golden import make_golden_images
from export.half import store_half
from export.parity import embed_reference
from export.runtime import QueryEncoder
from export.variants import plan_variants
from export.verify import verify_bundle

FILES = [
    "s32.fp32.photo.onnx",
    "s32.fp32.pixels.onnx",
    "s32.fp16.photo.onnx",
    "s32.fp16.pixels.onnx",
]


@pytest.fixture(scope="module")
def family(
    student: Checkpoint, teacher: Checkpoint, drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("family") / "query"
    variants = plan_variants(
        {"student": student}, precisions=("fp32", "fp16"), kinds=("photo", "pixels")
    )
    pictures = sorted(drawn.rglob("*.jpg"))[:3]
    done = export_bundle(variants, output, teacher=teacher, files=pictures)
    assert [each.file.name for each in done.encoders] == FILES
    return output


def test_every_member_gives_the_students_vector(family: Path, student: Checkpoint) -> None:
    pictures = make_golden_images()
    expected = np.stack([embed_reference(student, picture) for picture in pictures.values()])
    digests = set()
    for file in FILES:
        encoder = QueryEncoder(family / file, threads=1)
        one_by_one = np.stack([encoder.encode(picture) for picture in pictures.values()])
        together = encoder.encode_batch(list(pictures.values()))
        np.testing.assert_allclose(together, one_by_one, atol=1e-5)
        assert together.dtype == np.float32 and encoder.encode_batch([]).shape == (0, 32)
        assert (one_by_one * expected).sum(axis=1).min() > 0.999
        digests.add((encoder.contract.precision, encoder.contract.encoder))
    assert len(digests) == 2 and ("fp32", student.encoder) in digests


def test_half_weights_are_half_the_bytes_and_change_little(family: Path) -> None:
    whole, half = (family / f"s32.{name}.photo.onnx" for name in ("fp32", "fp16"))
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    assert onnx.load(half).ir_version == 8
    model = onnx.load(whole)
    tensor = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    wide = onnx.numpy_helper.to_array(tensor).copy()
    wide.flat[0] = 1e6
    tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    with pytest.raises(PocketlensError, match="beyond what fp16 can hold"):
        store_half(model)


def test_an_encoder_is_found_by_size_and_precision(family: Path) -> None:
    assert find_encoder(family).name == FILES[0]
    assert find_encoder(family, precision="fp16").name == FILES[2]
    assert QueryEncoder(family, size=32, precision="fp16").contract.precision == "fp16"
    with pytest.raises(PocketlensError, match=r"no encoder of 48; it holds s32\.fp32"):
        find_encoder(family, size=48)


def test_what_a_family_holds_is_planned(student: Checkpoint, teacher: Checkpoint) -> None:
    elastic = dataclasses.replace(
        student, provenance={**student.provenance, "recipe": {"elastic": [48]}}
    )
    files = [each.file for each in plan_variants({"any": elastic}, sizes=(48, 32))]
    assert files == ["s48.fp32.photo.onnx", "s32.fp32.photo.onnx"]
    two = plan_variants({"one": elastic, "other": student}, sizes=(48, 32))
    assert [each.file for each in two] == [
        "s48.fp32.photo.onnx",
        "s32-one.fp32.photo.onnx",
        "s32-other.fp32.photo.onnx",
    ]
    with pytest.raises(PocketlensError, match="--size 64: no checkpoint was trained for it"):
        plan_variants({"any": elastic}, sizes=(64,))
    with pytest.raises(PocketlensError, match="--precision 'int4' is not one of fp32, fp16"):
        plan_variants({"any": elastic}, precisions=("int4",))
    stranger = dataclasses.replace(teacher, space=mint_space("teacher", 32, "another"))
    with pytest.raises(PocketlensError, match="stranger"):
        plan_variants({"one": student, "stranger": stranger})


def test_a_sound_bundle_is_verified_and_told_about(
    family: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = succeed(capsys, "verify", family)
    assert shown.count("golden pictures") == 4 and "as it was exported" in shown
    told = succeed(capsys, "inspect", family)
    assert "4 encoders of space" in told and "fp16, pixels in" in told
    alone = succeed(capsys, "inspect", family / FILES[1])
    assert "input pixels: float32 [batch, 3, 32, 32]" in alone


def damage(folder: Path, name: str) -> None:
    file = folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_any_change_is_found_and_named(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [listed.file for listed in Card.read(family).list_files()]
    assert "golden/turned.jpg" in files and "golden/teacher.npy" in files
    for name in (FILES[0], "golden/camera.jpg", "golden/s32.fp16.pixels.npy"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(family, copy)
        damage(copy, name)
        assert f"{name}: its bytes are not those" in refuse(capsys, "verify", copy)
        (copy / name).unlink()
        assert f"{name}: listed in card.json but missing" in refuse(capsys, "verify", copy)


def change_card(folder: Path, copy: Path, **entry: object) -> Path:
    shutil.copytree(folder, copy)
    card = json.loads((copy / "card.json").read_text())
    card["encoders"][0].update(entry)
    (copy / "card.json").write_text(json.dumps(card))
    return copy


def test_a_card_that_says_otherwise_is_refused(
    family: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = change_card(family, tmp_path / "other", size=64)
    assert "its size is 32, and card.json says 64" in refuse(capsys, "verify", other)
    outside = change_card(family, tmp_path / "outside", file="../s32.onnx")
    assert "is not in the bundle" in refuse(capsys, "verify", outside)
    lacking = change_card(family, tmp_path / "lacking", bytes="many")
    assert "card.json: damaged" in refuse(capsys, "verify", lacking)
    card = json.loads((family / "card.json").read_text())
    bare = tmp_path / "bare"
    shutil.copytree(family, bare)
    (bare / "card.json").write_text(json.dumps({**card, "golden": None}))
    assert "names no golden pictures" in refuse(capsys, "verify", bare)
    (bare / "card.json").write_text(json.dumps({**card, "format": 2}))
    assert "this version reads format 1" in refuse(capsys, "verify", bare)


def test_an_encoder_that_makes_other_vectors_is_found(
    family: Path, student: Checkpoint, teacher: Checkpoint, tmp_path: Path
) -> None:
    """Its bytes are as listed, its contract too: only the golden vectors tell."""
    stranger = dataclasses.replace(teacher, preprocess=student.preprocess, kind="student")
    variants = plan_variants({"student": stranger}, precisions=("fp32",))
    export_bundle(variants, tmp_path / "query")
    golden = tmp_path / "query/golden/s32.fp32.photo.npy"
    shutil.copyfile(family / "golden/s32.fp32.photo.npy", golden)
    card = json.loads((tmp_path / "query/card.json").read_text())
    before = json.loads((family / "card.json").read_text())["golden"]["vectors"][0]
    card["golden"]["vectors"][0] = before
    (tmp_path / "query/card.json").write_text(json.dumps(card))
    with pytest.raises(PocketlensError, match=r"makes another vector of .* than the golden one"):
        verify_bundle(tmp_path / "query")


def test_the_command_line_exports_a_family(
    student: Checkpoint, teacher: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, checkpoint in (("small", student), ("large", teacher)):
        (tmp_path / name).mkdir()
        save_checkpoint(checkpoint, tmp_path / name)
    both = (tmp_path / "small", tmp_path / "large")
    shown = succeed(capsys, "export", *both, tmp_path / "bundle", "--precision", "fp16")
    size = teacher.preprocess.size
    assert "s32.fp16.photo.onnx" in shown and f"s{size}.fp16.photo.onnx" in shown
    roles = {entry["role"] for entry in Card.read(tmp_path / "bundle").encoders}
    assert roles == {"student", "teacher"}
    assert "one name" in refuse(capsys, "export", both[0], both[0], tmp_path / "twice")


def test_ort_files_are_listed_and_verified(
    student: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "student").mkdir()
    save_checkpoint(student, tmp_path / "student")
    bundle = tmp_path / "query"
    succeed(capsys, "export", tmp_path / "student", bundle, "--ort")
    (entry,) = Card.read(bundle).encoders
    names = [each["file"] for each in entry["ort"]]
    assert names == ["s32.fp32.photo.ort", "s32.fp32.photo.required_operators.config"]
    operators = (bundle / names[1]).read_text()
    assert "Conv" in operators and str(tmp_path) not in operators
    plain, own = QueryEncoder(bundle), QueryEncoder(bundle / names[0])
    assert own.contract == plain.contract
    picture = make_golden_images()["noise"]
    assert float(own.encode(picture) @ plain.encode(picture)) > 0.99999
    assert succeed(capsys, "verify", bundle).count("golden pictures") == 2
    damage(bundle, names[0])
    assert f"{names[0]}: its bytes are not those" in refuse(capsys, "verify", bundle)
