"""A small network of two layers that numpy computes: a server applies it without torch."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Perceptron:
    """Hold weights of inputs `[n, in]` → rectified `[n, hidden]` → outputs `[n, out]`."""

    first: Vectors
    first_bias: Vectors
    second: Vectors
    second_bias: Vectors

    def __post_init__(self) -> None:
        hidden, inputs = self.first.shape
        shapes = (hidden,), (len(self.second), hidden), (len(self.second),)
        given = self.first_bias.shape, self.second.shape, self.second_bias.shape
        if given != shapes or not inputs:
            raise ValueError(f"layers of shapes {self.first.shape} and {self.second.shape}")

    def apply(self, inputs: Vectors) -> Vectors:
        """Return the outputs `[n, out]` of inputs `[n, in]`."""
        hidden = np.maximum(inputs @ self.first.T + self.first_bias, 0)
        return np.asarray(hidden @ self.second.T + self.second_bias, np.float32)

    def to_tensors(self, name: str) -> dict[str, Vectors]:
        """Return the weights by name, to be stored."""
        parts = dataclasses.asdict(self).items()
        return {f"{name}.{part}": np.ascontiguousarray(value, np.float32) for part, value in parts}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Vectors], name: str) -> "Perceptron":
        """Read the weights of this name.

        Raises:
            KeyError, ValueError: when some are missing, or do not fit together.
        """
        return cls(
            **{part.name: tensors[f"{name}.{part.name}"] for part in dataclasses.fields(cls)}
        )
