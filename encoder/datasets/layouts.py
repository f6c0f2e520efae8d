"""The published sets that are known by the layout of their folder."""

from pathlib import Path

from encoder.datasets.cars196 import CARS196
from encoder.datasets.cub200 import CUB200
from encoder.datasets.inshop import INSHOP
from encoder.datasets.official import OfficialSet
from encoder.datasets.online_products import ONLINE_PRODUCTS
from encoder.errors import PocketlensError

OFFICIAL = (CUB200, CARS196, ONLINE_PRODUCTS, INSHOP)


def recognise_layout(folder: Path) -> OfficialSet | None:
    """Return the published set whose layout the folder has, if any."""
    return next((official for official in OFFICIAL if official.recognises(folder)), None)


def find_official(name: str) -> OfficialSet:
    """Return the published set of this name.

    Raises:
        PocketlensError: listing the names when there is no such set.
    """
    for official in OFFICIAL:
        if official.name == name:
            return official
    names = ", ".join(official.name for official in OFFICIAL)
    raise PocketlensError(f"{name}: no such set to download; choose one of {names}")
