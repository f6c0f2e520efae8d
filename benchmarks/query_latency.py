"""From a photo's bytes to its vector: how fast, against which limit, and how exact.

    python benchmarks/query_latency.py query --flowers FOLDER [--rounds N]
    python benchmarks/query_latency.py parity --teacher C --student C --data FOLDER --flowers FOLDER
    python benchmarks/query_latency.py int8 --teacher C --student C --data FOLDER --name cars
    python benchmarks/query_latency.py runtime

`query` times a camera photo (a mosaic of real ones at their own scale) and a VGA frame on one
thread, in rounds in which each way has its turn: this toolkit's, in fp32 and, where the CPU
computes it rightly, in int8; the ordinary one (Pillow's full decode, torchvision's transform, the
teacher at 224 px in eager PyTorch); the student's naive export (full decode and resize in Pillow,
numpy, fp32 ONNX); the limit, a decode at reduced scale and the network, each alone. Networks have
ImageNet's weights: speed does not depend on them. `parity` and `int8` take a distilled student.
`runtime` weighs the import and the base install.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from query_parity import measure_int8, measure_parity
from record import update_result
from timing import begin_as_command_line, seconds
from torchvision import transforms

from encoder.checkpoint import Checkpoint, digest_model
from encoder.datasets.folder import read_folder
from encoder.images import decode_image
from encoder.memory import keep_memory
from encoder.model import Architecture
from encoder.preprocess import Preprocess, normalise, prepare
from encoder.space import mint_space
from encoder.teacher import start_model
from export.bundle import export_bundle
from export.front import NETWORK_INPUT
from export.gate import GateLimits
from export.graph import export_network
from export.int8 import plan_quantisation
from export.runtime import QueryEncoder, WrongProductsError
from export.variants import plan_variants

TEACHER, STUDENT = 224, 112
WIDTH, HEIGHT = 4000, 3000
VGA = (640, 480)


def make_checkpoint(size: int) -> Checkpoint:
    """Return an encoder with ImageNet's weights."""
    torch.manual_seed(0)
    model = start_model(Architecture(), "").eval()
    space = mint_space("teacher", 512, digest_model(model))
    return Checkpoint(model, Architecture(), Preprocess(size), space, "teacher")


def make_photo(flowers: Path) -> bytes:
    """Return a JPEG of camera size: photos side by side at the scale they have."""
    photo = Image.new("RGB", (WIDTH, HEIGHT))
    files = iter(read_folder(flowers).files())
    top = 0
    while top < HEIGHT:
        left, row = 0, HEIGHT
        while left < WIDTH:
            with Image.open(next(files)) as tile:
                photo.paste(tile.convert("RGB"), (left, top))
                left, row = left + tile.width, min(row, tile.height)
        top += row
    written = io.BytesIO()
    photo.save(written, "JPEG", quality=92, subsampling="4:2:0")
    return written.getvalue()


