"""Hand damaged pictures to the decoder: each must decode or be refused, soon and in little memory.

    python benchmarks/mutated_pictures.py --images 10000 --seed 0 [--record]

Pictures of every format that is read, small ones and one of camera size, are changed at random:
bytes flipped, cut out, doubled, or ones written into the header that mean large numbers. A crash
or a picture that takes ten seconds ends the run; anything raised but a refusal counts as a failure.
"""

import argparse
import io
import json
import signal
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import update_result

from encoder.errors import BadImageError
from encoder.images import Limits, decode_image
from encoder.memory import read_peak_mb
from encoder.preprocess import Preprocess
from export.golden import make_camera_photo, write_golden_images

_SECONDS_EACH = 10
_TARGET = Preprocess(112)
# A header that claims more is refused; what it may claim is decoded in so many MB.
_LIMITS = Limits(max_pixels=8_000_000)
_BEGINNING = 64


def make_pictures() -> list[bytes]:
    """Return sound pictures, a file each, of every format that is read."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "golden"
        pictures = [(place / name).read_bytes() for name in write_golden_images(place)]
    drawn = Image.open(io.BytesIO(pictures[0])).convert("RGB").resize((96, 80))
    deep = Image.fromarray(np.asarray(drawn.convert("L")).astype(np.uint16) * 257)
    for image, options in (
        (drawn, {"format": "WEBP"}),
        (drawn, {"format": "WEBP", "lossless": True}),
        (drawn, {"format": "BMP"}),
        (drawn, {"format": "GIF"}),
        (drawn, {"format": "TIFF"}),
        (drawn, {"format": "TIFF", "compression": "tiff_lzw"}),
        (drawn, {"format": "JPEG", "progressive": True}),
        (deep, {"format": "PNG"}),
    ):
        written = io.BytesIO()
        image.save(written, **options)
        pictures.append(written.getvalue())
    return [*pictures, make_camera_photo(2000, 1500)]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a copy with one to three things changed."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        kind, length = int(rng.integers(5)), len(changed)
        if length < 16:
            break
        # Headers matter most: a quarter of the changes fall there.
        first = _BEGINNING if rng.random() < 0.25 else length
        at = int(rng.integers(min(first, length - 8)))
        span = int(rng.integers(1, 50))
        if kind == 0:
            changed[at] = int(rng.integers(256))
        elif kind == 1:
            changed[at : at + span] = b""
        elif kind == 2:
            changed[at:at] = changed[at : at + span]
        elif kind == 3:
            large = (0x7FFFFFFF, 0xFFFFFFFF, 0x0000FFFF, 0x00010000)[int(rng.integers(4))]
            changed[at : at + 4] = large.to_bytes(4, ("big", "little")[int(rng.integers(2))])
        else:
            del changed[int(rng.integers(8, length)) :]
    return bytes(changed)


def try_pictures(count: int, seed: int) -> dict[str, Any]:
    """Decode mutated pictures; return how many decoded, were refused and failed, and the memory."""
    rng = np.random.default_rng(seed)
    pictures = make_pictures()
    outcomes: Counter[str] = Counter(decoded=0, refused=0, failed=0)
    failures: list[str] = []
    before = read_peak_mb() or 0.0
    for number in range(count):
        mutated = mutate(pictures[number % len(pictures)], rng)
        # Without a handler: what hangs, even outside Python, ends the process.
        signal.alarm(_SECONDS_EACH)
        try:
            pixels = decode_image(mutated, target=_TARGET, limits=_LIMITS)
            sound = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            outcomes["decoded" if sound else "failed"] += 1
        except BadImageError:
            outcomes["refused"] += 1
        except Exception:  # what else is raised is what is looked for
            outcomes["failed"] += 1
            failures.append(f"picture {number}: {traceback.format_exc(limit=-1)}")
        signal.alarm(0)
    return {
        **outcomes,
        "images": count,
        "grown_mb": (read_peak_mb() or 0.0) - before,
        "failures": failures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    found = try_pictures(asked.images, asked.seed)
    print(json.dumps(found, indent=2))
    if asked.record:
        update_result(
            "query_latency",
            {
                "fuzz.images": asked.images,
                "fuzz.decoded": found["decoded"],
                "fuzz.failures": found["failed"],
                "fuzz.grown_mb": found["grown_mb"],
            },
            part="fuzz",
            command=f"python benchmarks/mutated_pictures.py --images {asked.images} --record",
            seed=asked.seed,
        )
    raise SystemExit(1 if found["failed"] else 0)


if __name__ == "__main__":
    main()
