"""What an index knows of an item: its id, where its picture lies, and what its owner says of it."""

import dataclasses
import json
import math
from collections.abc import Mapping

from encoder.errors import PocketlensError

Value = str | int | float | bool | None
LONGEST_ID = 1000
_LONGEST_METADATA = 64 << 10


@dataclasses.dataclass(frozen=True)
class Item:
    """Name one database image.

    `size` in bytes, `mtime_ns` and `sha256` tell the file that was encoded from a later one.
    `metadata` maps names to text, numbers, truth values or nothing, and is what filters ask for.
    """

    id: str
    path: str = ""
    metadata: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str = ""


def check_item(item: Item) -> None:
    """Refuse an id or metadata that cannot be kept.

    Raises:
        PocketlensError: naming the item.
    """
    if not item.id or len(item.id) > LONGEST_ID:
        raise PocketlensError(f"id {item.id[:40]!r}: must have 1 to {LONGEST_ID} characters")
    if not (item.id.isascii() and item.path.isascii()):
        try:
            f"{item.id}{item.path}".encode()
        except UnicodeEncodeError:
            raise PocketlensError(f"id {item.id[:40]!r}: id or path is not valid text") from None
    if "\0" in item.id:
        raise PocketlensError(f"id {item.id[:40]!r}: holds a zero byte")
    for name, value in item.metadata.items():
        if not isinstance(value, Value):
            raise PocketlensError(
                f"id {item.id[:40]!r}: metadata {name!r} must be text, a number, true, false or "
                f"null, not {type(value).__name__}"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise PocketlensError(f"id {item.id[:40]!r}: metadata {name!r} is not finite")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise PocketlensError(f"id {item.id[:40]!r}: metadata {name!r} exceeds 64 bits")


def encode_metadata(item: Item) -> str:
    """Return an item's metadata as JSON.

    Raises:
        PocketlensError: naming the item, when it is not valid text or too long.
    """
    if not item.metadata:
        return "{}"
    text = json.dumps(dict(item.metadata), ensure_ascii=False, allow_nan=False)
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise PocketlensError(f"id {item.id[:40]!r}: metadata is not valid text") from None
    if length > _LONGEST_METADATA:
        raise PocketlensError(
            f"id {item.id[:40]!r}: metadata of {length} bytes; at most {_LONGEST_METADATA} are kept"
        )
    return text
