"""What the terminal shows of a long run: images a second, time left, what was set aside."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol


class Advance(Protocol):
    """Tell the bar that `count` more images are done, with figures to show beside it."""

    def __call__(self, count: int, **figures: float) -> None:
        """Advance the bar."""


@contextlib.contextmanager
def track(description: str, total: int) -> Iterator[Advance]:
    """Show a bar on standard error; where that is no terminal, a line every ten seconds."""
    if sys.stderr.isatty():
        yield from _bar(description, total)
    else:
        yield _lines(description, total)


def report_set_aside(reasons: Iterable[str]) -> None:
    """Name on standard error what could not be used, a line each."""
    for reason in reasons:
        print(f"set aside: {reason}", file=sys.stderr)


def report_student(path: object, role: str) -> None:
    """Say on standard error that a student stands where a database's encoder belongs."""
    if role == "student":
        print(
            f"note: {path} is a student, in the place of a database's encoder: its teacher",
            file=sys.stderr,
        )


def _figures(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in figures.items())


def _bar(description: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, rate="", figures="")
        started, done = time.monotonic(), 0

        def advance(count: int, **figures: float) -> None:
            nonlocal done
            done += count
            rate = f"{done / max(time.monotonic() - started, 1e-9):.0f}/s"
            progress.update(task, advance=count, rate=rate, figures=_figures(figures))

        yield advance


def _lines(description: str, total: int, every: float = 10.0) -> Advance:
    started = last = time.monotonic()
    done = 0

    def advance(count: int, **figures: float) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last < every and done < total:
            return
        last = now
        rate = done / max(now - started, 1e-9)
        left = max(total - done, 0) / max(rate, 1e-9)
        print(
            f"{description}: {done}/{total}, {rate:.0f}/s, {left:.0f} s left {_figures(figures)}",
            file=sys.stderr,
            flush=True,
        )

    return advance
