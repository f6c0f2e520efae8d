"""The APK: installable, signed, aligned, small enough, and silent."""

import re
import struct
import subprocess
import tomllib
import zipfile
from pathlib import Path

import build_apk
import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_signed_for_all_versions_that_it_runs_on(apk: Path) -> None:
    told = run("apksigner", "verify", "-v", "--min-sdk-version", 24, apk)
    assert "v2 scheme (APK Signature Scheme v2): true" in told
    assert "v3 scheme (APK Signature Scheme v3): true" in told
    run("zipalign", "-c", "-p", 4, apk)


def test_it_says_what_it_is_and_asks_for_nothing_but_the_network(apk: Path) -> None:
    told = run("aapt2", "dump", "badging", apk)
    assert "package: name='org.pocketlens.demo'" in told
    assert "sdkVersion:'24'" in told and "targetSdkVersion:'35'" in told
    assert "native-code: 'arm64-v8a' 'x86_64'" in told
    assert "launchable-activity: name='org.pocketlens.demo.MainActivity'" in told
    assert re.findall(r"uses-permission: name='(.*?)'", told) == ["android.permission.INTERNET"]


def test_what_is_inside(apk: Path, query: Path) -> None:
    with zipfile.ZipFile(apk) as package:
        names = package.namelist()
        stored = [each.filename for each in package.infolist() if each.compress_type == 0]
        dex = package.read("classes.dex")
        for encoder in query.glob("*.onnx"):
            assert package.read(f"assets/query/{encoder.name}") == encoder.read_bytes()
        for abi in build_apk.ABIS:
            for name in ("libonnxruntime.so", "libonnxruntime4j_jni.so"):
                data = package.read(f"lib/{abi}/{name}")
                # Pages of 16 kB: Google Play asks for them.
                assert min(list_alignments(data)) >= 0x4000
    # Android 11 maps it, and encoders are large already.
    assert "resources.arsc" in stored
    assert not [name for name in names if "golden" in name]
    assert b"Lorg/pocketlens/core/QueryEncoder;" in dex
    assert b"ai/onnxruntime/telemetry" not in dex and b"TelemetryInitializer" not in dex
    # Gradle's build of the runtime's own library is kept from it by the manifest.
    manifest = (ROOT / "android_demo" / "app" / "src" / "main" / "AndroidManifest.xml").read_text()
    removed = re.findall(r'name="([^"]+)"[^<>]*tools:node="remove"', manifest)
    assert removed == [
        "android.permission.ACCESS_NETWORK_STATE",
        "ai.onnxruntime.TelemetryInitializer",
    ]
    told = run("aapt2", "dump", "xmltree", "--file", "AndroidManifest.xml", apk)
    assert told.count("E: provider") == 1 and "CaptureProvider" in told
    # It is told, besides, to be silent.
    assert b"ORT_DISABLE_TELEMETRY" in dex


def list_alignments(library: bytes) -> list[int]:
    """Return the alignment of each segment that is loaded, of a 64-bit ELF file."""
    (offset,) = struct.unpack_from("<Q", library, 32)
    size, count = struct.unpack_from("<HH", library, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", library, offset + n * size) for n in range(count)]
    return [header[7] for header in headers if header[0] == 1]


def test_a_build_for_phones_alone_is_small(query: Path, tmp_path: Path, apk: Path) -> None:
    build_apk.build_apk(query, tmp_path / "phone.apk", ("arm64-v8a",))
    encoders = sum(file.stat().st_size for file in query.glob("*.onnx"))
    assert (tmp_path / "phone.apk").stat().st_size - encoders < 14e6


def test_a_folder_that_is_no_bundle_is_refused(apk: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no query bundle"):
        build_apk.build_apk(tmp_path, tmp_path / "app.apk")
    assert not list(tmp_path.iterdir())


def test_versions_agree() -> None:
    versions = build_apk.read_versions()
    assert (versions["min-sdk"], versions["target-sdk"]) == ("24", "35")
    with (ROOT / "android_demo" / "gradle" / "libs.versions.toml").open("rb") as file:
        libraries = tomllib.load(file)["libraries"]
    assert {each["version"]["ref"] for each in libraries.values()} == {"onnxruntime"}
