"""Wall seconds of a call."""

import time
from collections.abc import Callable


def seconds(run: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
