"""The one table that every data set becomes, and the strict check of it."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from encoder.digests import canonical_json
from encoder.errors import PocketlensError
from encoder.images import BoxedFile, Source
from encoder.wording import counted

Split = Literal["", "train", "val", "test"]
Role = Literal["", "query", "database"]
Box = tuple[float, float, float, float]
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """Name one image: its path under the root, its class, and what it is for.

    An empty `label` means unlabelled, an empty `split` means any, an empty `role` both query and
    database. `box` is left, top, width and height in pixels.
    """

    path: str
    label: str = ""
    split: Split = ""
    role: Role = ""
    box: Box | None = None


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Hold the rows of a data set and the folder that their paths start from."""

    root: Path
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> list[Path]:
        """Return the full path of every row."""
        return [self.root / row.path for row in self.rows]

    def sources(self) -> list[Source]:
        """Return what to decode for every row: its file, or the part of it in the row's box."""
        return [
            self.root / row.path if row.box is None else BoxedFile(self.root / row.path, row.box)
            for row in self.rows
        ]

    def select(self, keep: Iterable[int]) -> Self:
        """Return the table of the rows at these positions, in the order given."""
        return dataclasses.replace(self, rows=tuple(self.rows[index] for index in keep))

    def split(self, name: Split) -> Self:
        """Return the rows of one split."""
        return self.select(index for index, row in enumerate(self.rows) if row.split == name)

    def class_names(self) -> list[str]:
        """Return the sorted names of the classes."""
        return sorted({row.label for row in self.rows if row.label})

    def labels(self) -> NDArray[np.int64]:
        """Return each row's position in `class_names`; −1 where it has no label."""
        position = {name: index for index, name in enumerate(self.class_names())}
        return np.array([position.get(row.label, -1) for row in self.rows], np.int64)

    def describe(self) -> dict[str, str | int]:
        """Return what an artefact keeps of the data it was made from."""
        return {
            "source": self.root.name,
            "images": len(self),
            "fingerprint": self.fingerprint(),
        }

    def fingerprint(self) -> str:
        """Return the sha256 (hex) over rows and file sizes: another image set, another value."""
        digest = hashlib.sha256()
        for row, file in zip(self.rows, self.files(), strict=True):
            size = file.stat().st_size if file.is_file() else -1
            digest.update(canonical_json([row.path, row.label, row.split, row.role, row.box, size]))
        return digest.hexdigest()


def check_table(table: ImageTable, *, where: str, require_files: bool = True) -> None:
    """Check every row; `where` names the table in the message.

    `require_files` refuses missing files; else they are set aside when they are read.

    Raises:
        PocketlensError: one line with the first offending rows of the first rule broken.
    """
    if not table.rows:
        raise PocketlensError(f"{where}: no images found")
    for rule, is_broken in table_rules(table, require_files=require_files):
        _refuse(where, rule, table.rows, is_broken)


def table_rules(
    table: ImageTable, *, require_files: bool = True
) -> list[tuple[str, Callable[[Row], bool]]]:
    """Return each rule with a test of what breaks it, to be asked of every row in order."""
    seen: set[str] = set()
    split_of: dict[str, str] = {}
    rules: list[tuple[str, Callable[[Row], bool]]] = [
        ("path or label is not valid text", lambda row: not _is_text(row)),
        ("path is empty or leaves the folder", lambda row: _escapes(row.path)),
        ("split is not train, val or test", lambda row: row.split not in get_args(Split)),
        ("role is not query or database", lambda row: row.role not in get_args(Role)),
        ("box is not inside any image", lambda row: not _box_is_sound(row.box)),
        ("path appears twice", lambda row: not _is_new(row.path, seen)),
        (
            "class is in two splits",
            lambda row: bool(row.label) and split_of.setdefault(row.label, row.split) != row.split,
        ),
    ]
    if require_files:
        rules.append(("file is missing", lambda row: not _is_file(table.root / row.path)))
    return rules


def _refuse(where: str, rule: str, rows: Sequence[Row], broken: Callable[[Row], bool]) -> None:
    bad = [(number, row) for number, row in enumerate(rows, 1) if broken(row)]
    if bad:
        shown = "; ".join(
            f"row {number}: {row.path!r} (label {row.label!r}, split {row.split!r})"
            for number, row in bad[:_SHOWN]
        )
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise PocketlensError(f"{where}: {rule}: {shown}{more}")


def _is_new(path: str, seen: set[str]) -> bool:
    path = Path(path).as_posix()
    new = path not in seen
    seen.add(path)
    return new


def _is_text(row: Row) -> bool:
    try:
        (row.path + row.label).encode()
    except UnicodeEncodeError:  # a file name in another encoding
        return False
    return True


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


def _escapes(path: str) -> bool:
    pure = Path(path)
    return not path or pure.is_absolute() or ".." in pure.parts


def _box_is_sound(box: Box | None) -> bool:
    if box is None:
        return True
    left, top, width, height = box
    return bool(np.isfinite(box).all()) and min(left, top) >= 0 and min(width, height) > 0


def check_trainable(table: ImageTable, *, where: str) -> None:
    """Refuse a training set from which no metric can be learnt.

    Raises:
        PocketlensError: when there are fewer than two classes, or a class has a single image.
    """
    names, counts = np.unique([row.label for row in table.rows if row.label], return_counts=True)
    if len(names) < 2:
        raise PocketlensError(
            f"{where}: {counted(len(names), 'class')} to train on, once test and validation "
            "classes are out; put each class in a folder of its own, at least two to train on"
        )
    single = names[counts < 2]
    if len(single):
        shown = ", ".join(single[:_SHOWN])
        raise PocketlensError(
            f"{where}: {len(single)} class(es) with one image only ({shown}); "
            "add images or take these classes out"
        )
