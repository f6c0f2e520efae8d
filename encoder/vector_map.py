"""A map from the vectors of one space to those of another; numpy alone applies it."""

import dataclasses

import numpy as np

from encoder.perceptron import Perceptron, Vectors

_ROWS = 1 << 14


@dataclasses.dataclass(frozen=True)
class VectorMap:
    """Hold a matrix `[to, from]`, a bias `[to]`, and perhaps a network that adds to both."""

    matrix: Vectors
    bias: Vectors
    residual: Perceptron | None = None

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.bias.shape != (len(self.matrix),):
            raise ValueError(f"a matrix {self.matrix.shape} with a bias {self.bias.shape}")
        if self.residual and (
            self.residual.first.shape[1] != self.matrix.shape[1]
            or len(self.residual.second) != len(self.matrix)
        ):
            raise ValueError("the network does not fit the matrix")

    @property
    def dims(self) -> tuple[int, int]:
        """Return the dimensions of what it maps from and to."""
        to, origin = self.matrix.shape
        return origin, to

    def apply(self, vectors: Vectors) -> Vectors:
        """Map vectors `[n, from]` to unit vectors `[n, to]`; some rows at a time."""
        found = np.empty((len(vectors), len(self.matrix)), np.float32)
        for start in range(0, len(vectors), _ROWS):
            some = np.asarray(vectors[start : start + _ROWS], np.float32)
            mapped = some @ self.matrix.T + self.bias
            if self.residual:
                mapped += self.residual.apply(some)
            length = np.linalg.norm(mapped, axis=1, keepdims=True)
            found[start : start + _ROWS] = mapped / np.maximum(length, 1e-12)
        return found

    def to_tensors(self) -> dict[str, Vectors]:
        """Return the weights by name, to be stored."""
        plain = {"matrix": self.matrix, "bias": self.bias}
        stored = {name: np.ascontiguousarray(value, np.float32) for name, value in plain.items()}
        return stored | (self.residual.to_tensors("residual") if self.residual else {})

    @classmethod
    def from_tensors(cls, tensors: dict[str, Vectors]) -> "VectorMap":
        """Read what `to_tensors` returned.

        Raises:
            KeyError, ValueError: when weights are missing, or do not fit together.
        """
        there = any(name.startswith("residual.") for name in tensors)
        residual = Perceptron.from_tensors(tensors, "residual") if there else None
        return cls(tensors["matrix"], tensors["bias"], residual)
