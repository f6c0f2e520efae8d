"""The state of a training that is not finished, beside its output: `NAME.state/`.

`state.json` is the commit point; it names the file of the tensors. A kill at any moment leaves the
state before or the one after. The folder goes when the training is finished.
"""

import contextlib
import dataclasses
import hashlib
import math
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoder.atomic import new_file, read_json, write_json
from encoder.errors import PocketlensError
from encoder.optimisation import Optimisers
from encoder.space import canonical_json

FORMAT = 1
_STATE = "state.json"
_LOG = "metrics.jsonl"


@dataclasses.dataclass
class Progress:
    """Hold how far a training is and which judgement was the best."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    worse: int = 0
    log_bytes: int = 0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class StateFolder:
    """Name the folder, and the digest of what is trained: another training's state is refused."""

    path: Path
    identity: str

    @property
    def log(self) -> Path:
        """Return the file of the metric log."""
        return self.path / _LOG


def identify(**facts: Any) -> str:
    """Return a digest of all that decides how a training goes."""
    return hashlib.sha256(canonical_json(facts)).hexdigest()


@contextlib.contextmanager
def open_state(
    output: Path, identity: str, *, resume: bool, overwrite: bool
) -> Iterator[StateFolder]:
    """Yield the state folder beside an output; it stays when the block is left by an error.

    Raises:
        PocketlensError: when a stopped training lies there and neither flag says what to do with
            it, or when it is to go on and is another training.
    """
    folder = _prepare(output, identity, resume=resume, overwrite=overwrite)
    try:
        yield folder
    except BaseException:
        if not (folder.path / _STATE).exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    # The commit point first: what is left of a kill here is no state.
    (folder.path / _STATE).unlink(missing_ok=True)
    shutil.rmtree(folder.path, ignore_errors=True)


def mark_started(folder: StateFolder) -> None:
    """Make the folder one to go on from, for work whose parts have states of their own."""
    write_json(folder.path / _STATE, {"format": FORMAT, "identity": folder.identity})


def _prepare(output: Path, identity: str, *, resume: bool, overwrite: bool) -> StateFolder:
    folder = StateFolder(output.with_name(f"{output.name}.state"), identity)
    if (folder.path / _STATE).exists() and resume:
        found = read_json(folder.path / _STATE)
        if found.get("format") != FORMAT or found.get("identity") != identity:
            raise PocketlensError(
                f"{folder.path}: a stopped training of other data, options or version; give the "
                "same ones to go on, or --overwrite to begin anew"
            )
    elif (folder.path / _STATE).exists() and not overwrite:
        raise PocketlensError(
            f"{folder.path}: a stopped training lies here; go on with it with --resume, or begin "
            "anew with --overwrite"
        )
    elif folder.path.exists() and not _is_ours(folder.path):
        raise PocketlensError(f"{folder.path}: is in the way of the training's state; move it")
    else:
        shutil.rmtree(folder.path, ignore_errors=True)
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def _is_ours(path: Path) -> bool:
    """Return whether a folder holds nothing but what this module writes."""
    return path.is_dir() and all(
        entry.is_file()
        and (entry.name in (_STATE, _LOG) or fnmatch(entry.name, "*step-*.safetensors*"))
        for entry in path.iterdir()
    )


def save_state(folder: StateFolder, progress: Progress, tensors: dict[str, Tensor]) -> None:
    """Write the state, then drop the tensors of the one before."""
    name = f"step-{progress.step:08d}.safetensors"
    with new_file(folder.path / name) as scratch:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, scratch)
    # JSON has no infinity.
    numbers = {k: v for k, v in dataclasses.asdict(progress).items() if v != -math.inf}
    described = {"format": FORMAT, "identity": folder.identity, "tensors": name, **numbers}
    write_json(folder.path / _STATE, described)
    for old in folder.path.glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_state(folder: StateFolder) -> tuple[Progress, dict[str, Tensor]] | None:
    """Read the state; None where there is none yet.

    Raises:
        PocketlensError: when it is damaged.
    """
    if not (folder.path / _STATE).exists():
        return None
    found = read_json(folder.path / _STATE)
    try:
        tensors = load_file(folder.path / found["tensors"])
        names = [field.name for field in dataclasses.fields(Progress)]
        return Progress(**{name: found[name] for name in names if name in found}), tensors
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise PocketlensError(
            f"{folder.path}: the stopped training is damaged ({error}); begin anew with --overwrite"
        ) from None


def gather_tensors(modules: dict[str, nn.Module], optimisers: Optimisers) -> dict[str, Tensor]:
    """Return all that a training must know to go on, under flat names."""
    found = {
        f"{name}/{key}": value.detach().cpu()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for number, optimiser in enumerate(optimisers.optimisers):
        for index, values in optimiser.state_dict()["state"].items():
            for key, value in values.items():
                # SparseAdam counts its steps in a plain number.
                tensor = value if isinstance(value, Tensor) else torch.tensor(value)
                found[f"optimiser{number}/{index}/{key}"] = tensor.detach().cpu()
    return found


def scatter_tensors(
    tensors: dict[str, Tensor], modules: dict[str, nn.Module], optimisers: Optimisers, step: int
) -> None:
    """Put back what was gathered after so many steps; the schedules are run up to there."""
    for name, module in modules.items():
        module.load_state_dict(_under(f"{name}/", tensors))
    for number, optimiser in enumerate(optimisers.optimisers):
        states: dict[int, dict[str, Any]] = {}
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        for place, tensor in _under(f"optimiser{number}/", tensors).items():
            index, _, key = place.partition("/")
            value: Tensor | int = tensor
            if key == "step" and isinstance(optimiser, torch.optim.SparseAdam):
                value = int(tensor)
            elif tensor.shape == (weight := weights[int(index)]).shape:
                # Laid out in memory as the weight is.
                value = torch.empty_like(weight, requires_grad=False).copy_(tensor)
            states.setdefault(int(index), {})[key] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states, "param_groups": groups})
    for _ in range(step):
        optimisers.advance()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
