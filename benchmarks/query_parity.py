"""How exact an exported student is: cosines by case, ranks, and what int8 loses on test classes."""

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from timing import seconds

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.splits import known_split, read_table, split_classes
from encoder.evaluate import encode_images, labelled_test
from encoder.evaluation.protocol import compare_rows, evaluate_pair
from encoder.images import decode_image
from encoder.preprocess import normalise, prepare
from export.bundle import export_bundle
from export.front import build_front
from export.gate import GateLimits
from export.int8 import plan_quantisation
from export.parity import embed_reference
from export.runtime import QueryEncoder, WrongProductsError
from export.variants import plan_variants

PHOTOS = 500
PRECISIONS = ("fp32", "fp16", "int8")
_TOP = 10


def export_all(student: Checkpoint, data: Path, folder: Path) -> Path:
    """Export a student in every precision and kind; int8 calibrated on what it was trained on."""
    bundle = folder / "query"
    variants = plan_variants({"student": student}, precisions=PRECISIONS, kinds=("photo", "pixels"))
    # What int8 loses is measured here, so it is not refused for it.
    limits = GateLimits(max_drop=100, min_cosine=0)
    export_bundle(variants, bundle, quantisation=plan_quantisation(data, student, limits))
    return bundle


def make_cases(photos: list[bytes], camera: bytes) -> dict[str, list[bytes]]:
    """Return files by case, made of the photos."""
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in photos[:20]]

    def write(change: object, **options: object) -> list[bytes]:
        files = []
        for picture in pictures:
            written = io.BytesIO()
            change(picture).save(written, **options)  # type: ignore[operator]
            files.append(written.getvalue())
        return files

    def lay_bare(picture: Image.Image) -> Image.Image:
        alpha = Image.linear_gradient("L").resize(picture.size)
        return Image.merge("RGBA", (*picture.split(), alpha))

    def deepen(picture: Image.Image) -> Image.Image:
        grey = np.asarray(picture.convert("L")).astype(np.uint16)
        return Image.fromarray(grey * 257)

    size = Image.Image.resize
    return {
        "photos": photos,
        "16 px": write(lambda p: size(p, (16, 16)), format="PNG"),
        "portrait": write(lambda p: size(p, (300, 900)), format="JPEG", quality=95),
        "panorama": write(lambda p: size(p, (1600, 200)), format="JPEG", quality=95),
        "4,000 px, decoded at reduced scale": [camera],
        "grey": write(lambda p: p.convert("L"), format="JPEG", quality=95),
        "transparent": write(lay_bare, format="PNG"),
        "CMYK": write(lambda p: p.convert("CMYK"), format="JPEG", quality=95),
        "16 bit": write(deepen, format="PNG"),
    }


