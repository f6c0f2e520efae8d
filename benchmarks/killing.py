"""Work in processes of its own, some of them killed at a random moment."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

_CONTEXT = multiprocessing.get_context("fork")


def run_apart(target: Callable[..., None], *given: Any) -> None:
    """Run a function in a process of its own, to its end."""
    process = _CONTEXT.Process(target=target, args=given)
    process.start()
    process.join()


def kill_within(
    seconds: float, chance: random.Random, target: Callable[..., None], *given: Any
) -> int | None:
    """Run a function in a process of its own, kill it in that time; return the exit code."""
    process = _CONTEXT.Process(target=target, args=given)
    process.start()
    time.sleep(chance.uniform(0, seconds))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode
