"""int8 encoders: what is quantised, what the gate lets through, and where they are refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from program import refuse, succeed

from encoder.checkpoint import Checkpoint, save_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.errors import PocketlensError
from export import gate
from export.bundle import export_bundle
from export.contract import KEY, make_probe
from export.gate import GateLimits, GateReport, GateSet, embed_exactly, quantise_gated
from export.graph import export_network
from export.int8 import Quantisation, read_cut
from export.quantise import Quantiser
from export.runtime import QueryEncoder
from export.variants import Variant


@pytest.fixture(scope="module")
def network(student: Checkpoint) -> onnx.ModelProto:
    return export_network(student)


@pytest.fixture(scope="module")
def images(student: Checkpoint, drawn: Path) -> np.ndarray:
    return read_cut(read_folder(drawn).sources()[:6], student.preprocess)[0]


@pytest.fixture
def quantiser(
    network: onnx.ModelProto, images: np.ndarray, student: Checkpoint
) -> Iterator[Quantiser]:
    with Quantiser(network, images, student.preprocess) as made:
        yield made


@pytest.fixture(scope="module")
def settings(drawn: Path) -> Quantisation:
    table = split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.25))
    # A network that was never trained; how much it loses is not what is tested here.
    training = table.split("train")
    return Quantisation(training, training, "train", GateLimits(100.0, min_cosine=0.5))


@pytest.fixture(scope="module")
def bundle(
    student: Checkpoint, settings: Quantisation, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("int8") / "query"
    export_bundle([Variant(student), Variant(student, "int8")], output, quantisation=settings)
    return output


def count_quantised(model: onnx.ModelProto) -> int:
    """Return how many convolutions have quantised weights."""
    stored = {each.name: each.data_type for each in model.graph.initializer}
    made = {node.output[0]: node.input[0] for node in model.graph.node}
    return sum(
        stored.get(made.get(node.input[1], "")) == onnx.TensorProto.INT8
        for node in model.graph.node
        if node.op_type == "Conv"
    )


def test_all_but_the_nodes_kept_are_quantised(quantiser: Quantiser) -> None:
    convolutions = [name for name in quantiser.nodes if "conv" in name]
    assert len(convolutions) > 40 and len(quantiser.nodes) > len(convolutions)
    assert count_quantised(quantiser.quantise()) == len(convolutions)
    assert count_quantised(quantiser.quantise(convolutions[:3])) == len(convolutions) - 3
    again = [quantiser.quantise().SerializeToString(deterministic=True) for _ in range(2)]
    assert again[0] == again[1]


def test_harmful_nodes_stay_in_float_until_the_gate_opens(
    network: onnx.ModelProto,
    quantiser: Quantiser,
    images: np.ndarray,
    student: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = GateSet(images, student.preprocess)
    plain = embed_exactly(network, images, student.preprocess)
    whole = embed_exactly(quantiser.quantise(), images, student.preprocess)
    reached = float((plain * whole).sum(axis=1).mean())
    assert reached < 0.9999
    model, report = quantise_gated(network, quantiser, asked, GateLimits(1.0, reached - 0.01))
    assert report.kept == () and report.tried == 1 and report.drop is None
    assert report.mean_cosine == pytest.approx(reached, abs=1e-4)
    between = (1 + 3 * reached) / 4
    model, report = quantise_gated(network, quantiser, asked, GateLimits(1.0, between))
    assert 1 <= len(report.kept) <= len(quantiser.nodes) // 2 and report.mean_cosine >= between
    assert count_quantised(model) >= 49 - len(report.kept)
    order = list(quantiser.nodes)
    monkeypatch.setattr(gate, "rank_harm", lambda *given: order)
    with pytest.raises(PocketlensError, match=r"int8 loses too much even with \d+ of"):
        quantise_gated(network, quantiser, asked, GateLimits(1.0, 0.9999999))


def test_the_gate_asks_for_recall_too() -> None:
    limits = GateLimits(1.0, 0.99)
    for upper, cosine, passes in ((0.9, 0.995, True), (1.1, 0.995, False), (0.9, 0.98, False)):
        report = GateReport(100, "val", cosine, 0.1, upper, (), 1)
        assert report.passes(limits) == passes
        assert "R@1 falls by 0.10 points" in report.tell()
    with pytest.raises(PocketlensError, match="--max-drop 0"):
        GateLimits(0.0)


def test_an_int8_file_is_a_quarter_and_says_what_it_lost(bundle: Path, student: Checkpoint) -> None:
    whole, small = (bundle / f"s32.{name}.photo.onnx" for name in ("fp32", "int8"))
    assert small.stat().st_size < 0.4 * whole.stat().st_size
    card = json.loads((bundle / "card.json").read_text())
    entry = card["encoders"][1]
    assert entry["precision"] == "int8" and entry["encoder"] != student.encoder
    assert entry["gate"]["split"] == "train" and entry["gate"]["drop"] is not None
    assert card["encoders"][0]["gate"] is None
    encoder = QueryEncoder(small, exact=True)
    assert encoder.contract.encoder == entry["encoder"]
    probe = np.array(encoder.contract.probe, np.float32)
    assert float(encoder.embed(make_probe()) @ probe) > 0.999


def test_the_same_checkpoint_and_images_give_the_same_bytes(
    bundle: Path, student: Checkpoint, settings: Quantisation, tmp_path: Path
) -> None:
    export_bundle([Variant(student, "int8")], tmp_path / "again", quantisation=settings)
    name = "s32.int8.photo.onnx"
    assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()


def test_a_cpu_that_computes_otherwise_is_told(bundle: Path, tmp_path: Path) -> None:
    """As where 8-bit products saturate: here the file expects another vector."""
    model = onnx.load(bundle / "s32.int8.photo.onnx")
    (entry,) = model.metadata_props
    value = json.loads(entry.value)
    value["probe"] = [-each for each in value["probe"]]
    entry.value = json.dumps(value)
    assert entry.key == KEY
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(PocketlensError, match="computes its 8-bit products wrongly"):
        QueryEncoder(tmp_path / "other.onnx")


def test_the_command_line_makes_judges_and_verifies_int8(
    student: Checkpoint, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "student").mkdir()
    save_checkpoint(student, tmp_path / "student")
    call = ("export", tmp_path / "student", tmp_path / "bundle", "--precision", "int8")
    assert "int8 needs --data" in refuse(capsys, *call)
    few = tmp_path / "few"
    few.mkdir()
    for number, file in enumerate(sorted(drawn.rglob("*.jpg"))[:5]):
        (few / f"{number}.jpg").write_bytes(file.read_bytes())
    assert "too few to calibrate int8 on" in refuse(capsys, *call, "--data", few)
    assert not (tmp_path / "bundle").exists()
    near = ("--min-cosine", 0.5)
    assert "--min-cosine 1.0" in refuse(capsys, *call, "--data", drawn, "--min-cosine", 1)
    assert "--max-drop 0.0" in refuse(capsys, *call, "--data", drawn, "--max-drop", 0)
    shown = succeed(capsys, *call, "--data", drawn, "--max-drop", 100, *near)
    assert "s32.int8.photo.onnx" in shown and "mean cosine" in shown
    assert "s32.int8" in succeed(capsys, "verify", tmp_path / "bundle", "--exact")
