"""The state of a training that is not finished, beside its output: `NAME.state/`.

`state.json` is the commit point; it names the file of the tensors. A kill at any moment leaves the
state before or the one after. The folder goes when the training is finished.
"""

import contextlib
import dataclasses
import math
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoder.atomic import new_file, write_json
from encoder.checkpoint import library_versions
from encoder.digests import digest_json
from encoder.errors import PocketlensError, first_line
from encoder.json_files import read_json
from encoder.optimisation import Optimisers

FORMAT = 1
_STATE, _SUFFIX = "state.json", ".state"
_LOG = "metrics.jsonl"
# What trainings of several leave there: folds, branches of a master, students and their views.
_TRAINED_THERE = ("fold-*", "branch-*", "student-*", "views", "views.state")
# What `view_writing` leaves there.
_MADE_OF_VIEWS = ("made.json", "positions.npy", "views.bin", "features.f16", "whole.f16")


@dataclasses.dataclass
class Progress:
    """Hold how far a training is, its best judgement, and how many since were no better."""

    step: int = 0
    best: float = -math.inf
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
    """Return a digest of these facts and the libraries' versions: all that a training follows."""
    return digest_json({**facts, "versions": library_versions()})


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
    except BaseException as error:
        kept = (folder.path / _STATE).exists()
        if not kept:
            _clear(folder.path)
        # Once, where the state is of one of several.
        if isinstance(error, KeyboardInterrupt) and folder.path.parent.suffix != _SUFFIX:
            told = f"with --resume it goes on from {folder.path}" if kept else "nothing is kept yet"
            print(f"the training was stopped; {told}", file=sys.stderr)
        raise
    _clear(folder.path)


def drop_state(output: Path) -> None:
    """Remove the state of an output that is finished."""
    _clear(_beside(output))


def has_state(output: Path) -> bool:
    """Return whether a training of this output was stopped and can go on."""
    return (_beside(output) / _STATE).exists()


def is_begun(folder: StateFolder) -> bool:
    """Return whether there is a state to go on from."""
    return (folder.path / _STATE).exists()


def mark_started(folder: StateFolder) -> None:
    """Make the folder one to go on from, for work whose parts have states of their own."""
    write_json(folder.path / _STATE, {"format": FORMAT, "identity": folder.identity})


def _beside(output: Path) -> Path:
    return output.with_name(output.name + _SUFFIX)


def _prepare(output: Path, identity: str, *, resume: bool, overwrite: bool) -> StateFolder:
    folder = StateFolder(_beside(output), identity)
    path = folder.path
    if (path / _STATE).exists() and resume:
        found = read_json(path / _STATE)
        if found.get("format") != FORMAT or found.get("identity") != identity:
            raise PocketlensError(
                f"{path}: a stopped training of other data, options or version; give the same "
                "ones to go on, or --overwrite without --resume to begin anew"
            )
        _remove(path, [entry for entry in path.iterdir() if _is_scratch(entry)])
    elif (path / _STATE).exists() and not overwrite:
        raise PocketlensError(
            f"{path}: a stopped training lies here; go on with it with --resume, or begin anew "
            "with --overwrite"
        )
    elif path.exists() and not _may_be_cleared(path, overwrite=overwrite):
        raise PocketlensError(f"{path}: is in the way of the training's state; move it")
    else:
        _clear(path)
    path.mkdir(parents=True, exist_ok=True)
    return folder


def _may_be_cleared(path: Path, *, overwrite: bool) -> bool:
    """Return whether nothing is a user's here, as finished work is without `state.json`."""
    if not path.is_dir() or not all(map(_is_ours, path.iterdir())):
        return False
    return overwrite or (path / _STATE).exists() or not any(path.glob("*/*.json"))


def _is_scratch(entry: Path) -> bool:
    """Return whether a kill left this while it was written, by us or by safetensors."""
    return fnmatch(entry.name, ".*.partial") or fnmatch(entry.name, ".tmp*")


def _is_ours(entry: Path) -> bool:
    """Return whether a training, one of several, or a making of views wrote this."""
    names = (_STATE, _LOG, "step-*.safetensors", *_TRAINED_THERE, *_MADE_OF_VIEWS)
    return _is_scratch(entry) or any(fnmatch(entry.name, name) for name in names)


def _clear(path: Path) -> None:
    """Remove what is ours from a state folder, its commit point first, and the folder if empty."""
    if path.is_dir():
        (path / _STATE).unlink(missing_ok=True)
        _remove(path, [entry for entry in path.iterdir() if _is_ours(entry)])
        with contextlib.suppress(OSError):
            path.rmdir()


def _remove(path: Path, entries: list[Path]) -> None:
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def save_state(folder: StateFolder, progress: Progress, tensors: dict[str, Tensor]) -> None:
    """Write the state, then drop the tensors of the one before."""
    name = f"step-{progress.step:08d}.safetensors"
    try:
        with new_file(folder.path / name) as scratch:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, scratch)
    except SafetensorError as error:
        kept = "; the state before is kept: --resume goes on from it"
        raise PocketlensError(
            f"{folder.path}: the training's state cannot be written ({first_line(error)})"
            + (kept if (folder.path / _STATE).exists() else "")
        ) from None
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
        place = getattr(error, "filename", None) or folder.path
        raise PocketlensError(
            f"{place}: the stopped training is damaged ({first_line(error)}); begin anew "
            "with --overwrite"
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
            elif key != "step" and tensor.shape == (weight := weights[int(index)]).shape:
                # Laid out in memory as the weight is.
                value = torch.empty_like(weight, requires_grad=False).copy_(tensor)
            states.setdefault(int(index), {})[key] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": states, "param_groups": groups})
    for _ in range(step):
        optimisers.advance()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
