"""Where the queue of students finds and leaves things, and how it encodes test images."""

import dataclasses
import shlex
from pathlib import Path

from command_queue import Place

from encoder.checkpoint import Checkpoint
from encoder.datasets.splits import known_split, read_table, split_classes
from encoder.datasets.table import ImageTable
from encoder.evaluate import encode_images
from encoder.evaluation.protocol import EncodedSet

STORED = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentPlace(Place):
    """Hold, too, where the recorded teachers and the weights of other architectures lie."""

    teachers: Path
    weights: Path

    def views(self, teacher: Path, data: Path, name: str, flags: str) -> Path:
        """Let a teacher look at views once."""
        return self.make(f"views/{name}", "make-views", teacher, data, flags=flags)

    def distil(self, teacher: Path, data: Path, name: str, flags: str, store: Path) -> Path:
        """Distil a student from views that are stored."""
        given = f"{flags} --store {shlex.quote(str(store))}"
        return self.make(name, "distill", teacher, data, flags=given)


def divide(data: Path, teacher: Checkpoint) -> ImageTable:
    """Return a set's images, divided as the teacher's were."""
    return split_classes(read_table(data), known_split(teacher.provenance))


def encode(checkpoint: Checkpoint, test: ImageTable, size: int) -> EncodedSet:
    """Return the vectors of test images at a size."""
    return encode_images(
        checkpoint, checkpoint.preprocess.resized(size), table=test, precision="auto"
    )[0]
