"""One golden set on four runtimes, the page's first answer, and the size of the app.

    python benchmarks/devices.py --bundle BUNDLE --index INDEX [--parts parity page apk]

BUNDLE holds a student in float and int8, with golden vectors; INDEX is in its space. Needs
Chromium, `make web`, and what an APK is built with (`make android-kit`).
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import update_result

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "android_demo" / "tools"), str(ROOT / "tests" / "support")]

import build_apk  # noqa: E402
from chromium import open_browser  # noqa: E402
from host import Host, HostError, prepare_arm64, prepare_jvm  # noqa: E402
from playwright.sync_api import Request  # noqa: E402
from running_service import run_service  # noqa: E402

from encoder.images import decode_image  # noqa: E402
from export.browser import encode_in_browser, measure_in_browser  # noqa: E402
from export.card import Card  # noqa: E402
from export.golden import make_camera_photo  # noqa: E402
from export.latency import Bench  # noqa: E402
from export.runtime import QueryEncoder  # noqa: E402
from server_index.service import ServiceSettings  # noqa: E402

_COLD_LOADS = 5
_ROUNDS = 50


def measure_parity(bundle: Path, _index: Path) -> dict[str, float]:
    """Return the least cosine of each runtime's vectors to the bundle's golden ones."""
    card = Card.read(bundle)
    pictures = [bundle / each["file"] for each in card.value["golden"]["pictures"]]
    golden = {
        each["of"]: np.load(bundle / each["file"])
        for each in card.value["golden"]["vectors"]
        if each["of"]
    }
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        apk = Path(scratch) / "app.apk"
        build_apk.build_apk(bundle, apk)
        jvm = prepare_jvm(apk, Path(scratch) / "jvm")
        arm64 = prepare_arm64(apk, Path(scratch) / "arm64")
        for entry in card.encoders:
            if entry["input"] != "photo" or entry["form"] != "float":
                continue
            file, expected = bundle / entry["file"], golden[entry["file"]]
            exact = QueryEncoder(file, exact=True)
            found: dict[str, NDArray[np.float32] | None] = {
                "python": np.stack([exact.encode(each) for each in pictures]),
                "browser": encode_in_browser([file], pictures)[0],
            }
            target = exact.contract.preprocess
            pixels = [decode_image(each, target=target) for each in pictures]
            found |= {"jvm": _encode(jvm, file, pixels), "arm64": _encode(arm64, file, pixels)}
            for runtime, vectors in found.items():
                # As the issue names it, the figure of the float encoder; the others by precision.
                part = "" if entry["precision"] == "fp32" else f".{entry['precision']}"
                if vectors is None:
                    print(f"{entry['file']}: this processor computes it wrongly ({runtime})")
                    continue
                least = float((vectors * expected).sum(axis=1).min())
                print(f"{entry['file']:<28} {runtime:<8} {least:.6f}")
                figures[f"parity.{runtime}{part}.min_cosine"] = least
    return figures


def _encode(host: Host, file: Path, pixels: list[NDArray[np.uint8]]) -> NDArray[np.float32] | None:
    try:
        return host.encode(file, pixels)
    except HostError as error:
        if "8-bit products wrongly" not in str(error):
            raise
        return None


def measure_page(bundle: Path, index: Path) -> dict[str, float]:
    """Return seconds from opening the page to its first answer, bytes until then, warm times."""
    picture = next((ROOT / "docs" / "images").glob("page.png"))
    taken, transferred = [], 0
    with run_service(ServiceSettings(index, bundle=bundle, log=False)) as address:
        for _ in range(_COLD_LOADS):
            # A browser of its own each time: nothing is cached or compiled.
            with open_browser() as browser:
                page = browser.new_page()
                done: list[Request] = []
                page.context.on("requestfinished", lambda one: done.append(one))  # noqa: B023
                started = time.perf_counter()
                page.goto(address)
                page.set_input_files("#file", picture)
                page.wait_for_selector("#answers li", timeout=60_000)
                taken.append(time.perf_counter() - started)
                before = [each for each in done if "thumbnail" not in each.url and each.response()]
                transferred = sum(each.sizes()["responseBodySize"] for each in before)
    smallest = min(bundle.glob("*.photo.onnx"), key=lambda file: file.stat().st_size)
    figures = {"first_result_s": statistics.median(taken), "transfer_mb": transferred / 1e6}
    for name, size in {"": (640, 480), "camera_": (4000, 3000)}.items():
        bench = Bench(make_camera_photo(*size), f"{size[0]}x{size[1]}", _ROUNDS)
        for run in measure_in_browser([smallest], bench):
            threads = "" if run.threads > 1 else "one_thread_"
            figures[f"{name}{threads}warm_p50_ms"] = run.ms["total"]["p50"]
            figures[f"{name}{threads}network_p50_ms"] = run.ms["network"]["p50"]
    for name, value in figures.items():
        print(f"browser.{name:<32} {value:.3f}")
    return {f"browser.{name}": value for name, value in figures.items()}


def measure_apk(bundle: Path, _index: Path) -> dict[str, float]:
    """Return the size of the app for phones alone, with the bundle's int8 encoders inside."""
    with tempfile.TemporaryDirectory() as scratch:
        apk = Path(scratch) / "app.apk"
        build_apk.build_apk(bundle, apk, ("arm64-v8a",))
        whole = apk.stat().st_size
        floats = sum(file.stat().st_size for file in bundle.glob("*.fp32.photo.onnx"))
    figures = {"apk.arm64_mb": (whole - floats) / 1e6, "apk.arm64_with_fp32_mb": whole / 1e6}
    for name, value in figures.items():
        print(f"{name:<40} {value:.2f}")
    return figures


PARTS = {"parity": measure_parity, "page": measure_page, "apk": measure_apk}


def main() -> None:
    """Parse, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--dry-run", action="store_true", help="print only")
    asked = parser.parse_args()
    for name in asked.parts:
        figures = PARTS[name](asked.bundle, asked.index)
        command = f"python benchmarks/devices.py --bundle B --index I --parts {name}"
        if not asked.dry_run:
            update_result("devices", figures, part=name, command=command, seed=0)


if __name__ == "__main__":
    main()
