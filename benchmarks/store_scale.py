"""A view store of very many views: written, opened and drawn from at random, in constant memory."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import seconds

from encoder.training_state import open_state
from encoder.view_store import (
    FEATURES,
    VIEWS,
    WHOLE,
    StoreLayout,
    ViewStore,
    open_store,
    verify_blocks,
)
from encoder.view_writing import write_store
from encoder.views import QUERY_VIEWS, sample_views

_VIEWS, _WIDTH, _BLOCK = 16, 1280, 128
# What a step of training draws: two views of each of 32 images.
_IMAGES, _DRAWN, _STEPS = 32, 2, 2000


def measure_scale(work: Path, views: int) -> dict[str, float]:
    """Write random features of so many views as `make-views` does; check them; draw from them.

    Memory is the process's own; pages of the mapped files are the system's to take back.
    """
    layout = StoreLayout(views // _VIEWS, _VIEWS, _WIDTH, _BLOCK)
    folder = work / "views"
    with _PeakMemory() as peak:
        before = peak.now()
        writing = seconds(lambda: _write(folder, layout))
        opened: list[ViewStore] = []
        opening = seconds(lambda: opened.append(open_store(folder)))
        checking = seconds(lambda: verify_blocks(opened[0]))
        drawing = seconds(lambda: _draw(opened[0]))
    return {
        "store.views": float(layout.images * layout.views),
        "store.gb": sum(layout.sizes(layout.images).values()) / 1e9,
        "store.write_s": writing,
        "store.open_ms": 1e3 * opening,
        "store.check_s": checking,
        "store.draw_ms_a_step": 1e3 * drawing / _STEPS,
        "store.peak_gb": peak.most / 1e9,
        "store.grown_gb": (peak.most - before) / 1e9,
    }


def _write(folder: Path, layout: StoreLayout) -> None:
    def make(number: int) -> dict[str, NDArray[Any]]:
        span, rng = layout.span(number), np.random.default_rng([0, number])
        count = len(span) * layout.views
        drawn = sample_views(QUERY_VIEWS, np.ones(count), rng, population=layout.images)
        features = rng.standard_normal((count, layout.width), np.float32)
        whole = rng.standard_normal((len(span), layout.width), np.float32)
        return {VIEWS: drawn, FEATURES: features.astype("<f2"), WHOLE: whole.astype("<f2")}

    facts = {
        "recipe": {**vars(QUERY_VIEWS)},
        "precision": "fp32",
        "seed": 0,
        "teacher": {"encoder": "0" * 16, "space": "0" * 16, "size": 224},
        "data": {"fingerprint": "random"},
    }
    with open_state(folder, "random", resume=False, overwrite=False) as state:
        positions = np.arange(layout.images)
        write_store(folder, layout, positions, make, state, overwrite=False, **facts)


def _draw(store: ViewStore) -> None:
    rng = np.random.default_rng(0)
    for _ in range(_STEPS):
        _, features = store.take(rng.integers(store.layout.images, size=_IMAGES), _DRAWN, rng)
        assert np.isfinite(features).all()


class _PeakMemory:
    """Watch how many bytes of its own the process holds, ten times a second."""

    def __init__(self) -> None:
        self.most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    @staticmethod
    def now() -> int:
        """Return the bytes held now, without mapped files."""
        lines = Path("/proc/self/status").read_text().splitlines()
        found = next(line for line in lines if line.startswith("RssAnon"))
        return 1024 * int(found.split()[1])

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.most = max(self.most, self.now())
            time.sleep(0.1)