def measure_parity(
    teacher_folder: Path, student_folder: Path, data: Path, camera: bytes
) -> dict[str, float]:
    """Compare every precision with PyTorch by case, one by one and in batches, and the ranks."""
    teacher, student = load_checkpoint(teacher_folder), load_checkpoint(student_folder)
    table = labelled_test(split_classes(read_table(data), known_split(teacher.provenance)))
    files = table.files()[:: max(1, len(table) // PHOTOS)][:PHOTOS]
    cases = make_cases([file.read_bytes() for file in files], camera)
    figures = {"parity.photos": float(len(files)), "preprocess.max_grey": _max_grey(student, cases)}
    expected = {
        case: np.stack([embed_reference(student, decode_image(each)) for each in pictures])
        for case, pictures in cases.items()
    }
    database, _ = encode_images(teacher, teacher.preprocess, table=table, precision="fp32")
    nearest = _rank(expected["photos"], database.vectors)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export_all(student, data, Path(scratch))
        for name in PRECISIONS:
            size = student.preprocess.size
            one, many = (
                QueryEncoder(bundle / f"s{size}.{name}.{kind}.onnx", exact=name == "int8")
                for kind in ("photo", "pixels")
            )
            for case, pictures in cases.items():
                for kind, encoder in (("single", one), ("batched", many)):
                    near = (encoder.encode_batch(pictures) * expected[case]).sum(axis=1)
                    figures[f"parity.{name}.{kind}.{case}"] = float(near.min())
            found = _rank(one.encode_batch(cases["photos"]), database.vectors)
            shared = [len(set(a) & set(b)) for a, b in zip(nearest, found, strict=True)]
            figures[f"parity.{name}.top10_overlap"] = float(np.mean(shared)) / _TOP
    figures["parity.min_cosine"] = figures["parity.fp32.single.photos"]
    return figures


def _rank(vectors: NDArray[np.float32], database: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.argsort(-(vectors @ database.T), axis=1)[:, :_TOP]


def _max_grey(student: Checkpoint, cases: dict[str, list[bytes]]) -> float:
    """Return how many grey levels the graph's pixels are off Pillow's at most, on the photos."""
    preprocess = student.preprocess
    front = onnxruntime.InferenceSession(build_front(preprocess).SerializeToString())
    largest = 0.0
    for data in cases["photos"]:
        pixels = decode_image(data)
        # An enlarged picture's half-way values round apart.
        if min(pixels.shape[:2]) < preprocess.size:
            continue
        wanted = normalise(prepare(pixels, preprocess)[None], preprocess)
        (found,) = front.run(None, {"image": pixels})
        largest = max(largest, float(np.abs(found - wanted).max() * max(preprocess.std)))
    return largest


def measure_int8(
    teacher_folder: Path, student_folder: Path, data: Path, name: str
) -> dict[str, float]:
    """Export in int8 by the gate as it comes; measure bytes, speed and the loss on test classes."""
    teacher, student = load_checkpoint(teacher_folder), load_checkpoint(student_folder)
    table = labelled_test(split_classes(read_table(data), known_split(teacher.provenance)))
    database, _ = encode_images(teacher, teacher.preprocess, table=table, precision="fp32")
    sources = table.sources()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "query"
        variants = plan_variants({"student": student}, precisions=("fp32", "int8"))
        plan = plan_quantisation(data, student, GateLimits())
        done = export_bundle(variants, bundle, teacher=None, quantisation=plan)
        plain, eighth = (each.file for each in done.encoders)
        rows = []
        for file in (plain, eighth):
            encoder = QueryEncoder(file, exact=file is eighth)
            asked = [sources[place] for place in database.positions]
            vectors = np.stack([encoder.encode(source) for source in asked])
            queries = dataclasses.replace(database, vectors=vectors)
            rows.append(evaluate_pair(file.name, queries, database))
        interval = compare_rows(rows[0], rows[1])["r1"]
        gate = done.encoders[1].gate
        assert gate is not None
        return {
            f"int8.drop.{name}.r1": rows[0].figures["r1"] - rows[1].figures["r1"],
            f"int8.drop.{name}.low": interval.low,
            f"int8.drop.{name}.high": interval.high,
            f"int8.kept_nodes.{name}": len(gate.kept),
            f"int8.mean_cosine.{name}": gate.mean_cosine,
            "int8.bytes_ratio": eighth.stat().st_size / plain.stat().st_size,
            **_time_int8(plain, eighth),
        }


def _time_int8(plain: Path, eighth: Path) -> dict[str, float]:
    """Return the speed-up on one thread, where this CPU computes int8 rightly."""
    frame = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    try:
        encoders = [QueryEncoder(file, threads=1) for file in (plain, eighth)]
    except WrongProductsError as refused:
        print(f"int8 is not timed: {refused}")
        return {}
    times = np.array([[seconds(lambda e=e: e.embed(frame)) for e in encoders] for _ in range(200)])
    fp32, int8 = np.median(times[20:], axis=0)
    return {"int8.speedup": fp32 / int8, "int8.ms": 1e3 * int8, "int8.fp32_ms": 1e3 * fp32}