def decode_fully(data: bytes) -> Image.Image:
    """Decode as Pillow does unless told otherwise."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def prepare_ways(
    photo: bytes, teacher: Checkpoint, student: Checkpoint, bundle: Path
) -> dict[str, Callable[[], Any]]:
    """Return what is timed by name; each call is one query, or one part of it."""
    encoder = QueryEncoder(bundle, precision="fp32", threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = onnxruntime.InferenceSession(
        export_network(student).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    to_tensor = transforms.Compose(
        [
            transforms.Resize((TEACHER, TEACHER), antialias=True),
            transforms.ToTensor(),
            transforms.Normalize((127 / 255,) * 3, (128 / 255,) * 3),
        ]
    )
    frame = np.asarray(decode_fully(photo).crop((0, 0, *VGA)))
    picture = Image.fromarray(frame)
    inputs = normalise(prepare(frame, student.preprocess)[None], student.preprocess)
    side = (student.preprocess.size,) * 2

    def ordinary() -> Any:
        with torch.inference_mode():
            return teacher.model(to_tensor(decode_fully(photo))[None])

    def naive() -> Any:
        resized = decode_fully(photo).resize(side, Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized, np.float32) - 127) / 128
        batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        vector: NDArray[np.float32] = network.run(None, {NETWORK_INPUT: batch})[0][0]
        return vector / np.linalg.norm(vector)

    ways: dict[str, Callable[[], Any]] = {"query": lambda: encoder.encode(photo)}
    try:
        eighth = QueryEncoder(bundle, precision="int8", threads=1)
        ways["query_int8"] = lambda: eighth.encode(photo)
    except WrongProductsError as refused:
        print(f"int8 is not timed: {refused}")
    return ways | {
        "ordinary": ordinary,
        "naive": naive,
        "decode": lambda: decode_image(photo, target=student.preprocess),
        "network": lambda: network.run(None, {NETWORK_INPUT: inputs}),
        "frame": lambda: encoder.embed(frame),
        "pil_resize": lambda: picture.resize(side, Image.Resampling.BILINEAR),
    }


def measure_query(flowers: Path, rounds: int) -> dict[str, float]:
    """Time each way in turns and return medians and their ratios."""
    photo, student = make_photo(flowers), make_checkpoint(STUDENT)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "query"
        # Speed is all that is asked of int8 here.
        plan = plan_quantisation(flowers, student, GateLimits(max_drop=100, min_cosine=0))
        variants = plan_variants({"student": student}, precisions=("fp32", "int8"))
        export_bundle(variants, bundle, quantisation=plan)
        # Quantising encodes pictures on every core.
        torch.set_num_threads(1)
        ways = prepare_ways(photo, make_checkpoint(TEACHER), student, bundle)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 2):
            for name, run in ways.items():
                took = 1e3 * seconds(run)
                if number >= 2:
                    times[name].append(took)
    ms = {name: statistics.median(values) for name, values in times.items()}
    figures = {f"query.ms.{name}": value for name, value in ms.items()}
    if "query_int8" in ms:
        figures["query.int8.vs_ordinary"] = ms["ordinary"] / ms["query_int8"]
    return figures | {
        "query.vs_ordinary": ms["ordinary"] / ms["query"],
        "query.vs_naive_export": ms["naive"] / ms["query"],
        "query.vs_limit": (ms["decode"] + ms["network"]) / ms["query"],
        "graph.around_vs_pil": (ms["frame"] - ms["network"]) / ms["pil_resize"],
        "query.photo_mb": len(photo) / 1e6,
    }


def measure_runtime(rounds: int) -> dict[str, float]:
    """Measure what the runtime adds to the imports, and the base install to its dependencies."""

    def import_ms(statement: str) -> float:
        code = (
            f"import time\nstarted = time.perf_counter()\n{statement}\n"
            "print(1e3 * (time.perf_counter() - started))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, env=compiled, capture_output=True, check=True
        )
        return float(done.stdout)

    root = Path(__file__).parent.parent
    # Modules are compiled once, as where they are installed.
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    needed = "import numpy, onnxruntime, PIL.Image"
    import_ms("import export.runtime")
    differences = []
    for _ in range(rounds):
        alone = import_ms(needed)
        differences.append(import_ms("import export.runtime") - alone)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [
            _install(Path(folder) / name, *packages)
            for name, packages in (
                ("ours", (str(root),)),
                ("theirs", ("onnxruntime", "numpy", "pillow", "typer")),
            )
        ]
    return {
        "runtime.import_extra_ms": statistics.median(differences),
        "runtime.base_install_ratio": sizes[0] / sizes[1],
        "runtime.base_install_mb": sizes[0] / 1e6,
    }


def _install(folder: Path, *packages: str) -> int:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    subprocess.run([*command, *packages], check=True)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    begin_as_command_line()
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    query = parts.add_parser("query")
    query.add_argument("--flowers", type=Path, required=True)
    query.add_argument("--rounds", type=int, default=15)
    for name in ("parity", "int8"):
        each = parts.add_parser(name)
        for flag in ("--teacher", "--student", "--data"):
            each.add_argument(flag, type=Path, required=True)
    parts.choices["parity"].add_argument("--flowers", type=Path, required=True)
    parts.choices["int8"].add_argument("--name", required=True)
    runtime = parts.add_parser("runtime")
    runtime.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    command = f"python benchmarks/query_latency.py {asked.part}"
    part = asked.part
    if asked.part == "query":
        figures = measure_query(asked.flowers, asked.rounds)
    elif asked.part == "parity":
        photo = make_photo(asked.flowers)
        figures = measure_parity(asked.teacher, asked.student, asked.data, photo)
    elif asked.part == "int8":
        part, command = f"int8.{asked.name}", f"{command} --name {asked.name}"
        figures = measure_int8(asked.teacher, asked.student, asked.data, asked.name)
    else:
        figures = measure_runtime(asked.rounds)
    for name, value in figures.items():
        print(f"{name}: {value:.5g}")
    update_result("query_latency", figures, part=part, command=command, seed=0)


if __name__ == "__main__":
    main()
