"""Run an exported encoder on a device: numpy, ONNX Runtime and Pillow, nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from encoder.errors import PocketlensError
from encoder.images import Limits, Source, convert_image, decode_image
from encoder.preprocess import Pixels, enlarge_tiny, prepare
from export.card import find_encoder
from export.contract import INPUTS, Contract, make_probe
from export.forms import OUTPUTS, Form, count_values, express, read_vectors

_CPU = "CPUExecutionProvider"
# It sends pictures to a server.
_REMOTE = "AzureExecutionProvider"

Picture = Source | str | bytes | Image.Image | NDArray[Any]

# What rounds otherwise stays far above it; what saturates falls far below. The cosine of signs
# falls faster: this is where it is when the vectors' own is 0.98.
_MIN_PROBE_COSINE: dict[Form, float] = {"float": 0.98, "int8": 0.98, "binary": 0.87}


class WrongProductsError(PocketlensError):
    """An int8 encoder that this CPU computes wrongly."""


class QueryEncoder:
    """Map pictures to unit vectors with an exported encoder."""

    def __init__(
        self,
        path: Path | str,
        *,
        size: int | None = None,
        precision: str | None = None,
        form: Form | None = None,
        dim: int | None = None,
        threads: int = 0,
        providers: Sequence[str] = (),
        limits: Limits | None = None,
        exact: bool = False,
        profile_prefix: str = "",
    ) -> None:
        """Open an encoder file, or of a bundle folder the first encoder that is as asked.

        `threads` 0 uses every core. `providers` of ONNX Runtime, by name, are asked in order, and
        the CPU takes what they leave. Where the products of int8 saturate (x86 CPUs without 8-bit
        dot products), `exact` computes them rightly, as slowly as fp32 without its optimisations.
        Raises `PocketlensError` when the file is missing, damaged, not an encoder of ours, or one
        that this CPU computes wrongly, and for a provider that this ONNX Runtime lacks.
        """
        self.file = find_encoder(Path(path), size=size, precision=precision, form=form, dim=dim)
        self.limits = limits
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if exact:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        if profile_prefix:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        chosen = [find_provider(name) for name in providers]
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.file), options, providers=[*dict.fromkeys([*chosen, _CPU])]
            )
        except Exception as error:  # ONNX Runtime raises many kinds for a damaged file
            reason = str(error).partition("\n")[0][:160]
            raise PocketlensError(f"{self.file}: ONNX Runtime cannot open it ({reason})") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.contract = Contract.from_metadata(metadata, str(self.file))
        if self.contract.probe is not None and not profile_prefix:
            self._refuse_saturation(np.array(self.contract.probe, np.float32))

    def _refuse_saturation(self, expected: NDArray[np.float32]) -> None:
        form, dim = self.contract.form, self.contract.dim
        wanted = read_vectors(express(expected[None], form, dim), form, dim)[0]
        cosine = float(self.read(self.embed(make_probe())) @ wanted)
        if not cosine >= _MIN_PROBE_COSINE[form]:
            raise WrongProductsError(
                f"{self.file}: this CPU computes its 8-bit products wrongly (they saturate; cosine "
                f"{cosine:.3f} to what they should be); use an fp32 or fp16 encoder here, "
                "or compute them exactly and slowly (exact=True, --exact of cli verify)"
            )

    def encode(self, picture: Picture) -> NDArray[Any]:
        """Encode a file (or part), its bytes, a PIL image or RGB pixels to a unit vector `[dim]`.

        Of an encoder that gives codes, it is the code: int8 `[dim]`, or bits in uint8 `[dim / 8]`.

        Raises:
            BadImageError: naming the file and the reason.
            PocketlensError: when pixels are not uint8 RGB.
        """
        return self.embed(self.decode(picture))

    def encode_batch(self, pictures: Sequence[Picture]) -> NDArray[Any]:
        """Encode pictures to vectors or codes `[n, …]`; in one run where the encoder takes batches.

        Raises:
            BadImageError: naming the file and the reason.
            PocketlensError: when pixels are not uint8 RGB.
        """
        if not pictures:
            values = count_values(self.contract.form, self.contract.dim)
            return np.empty((0, values), OUTPUTS[self.contract.form][1])
        decoded = [self.decode(picture) for picture in pictures]
        if self.contract.kind == "photo":
            return np.stack([self.embed(pixels) for pixels in decoded])
        return self._run(np.concatenate([self._prepare(pixels) for pixels in decoded]))

    def decode(self, picture: Picture) -> Pixels:
        """Decode to RGB, uint8 `[height, width, 3]`; large JPEGs at a reduced scale."""
        if isinstance(picture, str):
            picture = Path(picture)
        if isinstance(picture, Image.Image):
            return convert_image(picture, limits=self.limits)
        if isinstance(picture, np.ndarray):
            return _check_pixels(picture)
        if not isinstance(picture, bytes | Source):
            kind = type(picture).__name__  # type: ignore[unreachable]
            raise PocketlensError(f"a picture is a path, bytes, RGB or of Pillow, not {kind}")
        return decode_image(picture, target=self.contract.preprocess, limits=self.limits)

    def embed(self, pixels: Pixels) -> NDArray[Any]:
        """Embed decoded pixels; sides below 16 are enlarged first, as the input contract asks."""
        if self.contract.kind == "photo":
            return self._run(enlarge_tiny(pixels))
        (vector,) = self._run(self._prepare(pixels))
        return np.asarray(vector)

    def read(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the unit vector, or vectors, that this encoder's output stands for."""
        contract = self.contract
        if values.ndim == 1:
            return np.asarray(read_vectors(values[None], contract.form, contract.dim)[0])
        return read_vectors(values, contract.form, contract.dim)

    def _prepare(self, pixels: Pixels) -> NDArray[np.float32]:
        """Crop and resize to the input of kind `pixels`, float32 `[1, 3, size, size]`."""
        cut = prepare(pixels, self.contract.preprocess)
        return np.ascontiguousarray(cut.transpose(2, 0, 1)[None], dtype=np.float32)

    def _run(self, value: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = self.session.run(None, {INPUTS[self.contract.kind]: value})[0]
        return found


def list_providers() -> tuple[str, ...]:
    """Return the providers of this ONNX Runtime that compute on this device."""
    return tuple(name for name in onnxruntime.get_available_providers() if name != _REMOTE)


def find_provider(name: str) -> str:
    """Return the provider of this name, with or without what all their names end in.

    Raises:
        PocketlensError: when this ONNX Runtime has none.
    """
    wanted = name.lower().removesuffix("executionprovider")
    present = list_providers()
    for each in present:
        if each.lower().removesuffix("executionprovider") == wanted:
            return each
    held = ", ".join(each.removesuffix("ExecutionProvider") for each in present)
    raise PocketlensError(f"provider {name!r} is not in this ONNX Runtime; it has {held}")


def _check_pixels(pixels: NDArray[Any]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PocketlensError(
            f"pixels must be uint8 [height, width, 3], found {pixels.dtype} {list(pixels.shape)}"
        )
    return np.ascontiguousarray(pixels)
