"""Encode database images: with a checkpoint (torch) or an exported encoder (no torch)."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from encoder.embed import (
    NO_VECTORS,
    EmbeddedBatch,
    Embedder,
    Vectors,
    embed_files,
    set_bad_aside,
)
from encoder.errors import BadImageError, require_extra
from encoder.images import Source
from encoder.memory import count_cores
from encoder.preprocess import Preprocess
from encoder.space import EmbeddingSpace
from export.runtime import QueryEncoder

_CHUNK = 256


class DatabaseEncoder(Protocol):
    """Encode files into a space; `encoder` is the digest of weights, input and precision."""

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space written into."""

    @property
    def encoder(self) -> str:
        """Return the encoder digest."""

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order, a batch at a time."""


def open_encoder(path: Path, *, precision: str = "auto") -> DatabaseEncoder:
    """Open a checkpoint folder, an encoder file or a bundle.

    Raises:
        PocketlensError: when the path is none of these, or torch is needed and missing.
    """
    if (path / "model.safetensors").is_file():
        require_extra("torch", f"{path} (a PyTorch checkpoint)")
        return _open_checkpoint(path, precision)
    # One thread a picture on every core needs no hand-over between cores.
    runtime = QueryEncoder(path, threads=1)
    runtime.contract.require_whole(str(runtime.file))
    return ExportedEncoder(runtime.contract.space, runtime.contract.encoder, runtime)


def _open_checkpoint(path: Path, precision: str) -> DatabaseEncoder:
    from encoder.checkpoint import load_checkpoint
    from encoder.inference import prepare_inference

    checkpoint = load_checkpoint(path)
    inference = prepare_inference(checkpoint, precision=precision)
    return CheckpointEncoder(
        space=checkpoint.space,
        encoder=checkpoint.encoder_at(inference.precision),
        preprocess=checkpoint.preprocess,
        embedder=inference.embedder,
    )


@dataclasses.dataclass(frozen=True)
class CheckpointEncoder:
    """Encode with PyTorch, a batch at a time."""

    space: EmbeddingSpace
    encoder: str
    preprocess: Preprocess
    embedder: Embedder

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order; unreadable ones are set aside."""
        return embed_files(files, self.preprocess, self.embedder)


@dataclasses.dataclass(frozen=True)
class ExportedEncoder:
    """Encode with ONNX Runtime, one picture a core."""

    space: EmbeddingSpace
    encoder: str
    runtime: QueryEncoder

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
            return self.runtime.encode(file)
        except BadImageError as error:
            return error
