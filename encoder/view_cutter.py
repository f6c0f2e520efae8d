"""Cut views from decoded images."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.image_cache import DecodedImages
from encoder.preprocess import Pixels, Preprocess
from encoder.views import Views, needs_partner, render_view

# As many as a network looks at together: a smaller part costs more in handing over than it evens
# out.
_VIEWS_A_PART = 16


@dataclasses.dataclass(frozen=True)
class ViewCutter:
    """Cut views from decoded images, resized as the `preprocess` does."""

    images: DecodedImages
    preprocess: Preprocess

    def cut(self, positions: NDArray[np.int64], views: Views, size: int) -> Tensor:
        """Return the views of the images at these positions: uint8 `[n, size, size, 3]`.

        A view's partner is a position among the images' readable ones.
        """
        cuts = np.empty((len(views), size, size, 3), np.uint8)
        for at, position in enumerate(positions):
            cuts[at] = self.cut_one(int(position), views[at], size)
        return torch.from_numpy(cuts)

    def cut_one(self, position: int, view: np.void, size: int) -> Pixels:
        """Return one view: uint8 `[size, size, 3]`."""
        mixed = needs_partner(view)
        partner = self.images[int(self.images.positions[view["partner"]])] if mixed else None
        return render_view(self.images[position], partner, view, size, self.preprocess.resampling)


def divide_views(count: int) -> list[slice]:
    """Return the parts in which so many views are shared out to the cores."""
    return [slice(at, at + _VIEWS_A_PART) for at in range(0, count, _VIEWS_A_PART)]
