"""Encode database images: with a checkpoint (torch) or an exported encoder (no torch)."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from encoder.digests import digest_json
from encoder.embed import (
    NO_VECTORS,
    EmbeddedBatch,
    Embedder,
    Vectors,
    embed_files,
    embed_looks,
    set_bad_aside,
)
from encoder.errors import BadImageError, require_extra
from encoder.images import Source, decode_image
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess, prepare
from encoder.space import ID_LENGTH, EmbeddingSpace
from export.runtime import QueryEncoder
from server_index.averaging import Averaging, average, count_looks, look

_CHUNK = 256


class DatabaseEncoder(Protocol):
    """Encode files into a space; `encoder` is the digest of weights, input and precision."""

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space written into."""

    @property
    def encoder(self) -> str:
        """Return the encoder digest."""

    @property
    def role(self) -> str:
        """Return what it was trained as: teacher or student."""

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order, a batch at a time."""


def open_encoder(
    path: Path, *, precision: str = "auto", averaging: Averaging = "none"
) -> DatabaseEncoder:
    """Open a checkpoint folder, an encoder file or a bundle.

    Raises:
        PocketlensError: when the path is none of these, or torch is needed and missing.
    """
    if (path / "model.safetensors").is_file():
        require_extra("torch", f"{path} (a PyTorch checkpoint)")
        return _open_checkpoint(path, precision, averaging)
    # One thread a picture on every core needs no hand-over between cores.
    runtime = QueryEncoder(path, threads=1)
    runtime.contract.require_whole(str(runtime.file))
    encoder = _name_averaged(runtime.contract.encoder, averaging)
    return ExportedEncoder(runtime.contract.space, encoder, runtime, averaging)


def _open_checkpoint(path: Path, precision: str, averaging: Averaging) -> DatabaseEncoder:
    from encoder.checkpoint import load_checkpoint
    from encoder.inference import prepare_inference

    checkpoint = load_checkpoint(path)
    inference = prepare_inference(checkpoint, precision=precision)
    return CheckpointEncoder(
        space=checkpoint.space,
        encoder=_name_averaged(checkpoint.encoder_at(inference.precision), averaging),
        preprocess=checkpoint.preprocess,
        embedder=inference.embedder,
        role=checkpoint.kind,
        averaging=averaging,
    )


def _name_averaged(encoder: str, averaging: Averaging) -> str:
    """Return the digest of an encoder whose vectors are averaged: it is another encoder."""
    if averaging == "none":
        return encoder
    return digest_json({"encoder": encoder, "averaging": averaging})[:ID_LENGTH]


@dataclasses.dataclass(frozen=True)
class CheckpointEncoder:
    """Encode with PyTorch, a batch at a time."""

    space: EmbeddingSpace
    encoder: str
    preprocess: Preprocess
    embedder: Embedder
    role: str
    averaging: Averaging = "none"

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order; unreadable ones are set aside."""
        if self.averaging == "none":
            return embed_files(files, self.preprocess, self.embedder)

        def read(position: int) -> Pixels:
            picture = decode_image(files[position], target=self.preprocess)
            looks = look(picture, self.averaging)
            return np.stack([prepare(each, self.preprocess) for each in looks])

        return embed_looks(files, read, self.embedder, count_looks(self.averaging), average)


@dataclasses.dataclass(frozen=True)
class ExportedEncoder:
    """Encode with ONNX Runtime, one picture a core."""

    space: EmbeddingSpace
    encoder: str
    runtime: QueryEncoder
    averaging: Averaging = "none"

    @property
    def role(self) -> str:
        """Return what it was trained as: teacher or student."""
        return self.runtime.contract.role

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order; unreadable ones are set aside."""
        with ThreadPoolExecutor(count_cores()) as pool:
            for first in range(0, len(files), _CHUNK):
                chunk = range(first, min(first + _CHUNK, len(files)))
                answers = pool.map(self._encode, [files[position] for position in chunk])
                positions, vectors, quarantined = set_bad_aside(files, chunk, answers)
                stacked = np.stack(vectors) if vectors else NO_VECTORS
                yield EmbeddedBatch(positions, stacked, quarantined)

    def _encode(self, file: Source) -> Vectors | BadImageError:
        try:
            picture = self.runtime.decode(file)
        except BadImageError as error:
            return error
        looks = [self.runtime.embed(each) for each in look(picture, self.averaging)]
        return average(np.stack(looks)[None])[0] if len(looks) > 1 else looks[0]
