"""Run a checkpoint's network at its fastest: folded, channels-last, bfloat16 where it pays."""

import dataclasses
from typing import Literal, get_args

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from encoder.checkpoint import Checkpoint
from encoder.embed import Embedder, Vectors
from encoder.errors import PocketlensError
from encoder.memory import count_cores, has_fast_bfloat16
from encoder.model import Architecture, EmbeddingModel, fold_for_inference
from encoder.preprocess import Pixels, Preprocess

Precision = Literal["fp32", "bf16"]
# Sixteen images of 224 px: measured on two cores, chunks of 8, 16, 32 and 64 took 456, 376, 493
# and 518 ms for 64 images; larger ones no longer fit the processor's cache.
_CACHED_PIXELS = 16 * 224 * 224


def choose_device() -> torch.device:
    """Return the accelerator where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(requested: str) -> Precision:
    """Resolve `auto`: bfloat16 where the hardware multiplies it, else fp32."""
    if requested == "auto":
        return "bf16" if torch.cuda.is_available() or has_fast_bfloat16() else "fp32"
    if requested not in get_args(Precision):
        raise PocketlensError(f"precision {requested!r} is not auto, fp32 or bf16")
    return requested  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Inference:
    """Hold a folded network on its device, ready to map pixels to unit vectors."""

    network: EmbeddingModel
    preprocess: Preprocess
    precision: Precision
    device: torch.device

    @property
    def embedder(self) -> Embedder:
        """Return how batches of files are embedded: every CPU core its own, or an accelerator."""
        if self.device.type == "cpu":
            return Embedder(self.embed_images, use_one_core=use_one_core)
        return Embedder(self.embed_images, batches_ahead=2)

    @property
    def feature_extractor(self) -> Embedder:
        """Return how batches of files are mapped to the features before the projection."""
        return dataclasses.replace(self.embedder, embed=self._extract_images)

    def _extract_images(self, images: Pixels) -> Vectors:
        with torch.inference_mode():
            pixels = torch.from_numpy(images).to(self.device)
            features: Vectors = self.extract_features(pixels).cpu().numpy()
            return features

    def embed_images(self, images: Pixels) -> Vectors:
        """Embed uint8 `[n, size, size, 3]` at this preprocessing's size to float32 `[n, dim]`."""
        with torch.inference_mode():
            return self.embed_pixels(torch.from_numpy(images).to(self.device)).cpu().numpy()

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Embed uint8 `[n, h, w, 3]` to float32 `[n, dim]`."""
        with torch.inference_mode():
            return self.network.project(self.extract_features(pixels))

    def extract_features(self, pixels: Tensor) -> Tensor:
        """Map uint8 `[n, h, w, 3]` to the features before the projection, float32 `[n, width]`.

        Made in inference mode: clone them before autograd saves them.
        """
        count = len(pixels)
        if self.device.type == "cpu":
            count = max(1, _CACHED_PIXELS // (pixels.shape[1] * pixels.shape[2]))
        with torch.inference_mode():
            return torch.cat([self._extract_chunk(chunk) for chunk in torch.split(pixels, count)])

    def _extract_chunk(self, pixels: Tensor) -> Tensor:
        images = normalise_pixels(pixels, self.preprocess)
        return self.network.extract_features(images, bfloat16=self.precision == "bf16")


def normalise_pixels(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Normalise uint8 `[n, h, w, 3]` to float32 `[n, 3, h, w]`, channels last in memory."""
    mean = torch.tensor(preprocess.mean, device=pixels.device)
    std = torch.tensor(preprocess.std, device=pixels.device)
    return pixels.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def prepare_inference(checkpoint: Checkpoint, *, precision: str = "fp32") -> Inference:
    """Fold the checkpoint's network and place it on the device."""
    return prepare_network(
        checkpoint.model, checkpoint.architecture, checkpoint.preprocess, precision=precision
    )


def prepare_network(
    model: EmbeddingModel, architecture: Architecture, preprocess: Preprocess, *, precision: str
) -> Inference:
    """Fold a copy of a network, as it is now, and place it on the device."""
    device = choose_device()
    if device.type == "cpu":
        torch.set_num_threads(count_cores())
    network = fold_for_inference(model, architecture)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Inference(network, preprocess, choose_precision(precision), device)


def use_one_core() -> None:
    """Keep what this thread asks of torch to its own core; other threads are as before."""
    use_cores(1)


def use_cores(count: int) -> None:
    """Keep what this thread asks of torch to so many cores; other threads are as before."""
    torch.get_num_threads()  # a thread's number is set at its first use of torch: now
    threadpool_limits(count, user_api="openmp")
