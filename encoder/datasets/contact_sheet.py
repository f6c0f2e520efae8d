"""A picture of a table: a few classes of every split, a few images of each."""

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from encoder.atomic import write_bytes
from encoder.datasets.table import ImageTable, Row
from encoder.errors import BadImageError
from encoder.images import decode_image

_TILE, _CAPTION, _GAP = 144, 18, 4
_INK, _PAPER, _FRAME = (40, 40, 40), (228, 228, 228), (230, 60, 30)
_Item = TypeVar("_Item")


def write_contact_sheet(
    table: ImageTable, file: Path, *, classes: int = 12, images: int = 6
) -> None:
    """Write the sheet as PNG, whatever suffix the file has."""
    data = io.BytesIO()
    draw_contact_sheet(table, classes=classes, images=images).save(data, format="PNG")
    write_bytes(file, data.getvalue())


def draw_contact_sheet(table: ImageTable, *, classes: int = 12, images: int = 6) -> Image.Image:
    """Draw a row for each of some classes, evenly chosen over splits and names, under a caption.

    Boxes are framed. An image that cannot be decoded is an empty tile.
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in table.rows:
        groups[row.split, row.label].append(row)
    shown = _spread_over(sorted(groups), classes)
    height = len(shown) * (_CAPTION + _TILE + _GAP) + _GAP
    sheet = Image.new("RGB", (images * (_TILE + _GAP) + _GAP, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (split, label) in enumerate(shown):
        rows = groups[split, label]
        top = number * (_CAPTION + _TILE + _GAP)
        caption = f"{label or 'no label'} · {split or 'no split'} · {len(rows)} images"
        draw.text((_GAP, top + 2), caption, fill=_INK, font=font)
        for column, row in enumerate(_spread_over(rows, images)):
            place = (_GAP + column * (_TILE + _GAP), top + _CAPTION)
            sheet.paste(_draw_tile(table.root / row.path, row), place)
    return sheet


def _spread_over(items: Sequence[_Item], count: int) -> list[_Item]:
    """Choose `count` items at even distances, the first among them."""
    kept = min(count, len(items))
    return [items[index * len(items) // kept] for index in range(kept)]


def _draw_tile(file: Path, row: Row) -> Image.Image:
    tile = Image.new("RGB", (_TILE, _TILE), _PAPER)
    try:
        picture = Image.fromarray(decode_image(file))
    except BadImageError:
        return tile
    scale = _TILE / max(picture.size)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    left, top = (_TILE - width) // 2, (_TILE - height) // 2
    tile.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top))
    if row.box:
        x, y, w, h = (value * scale for value in row.box)
        # A box may reach past its image; the frame stays on it.
        right, bottom = min(x + w, width) - 1, min(y + h, height) - 1
        if right > x and bottom > y:
            frame = (left + x, top + y, left + right, top + bottom)
            ImageDraw.Draw(tile).rectangle(frame, outline=_FRAME)
    return tile
