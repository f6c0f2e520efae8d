"""Run an exported encoder on a device: numpy, ONNX Runtime and Pillow, nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from encoder.atomic import read_format
from encoder.errors import PocketlensError
from encoder.images import BoxedFile, Limits, decode_image
from encoder.preprocess import Pixels, enlarge_tiny
from export.contract import FORMAT, INPUT, Contract

Picture = Path | BoxedFile | str | bytes | Image.Image | NDArray[Any]
CARD = "card.json"


class QueryEncoder:
    """Map pictures to unit vectors with an exported encoder."""

    def __init__(
        self,
        path: Path | str,
        *,
        threads: int = 0,
        limits: Limits | None = None,
        profile_prefix: str = "",
    ) -> None:
        """Open an encoder file, or the first encoder of a bundle folder.

        `threads` 0 uses every core. Raises `PocketlensError` when the file is missing, damaged,
        or not an encoder of ours.
        """
        self.file = find_encoder(Path(path))
        self.limits = limits
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if profile_prefix:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises many kinds for a damaged file
            reason = str(error).partition("\n")[0][:160]
            raise PocketlensError(f"{self.file}: ONNX Runtime cannot open it ({reason})") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.contract = Contract.from_metadata(metadata, str(self.file))

    def encode(self, picture: Picture) -> NDArray[np.float32]:
        """Encode a file (or part), its bytes, a PIL image or RGB pixels to a unit vector `[dim]`.

        Raises:
            BadImageError: naming the file and the reason.
            PocketlensError: when pixels are not uint8 RGB.
        """
        return self.embed(self.decode(picture))

    def decode(self, picture: Picture) -> Pixels:
        """Decode to RGB, uint8 `[height, width, 3]`; large JPEGs at a reduced scale."""
        if isinstance(picture, str):
            picture = Path(picture)
        if isinstance(picture, Image.Image):
            picture = np.asarray(picture.convert("RGB"))
        if isinstance(picture, np.ndarray):
            return _check_pixels(picture)
        return decode_image(picture, target=self.contract.preprocess, limits=self.limits)

    def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Embed decoded pixels; sides below 16 are enlarged first, as the input contract asks."""
        vector: NDArray[np.float32] = self.session.run(None, {INPUT: enlarge_tiny(pixels)})[0]
        return vector


def find_encoder(path: Path) -> Path:
    """Return the encoder file that `path` is, or that its bundle's card lists first.

    Raises:
        PocketlensError: when there is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise PocketlensError(f"{path}: no such encoder file or bundle")
    if not (path / CARD).exists() and (path / "config.json").exists():
        raise PocketlensError(f"{path}: a checkpoint; export it: cli export {path} BUNDLE")
    card = read_format(path / CARD, FORMAT)
    encoders = card.get("encoders")
    if not isinstance(encoders, list) or not encoders or not isinstance(encoders[0], dict):
        raise PocketlensError(f"{path / CARD}: lists no encoder")
    file = path / Path(str(encoders[0].get("file"))).name
    if not file.is_file():
        raise PocketlensError(f"{file}: listed in {CARD} but missing; export the bundle again")
    return file


def _check_pixels(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PocketlensError(
            f"pixels must be uint8 [height, width, 3], found {pixels.dtype} {list(pixels.shape)}"
        )
    return np.ascontiguousarray(pixels)
