"""The card of a query bundle: which encoder files it holds, and what they and the rest must be."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from encoder.errors import PocketlensError
from encoder.json_files import read_format
from export.contract import FORMAT

CARD = "card.json"
# The end of the name of an encoder in ORT format.
ORT = ".ort"


@dataclasses.dataclass(frozen=True)
class Listed:
    """Name a file of a bundle, and what its bytes must be."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, file: str) -> Self:
        """Describe a file that is written."""
        # Here, because whoever only opens an encoder is spared the import.
        import hashlib

        data = (folder / file).read_bytes()
        return cls(file, len(data), hashlib.sha256(data).hexdigest())

    def check(self, folder: Path) -> None:
        """Refuse a file that is missing or has changed.

        Raises:
            PocketlensError: naming it.
        """
        path = folder / self.file
        if not path.is_file():
            raise PocketlensError(f"{path}: listed in {CARD} but missing; export the bundle again")
        if Listed.of(folder, self.file) != self:
            raise PocketlensError(f"{path}: its bytes are not those that were exported")


def require_bundle(folder: Path) -> None:
    """Refuse what is no bundle folder.

    Raises:
        PocketlensError: saying what it is instead.
    """
    if folder.is_file():
        raise PocketlensError(f"{folder}: a file; give the folder of the bundle")
    if not folder.exists():
        raise PocketlensError(f"{folder}: no such folder")
    if not (folder / CARD).exists():
        raise PocketlensError(f"{folder}: not a bundle (no {CARD}); `export` makes one")


@dataclasses.dataclass(frozen=True)
class Card:
    """Hold what `card.json` says; `encoders` and `golden` as in `docs/formats.md`."""

    folder: Path
    value: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card of a bundle folder.

        Raises:
            PocketlensError: when it is missing, damaged, or of another format.
        """
        require_bundle(folder)
        value = read_format(folder / CARD, FORMAT)
        encoders = value.get("encoders")
        if not isinstance(encoders, list) or not encoders:
            raise PocketlensError(f"{folder / CARD}: lists no encoder")
        card = cls(folder, value)
        card.list_files()
        return card

    @property
    def space(self) -> str:
        """Return the id of the space that its encoders embed into.

        Raises:
            PocketlensError: when the card does not say.
        """
        space = self.value.get("space")
        if not isinstance(space, dict) or not isinstance(space.get("id"), str):
            raise PocketlensError(f"{self.folder / CARD}: damaged (it names no space)")
        return str(space["id"])

    @property
    def encoders(self) -> list[dict[str, Any]]:
        """Return what it says of each encoder file."""
        return list(self.value["encoders"])

    def list_files(self) -> list[Listed]:
        """Return every file with its size and digest.

        Raises:
            PocketlensError: when an entry is damaged, or names a file outside the bundle.
        """
        golden = self.value.get("golden")
        entries = [*self.value["encoders"]]
        try:
            entries += [each for entry in self.encoders for each in entry.get("ort") or ()]
            if golden is not None:
                entries += [*golden["pictures"], *golden["vectors"]]
            found = [Listed(str(e["file"]), int(e["bytes"]), str(e["sha256"])) for e in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{self.folder / CARD}: damaged ({error!r})") from None
        for listed in found:
            parts = Path(listed.file).parts
            if not parts or Path(listed.file).is_absolute() or ".." in parts:
                raise PocketlensError(
                    f"{self.folder / CARD}: names {listed.file!r}, which is not in the bundle"
                )
        return found


def list_encoders(path: Path) -> list[Path]:
    """Return the encoder files of a bundle folder; of a file, itself.

    Raises:
        PocketlensError: when it is neither.
    """
    if not (path / CARD).is_file():
        return [find_encoder(path)]
    return [path / str(entry["file"]) for entry in Card.read(path).encoders]


def find_encoder(
    path: Path,
    *,
    size: int | None = None,
    precision: str | None = None,
    form: str | None = None,
    dim: int | None = None,
) -> Path:
    """Return the encoder file that `path` is, or the first of its bundle that is as asked.

    Raises:
        PocketlensError: when there is none.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise PocketlensError(f"{path}: no such encoder file or bundle")
    if not (path / CARD).exists() and (path / "config.json").exists():
        raise PocketlensError(f"{path}: a checkpoint; export it: cli export {path} BUNDLE")
    card = Card.read(path)
    wanted = {"size": size, "precision": precision, "form": form, "dim": dim}
    for entry in card.encoders:
        if all(value in (None, entry.get(name)) for name, value in wanted.items()):
            file = path / str(entry["file"])
            if not file.is_file():
                raise PocketlensError(
                    f"{file}: listed in {CARD} but missing; export the bundle again"
                )
            return file
    asked = " ".join(str(value) for value in wanted.values() if value is not None)
    held = ", ".join(str(entry["file"]) for entry in card.encoders)
    raise PocketlensError(f"{path}: holds no encoder of {asked}; it holds {held}")
