"""ONNX Runtime's version on each platform stands in one file, and is what is used there."""

import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "android_demo" / "tools"))


@pytest.fixture
def pinned() -> dict[str, str]:
    told = json.loads((ROOT / "export" / "runtimes.json").read_text())
    return {platform: each["version"] for platform, each in told.items()}


def test_the_platforms_use_what_is_pinned(pinned: dict[str, str]) -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"onnxruntime=={pinned['python']}" in constraints
    package = json.loads((ROOT / "export" / "web" / "package.json").read_text())
    assert package["dependencies"]["onnxruntime-web"] == pinned["browser"]
    with (ROOT / "android_demo" / "gradle" / "libs.versions.toml").open("rb") as file:
        catalogue = tomllib.load(file)
    assert catalogue["versions"]["onnxruntime"] == pinned["android"]
    told = json.loads((ROOT / "export" / "runtimes.json").read_text())["android"]["package"]
    assert catalogue["libraries"]["onnxruntime-android"]["module"] == told


def test_the_kit_carries_what_is_pinned(pinned: dict[str, str]) -> None:
    import kit

    if not kit.is_fetched():
        pytest.skip("needs `make android-kit`")
    library = kit.KIT / "aar" / "jni" / "arm64-v8a" / "libonnxruntime.so"
    (version,) = set(re.findall(rb"VERS_([\d.]+)", library.read_bytes()))
    assert version.decode() == pinned["android"]
    with zipfile.ZipFile(kit.KIT / "aar" / "classes.jar") as jar:
        assert "ai/onnxruntime/OrtSession.class" in jar.namelist()
