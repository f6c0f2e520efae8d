"""The app built from its sources, and made ready to run on this machine."""

import dataclasses
import sys
from pathlib import Path

import pytest

from encoder.checkpoint import Checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from export.bundle import export_bundle
from export.gate import GateLimits
from export.int8 import Quantisation
from export.variants import Variant

sys.path.insert(0, str(Path(__file__).parents[2] / "android_demo" / "tools"))

import build_apk
import shim
from host import Host, prepare_arm64, prepare_jvm


@pytest.fixture(scope="session")
def query(student: Checkpoint, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one student in float and int8."""
    table = split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.25)).split("train")
    # A network that was never trained; how much it loses is not what is tested here.
    settings = Quantisation(table, table, "train", GateLimits(100.0, min_cosine=0.5))
    output = tmp_path_factory.mktemp("android") / "query"
    export_bundle([Variant(student), Variant(student, "int8")], output, quantisation=settings)
    return output


@pytest.fixture(scope="session")
def apk(query: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app, with that bundle inside."""
    if missing := build_apk.list_missing():
        pytest.skip(f"an APK needs {', '.join(missing)}")
    output = tmp_path_factory.mktemp("apk") / "app.apk"
    build_apk.build_apk(query, output)
    return output


@pytest.fixture(scope="session")
def jvm(apk: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The app's core in this machine's JVM, with the libraries of the APK."""
    if missing := shim.list_missing("x86_64"):
        pytest.skip(f"needs {', '.join(missing)}")
    return prepare_jvm(apk, tmp_path_factory.mktemp("jvm") / "host")


@pytest.fixture(scope="session")
def core(jvm: Host) -> Host:
    """The checks of the core beside the encoder."""
    *flags, _ = jvm.command
    return dataclasses.replace(jvm, command=(*flags, "org.pocketlens.core.CoreCheck"))


@pytest.fixture(scope="session")
def arm64(apk: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The APK's arm64 library under qemu."""
    if missing := shim.list_missing("arm64-v8a"):
        pytest.skip(f"needs {', '.join(missing)}")
    return prepare_arm64(apk, tmp_path_factory.mktemp("arm64") / "host")
