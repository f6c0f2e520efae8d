"""Typed values out of a JSON file; what is wrong is named by file and field."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Self

from encoder.errors import PocketlensError

_SHOWN = 40
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Field:
    """Hold a value of a JSON file and the way to it: `rows[0].figures.r1`."""

    value: Any
    file: str
    way: str = ""

    def fault(self, reason: str) -> PocketlensError:
        """Return the error that names this field."""
        where = f"{self.file}: {self.way}" if self.way else self.file
        return PocketlensError(f"{where}: {reason}")

    def has(self, name: str) -> bool:
        """Say whether the object has this member, and not as null."""
        return self._members().get(name) is not None

    def get(self, name: str) -> Self:
        """Return a member of an object, which must be there."""
        if not self.has(name):
            raise self._at(name, None).fault("is missing")
        return self._at(name, self._members()[name])

    def members(self) -> Iterator[tuple[str, Self]]:
        """Yield the name and value of each member of an object."""
        for name, value in self._members().items():
            yield name, self._at(name, value)

    def entries(self, name: str) -> list[Self]:
        """Return the entries of a list that is a member; none where it is not there."""
        if not self.has(name):
            return []
        field = self.get(name)
        if not isinstance(field.value, list):
            raise field._unlike("a list")
        return [
            dataclasses.replace(field, value=value, way=f"{field.way}[{number}]")
            for number, value in enumerate(field.value)
        ]

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self._unlike("text")
        return self.value

    def number(self) -> float:
        """Return a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self._unlike("a number")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self._unlike("a finite number")
        return value

    def number_between(self, low: float, high: float) -> float:
        """Return a number in the range, moved onto its ends where rounding left it outside."""
        value = self.number()
        if not low - _ROUNDING <= value <= high + _ROUNDING:
            raise self._unlike(f"a number from {low:g} to {high:g}")
        return min(max(value, low), high)

    def count(self) -> int:
        """Return a whole number from 0."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self._unlike("a whole number from 0")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self._unlike("true or false")
        return self.value

    def _members(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self._unlike("an object")
        return self.value

    def _at(self, name: str, value: object) -> Self:
        shown = name if name.isidentifier() else _shorten(repr(name))
        way = f"{self.way}.{shown}" if self.way else shown
        return dataclasses.replace(self, value=value, way=way)

    def _unlike(self, wanted: str) -> PocketlensError:
        return self.fault(f"must be {wanted}, not {_shorten(repr(self.value))}")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
