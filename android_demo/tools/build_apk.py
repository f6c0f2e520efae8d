"""Build the app without Gradle: an installable APK of the same sources.

    python android_demo/tools/build_apk.py BUNDLE APK [--abi arm64-v8a …]

Needs a JDK, Debian's aapt, zipalign, apksigner and android-framework-res, and the kit (`kit.py`).
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from kit import DEXER, KIT, is_fetched

PROJECT = Path(__file__).parent.parent
ABIS = ("arm64-v8a", "x86_64")
PACKAGE = "org.pocketlens.demo"
PROGRAMS = ("javac", "java", "keytool", "aapt2", "zipalign", "apksigner")
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
_LIBRARIES = ("libonnxruntime.so", "libonnxruntime4j_jni.so")
# The runtime works without what would tell of its use.
_TELEMETRY = re.compile(r"ai/onnxruntime/(telemetry/|TelemetryInitializer)")
_REMOVED = re.compile(r'\s*<[\w-]+\s[^<>]*tools:node="remove"[^<>]*/>')
_PASSWORD = "android"


def list_missing() -> list[str]:
    """Return what an APK cannot be built without, and is not here."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if not FRAMEWORK.is_file():
        missing.append("android-framework-res")
    if not is_fetched():
        missing.append("the kit (make android-kit)")
    return missing


def read_versions() -> dict[str, str]:
    """Return the versions of the catalogue that Gradle reads too."""
    with (PROJECT / "gradle" / "libs.versions.toml").open("rb") as file:
        versions: dict[str, str] = tomllib.load(file)["versions"]
    return versions


def compile_java(sources: Path, classpath: Sequence[Path], output: Path) -> None:
    """Compile all Java files of a folder, to what Android's oldest version here knows."""
    files = sorted(map(str, sources.rglob("*.java")))
    joined = ":".join(map(str, classpath))
    flags = ["-nowarn", "-Xlint:-options", "-encoding", "UTF-8", "--release", "8"]
    _run("javac", *flags, "-cp", joined, "-d", output, *files)


def build_apk(bundle: Path, apk: Path, abis: Sequence[str] = ABIS) -> None:
    """Write a signed APK with the encoders of a bundle inside."""
    versions = read_versions()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        _copy_bundle(bundle, out / "assets" / "query")
        base = _link_resources(out, versions)
        classes = KIT / "aar" / "classes.jar"
        compile_java(PROJECT / "core" / "src" / "main", [classes], out / "core")
        shutil.copytree(
            PROJECT / "app" / "src" / "main" / "java", out / "generated", dirs_exist_ok=True
        )
        compile_java(out / "generated", [KIT / "android.jar", out / "core", classes], out / "app")
        _take_runtime(classes, out / "runtime")
        dexed = [
            file for part in ("core", "app", "runtime") for file in (out / part).rglob("*.class")
        ]
        (out / "dex").mkdir()
        _run(
            "java", "-Xmx1g", "-cp", KIT / "lib" / DEXER, "com.android.tools.r8.D8", "--release",
            "--min-api", versions["min-sdk"], "--lib", KIT / "android.jar",
            "--output", out / "dex", *dexed,
        )  # fmt: skip
        with zipfile.ZipFile(base, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as package:
            package.write(out / "dex" / "classes.dex", "classes.dex")
            for abi in abis:
                for name in _LIBRARIES:
                    package.write(KIT / "aar" / "jni" / abi / name, f"lib/{abi}/{name}")
        aligned, signed = out / "aligned.apk", out / "signed.apk"
        _run("zipalign", "-f", "-p", 4, base, aligned)
        _sign(aligned, signed, versions["min-sdk"])
        apk.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(signed, apk.with_suffix(".part"))
        apk.with_suffix(".part").replace(apk)


def _copy_bundle(bundle: Path, assets: Path) -> None:
    card = bundle / "card.json"
    if not card.is_file():
        sys.exit(f"{bundle}: no query bundle; make one with cli export, or cli demo")
    assets.mkdir(parents=True)
    for entry in json.loads(card.read_text())["encoders"]:
        if entry["input"] == "photo":
            shutil.copy(bundle / entry["file"], assets)
    shutil.copy(card, assets)


def _link_resources(out: Path, versions: dict[str, str]) -> Path:
    """Write resources, manifest and assets into an APK, and the constants that name them."""
    main = PROJECT / "app" / "src" / "main"
    manifest = out / "AndroidManifest.xml"
    # Gradle knows the package from its own files, and refuses it here; it removes what is marked.
    text = _REMOVED.sub("", (main / "AndroidManifest.xml").read_text())
    text = text.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1)
    text = text.replace("<application", '<application android:extractNativeLibs="true"', 1)
    manifest.write_text(text)
    _run("aapt2", "compile", "--dir", main / "res", "-o", out / "resources.zip")
    base = out / "base.apk"
    _run(
        "aapt2", "link", "-I", FRAMEWORK, "--manifest", manifest,
        "--min-sdk-version", versions["min-sdk"], "--target-sdk-version", versions["target-sdk"],
        "--version-code", 1, "--version-name", "0.1.0", "-A", out / "assets",
        "--java", out / "generated", "-0", "onnx", "-o", base, out / "resources.zip",
    )  # fmt: skip
    return base


def _take_runtime(classes: Path, output: Path) -> None:
    with zipfile.ZipFile(classes) as jar:
        for name in jar.namelist():
            if name.startswith("ai/onnxruntime/") and not _TELEMETRY.match(name):
                jar.extract(name, output)


def _sign(aligned: Path, signed: Path, oldest: str) -> None:
    """Sign with a debug key, made at the first build and kept beside the kit, never committed."""
    key = KIT.parent / ".debug.keystore"
    if not key.is_file():
        _run(
            "keytool", "-genkeypair", "-keystore", key, "-storepass", _PASSWORD,
            "-keypass", _PASSWORD, "-alias", "debug", "-dname", "CN=Debug", "-keyalg", "RSA",
            "-keysize", 2048, "-validity", 10000,
        )  # fmt: skip
    _run(
        "apksigner", "sign", "--ks", key, "--ks-pass", f"pass:{_PASSWORD}",
        "--min-sdk-version", oldest, "--v1-signing-enabled", "false", "--out", signed, aligned,
    )  # fmt: skip


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Parse and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("apk", type=Path)
    parser.add_argument("--abi", action="append", choices=ABIS)
    asked = parser.parse_args()
    if missing := list_missing():
        sys.exit(f"an APK needs {', '.join(missing)}")
    build_apk(asked.bundle, asked.apk, tuple(asked.abi or ABIS))
    print(f"{asked.apk}: {asked.apk.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
