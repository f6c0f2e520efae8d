"""Show a training in TensorBoard while it runs: the figures of its log, as scalars."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_tensorboard(folder: Path, *, step: int) -> "SummaryWriter":
    """Return a writer of events into a folder, made if need be; what it holds stays.

    `step` is how far the training is: what an earlier run showed beyond is hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
