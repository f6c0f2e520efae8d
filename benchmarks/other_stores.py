"""View stores that no command makes: for what the coupled views are compared with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.training_state import identify, open_state
from encoder.view_making import StoreRecipe, make_views
from encoder.view_store import FEATURES, MANIFEST, VIEWS, WHOLE, open_store
from encoder.view_writing import write_store
from encoder.views import ViewRecipe

# Every view is the whole picture as it is.
WHOLE_PICTURE = ViewRecipe((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def show_whole(teacher: Checkpoint, table: ImageTable, output: Path) -> Path:
    """Make a store of the whole pictures, twice each."""
    if not output.exists():
        recipe = StoreRecipe(2, WHOLE_PICTURE, with_validation=True)
        make_views(teacher, table, recipe, output, resume=True)
    return output


def uncouple(views: Path, output: Path) -> Path:
    """Make a store that pairs each view with what the teacher saw in the image's next view."""
    if output.exists():
        return output
    shown = open_store(views)
    manifest: dict[str, Any] = json.loads((views / MANIFEST).read_text())
    kept = {key: manifest[key] for key in ("recipe", "precision", "seed", "teacher", "data")}

    def make(number: int) -> dict[str, NDArray[Any]]:
        span = shown.layout.span(number)
        rows = slice(span.start, span.stop)
        return {
            VIEWS: shown.views[rows].ravel(),
            FEATURES: np.roll(shown.features[rows], -1, axis=1),
            WHOLE: shown.whole[rows],
        }

    identity = identify(views=shown.manifest.identity, uncoupled=True)
    with open_state(output, identity, resume=True, overwrite=False) as state:
        write_store(output, shown.layout, shown.positions, make, state, overwrite=False, **kept)
    return output
