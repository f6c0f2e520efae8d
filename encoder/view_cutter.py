"""Cut batches of views from decoded images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.image_cache import DecodedImages
from encoder.inference import Inference, use_one_core
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess
from encoder.views import Views, needs_partner, render_view

# Shares of a batch for each core.
_SHARES = 4


class ViewCutter:
    """Cut batches of views from decoded images on all cores.

    Views are resized as the `preprocess` does. On a CPU the network uses the same cores, so cutting
    and training alternate.
    """

    def __init__(self, images: DecodedImages, preprocess: Preprocess) -> None:
        self.images, self._resampling = images, preprocess.resampling
        self._cores = count_cores()
        self._pool = ThreadPoolExecutor(self._cores, initializer=use_one_core)

    def cut(
        self, positions: NDArray[np.int64], views: Views, size: int, device: torch.device
    ) -> Tensor:
        """Return the views of the images at these positions: uint8 `[n, size, size, 3]`.

        A view's partner is a position among the images' readable ones.
        """
        cuts = np.empty((len(views), size, size, 3), np.uint8)

        def fill(some: NDArray[np.int64]) -> None:
            for at in some:
                cuts[at] = self.cut_one(positions[at], views[at], size)

        # Shares of some views each: a task for each one costs more in handing over than it evens
        # out, as part of the work (the colours) holds Python's lock.
        shares = np.array_split(np.arange(len(views)), _SHARES * self._cores)
        list(self._pool.map(fill, shares))
        return torch.from_numpy(cuts).to(device, non_blocking=True)

    def look(self, guide: Inference, pixels: Tensor) -> Tensor:
        """Return a teacher's features of views: on a CPU each core looks at a part of them."""
        if guide.device.type != "cpu":
            return guide.extract_features(pixels)
        parts = pixels.tensor_split(min(self._cores, len(pixels)))
        return torch.cat(list(self._pool.map(guide.extract_features, parts)))

    def cut_one(self, position: int, view: np.void, size: int) -> Pixels:
        """Return one view: uint8 `[size, size, 3]`."""
        mixed = needs_partner(view)
        partner = self.images[int(self.images.positions[view["partner"]])] if mixed else None
        return render_view(self.images[position], partner, view, size, self._resampling)

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown()
