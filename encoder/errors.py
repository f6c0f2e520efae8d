"""Errors that a user can mend: one clear line each, exit code 2."""

import importlib.util


class PocketlensError(Exception):
    """Say in one line what is wrong with which file, field or flag, and what to do."""


class BadImageError(PocketlensError):
    """Say why one image cannot be used; bulk jobs quarantine it and go on."""


def first_line(error: Exception) -> str:
    """Return what another library's error says, short enough for one line."""
    if isinstance(error, OSError) and error.strerror:
        # Without the number and the file's name, which the message begins with.
        return error.strerror
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__


_EXTRAS = {
    "torch": ("torch", "timm", "safetensors"),
    "train": ("torch", "timm", "pytorch_metric_learning"),
    "export": ("torch", "timm", "onnx", "onnxscript"),
    "server": ("faiss",),
    "serve": ("faiss", "fastapi", "uvicorn", "prometheus_client"),
    "parquet": ("pyarrow",),
    "matlab": ("scipy",),
    "clusters": ("sklearn",),
    "tensorboard": ("tensorboard",),
}
# The extra of pyproject.toml that brings a set of packages, where its name is another.
_NAMED = {
    "torch": "export",
    "clusters": "train",
    "parquet": "data",
    "matlab": "data",
    "serve": "server",
}


def require_extra(extra: str, purpose: str) -> None:
    """Raise `PocketlensError` naming the extra when one of its packages is not installed."""
    for package in _EXTRAS[extra]:
        if importlib.util.find_spec(package) is None:
            named = _NAMED.get(extra, extra)
            raise PocketlensError(
                f"{purpose} needs the package {package}: pip install 'pocketlens[{named}]'"
            )
