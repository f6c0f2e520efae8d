"""Run the app's encoder here, with an APK's libraries: in a JVM, or as arm64 under qemu."""

import dataclasses
import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from build_apk import PROJECT, compile_java
from kit import KIT
from numpy.typing import NDArray
from PIL import Image
from shim import make_runner, make_shim

# A processor that most phones of the last years surpass; what it can choose the int8 kernels.
_CPUINFO = (
    "processor\t: 0\nBogoMIPS\t: 50.00\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
    "asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n"
    "CPU part\t: 0xd0c\nCPU revision\t: 1\n"
)
_CLASSES = KIT / "aar" / "classes.jar"


class HostError(Exception):
    """What the program run here wrote on its standard error."""


@dataclasses.dataclass(frozen=True)
class Host:
    """Say how to encode: a command to which model and pictures are added, and its environment."""

    folder: Path
    command: tuple[str, ...]
    environment: dict[str, str]

    def encode(self, model: Path, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the vectors `[pictures, dim]` of RGB pictures, uint8 `[height, width, 3]`.

        Raises:
            HostError: when the program fails, with what it says.
        """
        files = []
        for number, pixels in enumerate(pictures):
            file = self.folder / f"{number}.ppm"
            Image.fromarray(pixels).save(file)
            files.append(file)
        told = self.run(str(model), *map(str, files))
        rows = [[float(value) for value in line.split()] for line in told.splitlines()]
        return np.array(rows, np.float32)

    def run(self, *arguments: str) -> str:
        """Run with these arguments; return what is printed."""
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise HostError(done.stderr)
        return done.stdout


def prepare_jvm(apk: Path, folder: Path) -> Host:
    """Make ready the app's core, with the x86_64 libraries of an APK, in this machine's JVM."""
    libraries = folder / "libraries"
    make_shim(_unpack(apk, "x86_64", folder), "x86_64", libraries)
    compile_java(PROJECT / "core" / "src", [_CLASSES], folder / "core")
    environment = _silence({**os.environ, "LD_LIBRARY_PATH": str(libraries)})
    return Host(
        folder,
        (
            "java",
            f"-Donnxruntime.native.path={libraries}",
            "-cp",
            f"{folder / 'core'}:{_CLASSES}",
            "org.pocketlens.core.EncodePhotos",
        ),
        environment,
    )


def prepare_arm64(apk: Path, folder: Path) -> Host:
    """Make ready the arm64 library of an APK under qemu, behind a small program in C."""
    libraries = folder / "libraries"
    unpacked = _unpack(apk, "arm64-v8a", folder)
    make_shim(unpacked, "arm64-v8a", libraries)
    runner = make_runner(KIT / "aar" / "headers", folder)
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(_CPUINFO)
    given = {"LD_LIBRARY_PATH": str(libraries), "BIONIC_CPUINFO": str(cpuinfo)}
    emulated = [part for each in _silence(given).items() for part in ("-E", "=".join(each))]
    return Host(
        folder,
        (
            "qemu-aarch64-static",
            "-L",
            "/usr/aarch64-linux-gnu",
            *emulated,
            str(runner),
            str(libraries / unpacked[0].name),
        ),
        dict(os.environ),
    )


def _silence(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "ORT_DISABLE_TELEMETRY": "1"}


def _unpack(apk: Path, abi: str, folder: Path) -> list[Path]:
    """Take an architecture's libraries out of an APK, the runtime's first."""
    shutil.rmtree(folder, ignore_errors=True)
    found = []
    with zipfile.ZipFile(apk) as package:
        for name in sorted(package.namelist()):
            if name.startswith(f"lib/{abi}/"):
                found.append(Path(package.extract(name, folder)))
    return found
