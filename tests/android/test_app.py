"""The app's own dex, turned back into classes, on stand-ins for Android's: what a user does."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from build_apk import compile_java
from chromium import skip_without_runtime
from host import Host
from index_folders import ENCODER, name_picture
from kit import KIT
from PIL import Image
from running_service import run_service

from encoder.checkpoint import Checkpoint
from export.golden import make_camera_photo
from export.latency_record import read_runs
from export.runtime import QueryEncoder
from server_index.items import Item
from server_index.service import ServiceSettings
from server_index.writer import IndexWriter, create_index

STAND_INS = Path(__file__).parent / "stand_ins"
LAYOUTS = Path(__file__).parents[2] / "android_demo" / "app" / "src" / "main" / "res" / "layout"
TEXTS = LAYOUTS.parent / "values" / "strings.xml"
CLASSES = KIT / "aar" / "classes.jar"


@pytest.fixture(scope="module")
def app(apk: Path, jvm: Host, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command that runs a script of what a user does."""
    if shutil.which("enjarify") is None:
        pytest.skip("needs enjarify")
    folder = tmp_path_factory.mktemp("app")
    with zipfile.ZipFile(apk) as package:
        package.extract("classes.dex", folder)
        for name in package.namelist():
            if name.startswith("assets/"):
                package.extract(name, folder)
    # Debian's program runs Debian's Python.
    path = {**os.environ, "PATH": f"/usr/bin:{os.environ['PATH']}"}
    path = {name: value for name, value in path.items() if not name.startswith("PYTHON")}
    subprocess.run(
        ["enjarify", "classes.dex", "-o", "app.jar"], cwd=folder, env=path, check=True,
        capture_output=True,
    )  # fmt: skip
    compile_java(STAND_INS, [folder / "app.jar"], folder / "stand-ins")
    # The runtime's own classes: those that are turned back are of too old a format.
    places = [folder / "stand-ins", CLASSES, folder / "app.jar"]
    return (
        *jvm.command[:2], "-cp", ":".join(map(str, places)), "UserCheck", str(LAYOUTS), str(TEXTS),
        str(folder / "assets"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    base = Image.linear_gradient("L").resize((320, 240))
    Image.merge("RGB", [base, base.rotate(180), base.rotate(90)]).save(folder / "photo.png")
    (folder / "words.jpg").write_text("no picture")
    return folder


def use(app: tuple[str, ...], jvm: Host, *steps: object) -> list[str]:
    done = subprocess.run(
        [*app, *map(str, steps)], env=jvm.environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_picture_is_found_from_gallery_and_camera(
    app: tuple[str, ...],
    jvm: Host,
    query: Path,
    student: Checkpoint,
    pictures: Path,
    tmp_path: Path,
) -> None:
    create_index(tmp_path / "index", student.space)
    photo = pictures / "photo.png"
    encoder = QueryEncoder(query / "s32.fp32.photo.onnx")
    turned = tmp_path / "turned.png"
    Image.open(photo).transpose(Image.Transpose.ROTATE_270).save(turned)
    items = [name_picture("upright", str(photo), price=3), name_picture("turned", str(turned))]
    with IndexWriter(tmp_path / "index") as writer:
        writer.add(encoder.encode_batch([photo, turned]), items, ENCODER)
    skip_without_runtime()
    settings = ServiceSettings(tmp_path / "index", bundle=query, log=False)
    with run_service(settings) as address:
        told = use(
            app,
            jvm,
            "server",
            address,
            "gallery",
            photo,
            "camera",
            photo,
            "thumbnails",
            2000,
            "measure",
            "leave",
            photo,
            "again",
        )
    said = dict(line.split(": ", 1) for line in told if ": " in line)
    assert said["gallery asks"] == "android.intent.action.GET_CONTENT image/*"
    # The smallest encoder, of int8, answers first, where this processor computes it rightly.
    score, _, shown = said["gallery shows"].partition(" ")
    assert float(score) > 0.98 and shown == "upright price: 3"
    assert said["gallery status"].startswith("2 found: decoded in ")
    assert "the picture did not" in said["gallery status"]
    assert said["camera asks"].startswith("android.media.action.IMAGE_CAPTURE")
    assert "content://org.pocketlens.demo.capture/picture.jpg" in said["camera asks"]
    # EXIF says that the camera was held sideways; the better encoder's vector is Python's.
    assert said["camera shows"].startswith("1.000 turned")
    assert said["camera picture"] == "240×320"
    assert said["thumbnail 0"] == "192" and said["thumbnail 1"] == "256"
    # Who has left is told nothing, and nothing breaks.
    assert said["left"].endswith("…")
    assert said["telemetry"] == "1"
    record = tmp_path / "latency.json"
    record.write_text(said["measured"])
    (run,) = read_runs(record)
    assert run.platform == "android" and run.rounds == 30 and run.size == 32
    # What was measured, and the settings, are there at the next start.
    assert json.loads(said["kept"])["server"] == address
    assert any(name.startswith("measured onnxruntime ") for name in json.loads(said["kept"]))


def test_what_goes_wrong_is_told(
    app: tuple[str, ...], jvm: Host, pictures: Path, student: Checkpoint
) -> None:
    told = use(
        app, jvm, "server", "http://127.0.0.1:9", "gallery", pictures / "photo.png",
        "gallery", pictures / "words.jpg", "gallery", pictures / "gone.png",
        "server", "nonsense", "gallery", pictures / "photo.png", "nocamera", "cancel",
    )  # fmt: skip
    said = [line.partition(": ")[2] for line in told if line.startswith("gallery status: ")]
    assert "http://127.0.0.1:9 does not answer" in said[0]
    assert "not a picture" in said[1]
    assert "cannot be opened" in said[2]
    assert "not an address" in said[3]
    assert "nocamera: No camera app can be used. Choose a picture instead." in told
    assert "cancelled: No camera app can be used. Choose a picture instead." in told


def test_large_photos_are_reduced_as_in_python(
    app: tuple[str, ...], jvm: Host, query: Path, student: Checkpoint, tmp_path: Path
) -> None:
    """A JPEG whose sides are no multiples: what decoders round up is left away again."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(make_camera_photo(1203, 1601))
    encoder = QueryEncoder(query / "s32.fp32.photo.onnx")
    assert encoder.decode(photo).shape == (400, 301, 3)
    create_index(tmp_path / "index", student.space)
    with IndexWriter(tmp_path / "index") as writer:
        writer.add(encoder.encode(photo)[None], [Item("photo", str(photo))], ENCODER)
    with run_service(ServiceSettings(tmp_path / "index", log=False)) as address:
        told = use(app, jvm, "server", address, "gallery", photo, "gallery", photo)
    # The second by the better encoder.
    assert "gallery picture: 301×400" in told
    shown = [line.removeprefix("gallery shows: ") for line in told if "gallery shows" in line]
    assert float(shown[1].partition(" ")[0]) >= 0.999
