import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from encoder.checkpoint import Checkpoint
from encoder.errors import BadImageError, PocketlensError
from encoder.images import decode_image
from encoder.preprocess import Preprocess, normalise, prepare
from encoder.space import mint_space
from export import parity as parity_module
from export.bundle import TOLERANCE, export_bundle
from export.contract import KEY
from export.front import build_front
from export.golden import make_golden_images
from export.parity import embed_reference
from export.runtime import QueryEncoder
from export.variants import Variant


@pytest.fixture(scope="module")
def bundle(
    student: Checkpoint, teacher: Checkpoint, drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("bundle") / "query"
    export_bundle(
        [Variant(student)], output, teacher=teacher, files=sorted(drawn.rglob("*.jpg"))[:5]
    )
    return output


def test_the_card_and_the_file_say_the_same(bundle: Path, student: Checkpoint) -> None:
    card = json.loads((bundle / "card.json").read_text())
    (entry,) = card["encoders"]
    contract = QueryEncoder(bundle).contract
    assert entry["file"] == "s32.fp32.photo.onnx"
    assert card["space"]["id"] == contract.space.id == student.space.id
    assert entry["encoder"] == contract.encoder == student.encoder
    assert contract.preprocess == student.preprocess
    assert entry["alignment"] == contract.alignment and entry["alignment"]["images"] == 5
    assert entry["parity"]["min_cosine"] >= 0.9999


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 400), (400, 17), (333, 222)])
def test_any_picture_gives_the_reference_vector(
    bundle: Path, student: Checkpoint, size: tuple[int, int]
) -> None:
    encoder = QueryEncoder(bundle, threads=1)
    smooth = np.random.default_rng(0).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(smooth).resize(size, Image.Resampling.BICUBIC))
    vector = encoder.encode(picture)
    assert vector.shape == (32,) and vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    # Enlarged to 32 px, values half-way between two grey levels round apart.
    assert float(vector @ embed_reference(student, picture)) > 0.999


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(48),
        Preprocess(48, crop=0.875),
        Preprocess(48, "crop"),
        Preprocess(40, "crop", 0.9),
        Preprocess(48, interpolation="bicubic"),
        Preprocess(40, "crop", 0.9, interpolation="bicubic"),
    ],
)
def test_the_graph_prepares_pixels_as_pillow_does(preprocess: Preprocess) -> None:
    import onnxruntime

    front = onnxruntime.InferenceSession(build_front(preprocess).SerializeToString())
    for name, picture in make_golden_images().items():
        found = front.run(None, {"image": picture})[0]
        expected = normalise(prepare(picture, preprocess)[None], preprocess)
        grey = np.abs(found - expected) * 128
        # Enlarging rounds differently by one more level in a few pixels.
        assert grey.max() <= 2.001 and grey.mean() < 0.1, name


def test_the_same_checkpoint_gives_the_same_bytes(student: Checkpoint, tmp_path: Path) -> None:
    first, second = (
        export_bundle([Variant(student)], tmp_path / name).encoders[0].file for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


def test_the_file_carries_no_traces_of_the_machine(bundle: Path) -> None:
    file = QueryEncoder(bundle).file
    data = file.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode(), b"batch_norm"):
        assert trace not in data
    model = onnx.load(file)
    assert [entry.key for entry in model.metadata_props] == [KEY]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_a_graph_that_differs_is_not_written(
    student: Checkpoint, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(teacher, preprocess=student.preprocess)
    batch = parity_module._embed_batch
    monkeypatch.setattr(parity_module, "_embed_batch", lambda _, pixels: batch(other, pixels))
    with pytest.raises(PocketlensError, match=r"differs from PyTorch .* nothing was written"):
        export_bundle([Variant(student)], tmp_path / "query")
    monkeypatch.undo()
    monkeypatch.setattr(parity_module, "prepare", lambda picture, pre: 0 * prepare(picture, pre))
    with pytest.raises(PocketlensError, match=r"grey levels apart .* nothing was written"):
        export_bundle([Variant(student)], tmp_path / "query")
    assert list(tmp_path.iterdir()) == []


def test_another_teachers_space_is_refused(student: Checkpoint, tmp_path: Path) -> None:
    stranger = dataclasses.replace(student, space=mint_space("teacher", 32, "another"))
    with pytest.raises(PocketlensError) as caught:
        export_bundle([Variant(student)], tmp_path / "query", teacher=stranger)
    assert student.space.id in str(caught.value) and stranger.space.id in str(caught.value)
    with pytest.raises(PocketlensError, match="--images"):
        export_bundle([Variant(student)], tmp_path / "query", teacher=student)


def test_own_pictures_join_the_parity_check(
    student: Checkpoint, drawn: Path, tmp_path: Path
) -> None:
    good = sorted(drawn.rglob("*.jpg"))[:3]
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    done = export_bundle([Variant(student)], tmp_path / "query", files=[*good, bad])
    assert done.encoders[0].parity.pictures == 9 + 3
    assert done.quarantined == (f"{bad}: empty file",)


def test_the_runtime_takes_what_people_have(bundle: Path, drawn: Path) -> None:
    file = sorted(drawn.rglob("*.jpg"))[0]
    encoder = QueryEncoder(bundle)
    from_path = encoder.encode(file)
    for picture in (str(file), file.read_bytes(), Image.open(file), np.asarray(Image.open(file))):
        np.testing.assert_allclose(encoder.encode(picture), from_path, atol=1e-6)
    with pytest.raises(PocketlensError, match="uint8"):
        encoder.encode(np.zeros((8, 8, 3)))
    with pytest.raises(BadImageError, match="no such file"):
        encoder.encode("missing.jpg")
    with pytest.raises(PocketlensError, match="not int"):
        encoder.encode(3)  # type: ignore[arg-type]


def test_pictures_of_pillow_are_turned_and_laid_on_white_as_files_are(bundle: Path) -> None:
    encoder = QueryEncoder(bundle)
    goldens = sorted((bundle / "golden").glob("*.*g"))
    assert {"turned.jpg", "transparent.png"} <= {file.name for file in goldens}
    for file in goldens:
        with Image.open(file) as opened:
            cosine = encoder.encode(file) @ encoder.encode(opened)
        # Of large JPEGs fewer pixels are decoded from the file.
        assert cosine > 0.999, file.name


def test_what_is_no_encoder_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="no such"):
        QueryEncoder(tmp_path / "none")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(QueryEncoder(bundle).file.read_bytes()[:5000])
    with pytest.raises(PocketlensError, match=r"damaged\.onnx"):
        QueryEncoder(damaged)
    model = onnx.load(QueryEncoder(bundle).file)
    del model.metadata_props[:]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(model, foreign)
    with pytest.raises(PocketlensError, match="not an encoder exported"):
        QueryEncoder(foreign)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps({"format": 99})
    onnx.save(model, foreign)
    with pytest.raises(PocketlensError, match=r"damaged|format"):
        QueryEncoder(foreign)


def test_golden_pictures_decoded_whole_are_within_the_tolerance(
    bundle: Path, student: Checkpoint
) -> None:
    """As in a browser, which knows no reduced scale."""
    encoder, reduced = QueryEncoder(bundle, threads=1), 0
    for picture in sorted((bundle / "golden").glob("*.*")):
        if picture.suffix == ".npy":
            continue
        whole = decode_image(picture)
        reduced += encoder.decode(picture).shape != whole.shape
        assert float(encoder.embed(whole) @ encoder.encode(picture)) >= TOLERANCE["fp32"]
    assert reduced >= 2
