"""The embedding model: trunk → pooling → norm → projection → unit vector."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from encoder.backbones import DEFAULT_TRUNK, SideBySide, build_trunk
from encoder.errors import PocketlensError

Pooling = Literal["avg", "gem"]
BatchNorm = Literal["folded", "trained"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Name everything needed to build the model before its weights are loaded.

    `batch_norm` folded freezes the trunk's batch norms by folding them into the convolutions
    before them, as part of the architecture: a third faster to train on a CPU than norms that
    are trained, and better where batches are small. Trained keeps them. `bias` gives the projection
    one, so that it can take a mean off.
    """

    trunk: str = DEFAULT_TRUNK
    pooling: Pooling = "avg"
    dim: int = 512
    batch_norm: BatchNorm = "folded"
    bias: bool = False

    def __post_init__(self) -> None:
        for name, kind in (("pooling", Pooling), ("batch_norm", BatchNorm)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise PocketlensError(f"{name} {getattr(self, name)!r} is not one of {known}")
        if not 8 <= self.dim <= 4096:
            raise PocketlensError(f"dim {self.dim} is not between 8 and 4096")


class GeM(nn.Module):
    """Pool by a generalised mean with one learnt exponent (Radenović et al., 2018)."""

    def __init__(self, exponent: float = 3.0) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(exponent))
        self.least = 1e-6

    def forward(self, features: Tensor) -> Tensor:
        """Pool `[n, c, h, w]` to `[n, c]`."""
        powered = features.clamp(min=self.least).pow(self.exponent)
        return powered.mean(dim=(2, 3)).pow(1.0 / self.exponent)


class EmbeddingModel(nn.Module):
    """Map normalised images `[n, 3, h, w]` to unit vectors `[n, dim]`."""

    def __init__(self, architecture: Architecture, trunk: nn.Module | None = None) -> None:
        """Build the model; `trunk` is one with weights, not yet folded, where training starts."""
        super().__init__()
        built = trunk if trunk is not None else build_trunk(architecture.trunk)
        width: int = built.num_features  # type: ignore[assignment]
        if architecture.batch_norm == "folded":
            built = fold_batch_norm(built, architecture.trunk)
        self.trunk = built
        self.pool = GeM() if architecture.pooling == "gem" else None
        # Without affine: zero is then a meaningful threshold for sign codes (Zhai & Wu, §3).
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.projection = nn.Linear(width, architecture.dim, bias=architecture.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return L2-normalised embeddings."""
        return self.project(self.extract_features(images))

    def extract_features(self, images: Tensor, *, bfloat16: bool = False) -> Tensor:
        """Return what is projected `[n, width]`; the trunk computes in bfloat16 if asked to."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            features = self.trunk(images)
        return self.pool_features(features.float() if bfloat16 else features)

    def pool_features(self, features: Tensor) -> Tensor:
        """Pool the trunk's features `[n, width, h, w]` to `[n, width]`, mean 0 and variance 1 each.

        Apart from the trunk, because this part and the next are kept in fp32: normalised in
        bfloat16, vectors are off unit length by a quarter of a per cent.
        """
        pooled = features.mean(dim=(2, 3)) if self.pool is None else self.pool(features)
        normalised: Tensor = self.norm(pooled)
        return normalised

    def project(self, pooled: Tensor) -> Tensor:
        """Map pooled features `[n, width]` to unit vectors `[n, dim]`."""
        return functional.normalize(self.projection(pooled), dim=1)


def list_trunks(model: EmbeddingModel) -> list[Any]:
    """Return the networks that stand side by side in a model's trunk, or the only one."""
    return list(model.trunk.trunks) if isinstance(model.trunk, SideBySide) else [model.trunk]


def fold_batch_norm(trunk: nn.Module, name: str) -> nn.Module:
    """Return a copy of a trunk in eval mode with each batch norm folded into its convolution.

    Raises:
        PocketlensError: when the copy does not agree with the trunk (not laid out conv → norm).
    """
    plain = copy.deepcopy(trunk).eval()
    folded = copy.deepcopy(plain)
    with torch.no_grad():
        for conv, norm in list(_norm_pairs(folded)):
            before: Any = folded.get_submodule(conv)
            behind: Any = folded.get_submodule(norm)
            _replace(folded, conv, fuse_conv_bn_eval(before, behind))
            _replace(folded, norm, _activation(behind))
        probe = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
        expected, found = plain(probe).flatten(1), folded(probe).flatten(1)
        agrees = torch.allclose(
            found, expected, rtol=1e-3, atol=1e-3 * float(expected.std() + 1e-6)
        )
    if not agrees:
        raise PocketlensError(
            f"trunk {name!r}: its batch norms cannot be folded; take another, or "
            "--batch-norm trained where a teacher is trained"
        )
    return folded


def fold_for_inference(model: EmbeddingModel, architecture: Architecture) -> EmbeddingModel:
    """Return a copy in eval mode, its batch norms folded where they can be."""
    copied = copy.deepcopy(model).eval()
    if architecture.batch_norm == "trained":
        # A trunk that cannot be folded runs as it is, only slower.
        with contextlib.suppress(PocketlensError):
            copied.trunk = fold_batch_norm(copied.trunk.cpu(), architecture.trunk)
    return copied


def _norm_pairs(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of each convolution and the batch norm right behind it."""
    previous: tuple[str, nn.Module] | None = None
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if (
            isinstance(child, nn.BatchNorm2d)
            and previous is not None
            and isinstance(previous[1], nn.Conv2d)
            and previous[1].out_channels == child.num_features
        ):
            yield previous[0], path
            previous = None
            continue
        yield from _norm_pairs(child, f"{path}.")
        previous = (path, child)


def _replace(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def _activation(norm: Any) -> nn.Module:
    """Return what timm packs behind the norm (its activation), or nothing."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()
