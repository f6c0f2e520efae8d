"""Check a bundle as it lies there: checksums, contracts, and golden vectors on this machine."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError, first_line
from export.card import CARD, ORT, Card
from export.runtime import QueryEncoder


@dataclasses.dataclass(frozen=True)
class Verified:
    """Hold the lowest cosine of an encoder's vectors to the golden ones, and what it may be."""

    file: str
    pictures: int
    min_cosine: float
    least: float


@dataclasses.dataclass(frozen=True)
class _Golden:
    """Hold what an encoder is to give for the golden pictures, and the file that says so."""

    place: Path
    expected: NDArray[Any]
    least: float
    pictures: Sequence[Path]


def verify_bundle(folder: Path, *, exact: bool = False) -> tuple[Verified, ...]:
    """Check every byte of a bundle, and that each encoder makes its golden vectors.

    With `exact` the 8-bit products of int8 are computed exactly, where this CPU does not.

    Raises:
        PocketlensError: naming the file and what is wrong with it.
    """
    card = Card.read(folder)
    for listed in card.list_files():
        listed.check(folder)
    for entry in card.encoders:
        _check_contract(folder, entry, card, exact=exact)
    return tuple(_check_vectors(card, exact=exact))


def _check_contract(folder: Path, entry: dict[str, Any], card: Card, *, exact: bool) -> None:
    """Refuse an encoder file that says of itself what the card does not."""
    file = folder / str(entry["file"])
    contract = QueryEncoder(file, exact=exact).contract
    said = {
        "encoder": contract.encoder,
        "input": contract.kind,
        "size": contract.preprocess.size,
        "dim": contract.dim,
        "form": contract.form,
        "precision": contract.precision,
        "role": contract.role,
    }
    for name, value in said.items():
        if entry.get(name) != value:
            raise PocketlensError(
                f"{file}: its {name} is {value!r}, and {CARD} says {entry.get(name)!r}"
            )
    if contract.space.to_json() != card.value.get("space"):
        raise PocketlensError(f"{file}: of space {contract.space.id}, which {CARD} does not name")


def _check_vectors(card: Card, *, exact: bool) -> Iterator[Verified]:
    listed = card.value.get("golden")
    if listed is None:
        raise PocketlensError(f"{card.folder / CARD}: names no golden pictures to check against")
    pictures = [card.folder / str(entry["file"]) for entry in listed["pictures"]]
    unchecked = {str(entry["file"]) for entry in card.encoders}
    for entry in listed["vectors"]:
        if entry.get("of") is None:
            continue
        file = str(entry["of"])
        if file not in unchecked:
            raise PocketlensError(
                f"{card.folder / CARD}: golden vectors of {file!r}, which it lacks"
            )
        unchecked.remove(file)
        place = card.folder / str(entry["file"])
        try:
            expected = np.load(place, allow_pickle=False)
            least = float(entry["min_cosine"])
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{place}: damaged ({first_line(error)})") from None
        encoder = QueryEncoder(card.folder / file, exact=exact)
        golden = _Golden(place, expected, least, pictures)
        yield _compare(encoder, golden)
        if exact and encoder.contract.probe:
            continue  # in ORT format, 8-bit products are computed as this CPU does
        for each in next(e for e in card.encoders if e["file"] == file).get("ort") or ():
            if str(each["file"]).endswith(ORT):
                yield _compare(QueryEncoder(card.folder / str(each["file"])), golden)
    if unchecked:
        raise PocketlensError(f"{card.folder / CARD}: no golden vectors of {min(unchecked)}")


def _compare(encoder: QueryEncoder, golden: _Golden) -> Verified:
    expected, pictures = golden.expected, golden.pictures
    found = np.stack([encoder.encode(picture) for picture in pictures])
    if expected.shape != found.shape or expected.dtype != found.dtype:
        raise PocketlensError(
            f"{golden.place}: holds {expected.dtype} {list(expected.shape)}, not {found.dtype} "
            f"{list(found.shape)}"
        )
    cosines = (encoder.read(found) * encoder.read(expected)).sum(axis=1)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= golden.least:
        raise PocketlensError(
            f"{encoder.file}: makes another vector of {pictures[worst].name} than the golden one: "
            f"cosine {cosines[worst]:.6f} is below {golden.least}"
        )
    return Verified(encoder.file.name, len(pictures), float(cosines[worst]), golden.least)
