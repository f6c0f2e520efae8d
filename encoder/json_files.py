"""Read JSON files that this program wrote. Apart from the writing: a device only reads."""

import json
from pathlib import Path
from typing import Any

from encoder.errors import PocketlensError, first_line


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PocketlensError: naming the file when it is missing, damaged or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketlensError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PocketlensError(f"{path}: not readable as JSON ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise PocketlensError(f"{path}: expected a JSON object")
    return value


def read_format(path: Path, version: int) -> dict[str, Any]:
    """Read a JSON object of ours.

    Raises:
        PocketlensError: as `read_json`, and when it is of another format than this one.
    """
    value = read_json(path)
    require_format(value, path, version)
    return value


def require_format(value: dict[str, Any], path: Path, version: int) -> None:
    """Refuse what was written in another format.

    Raises:
        PocketlensError: naming the file and both formats.
    """
    if value.get("format") != version:
        raise PocketlensError(
            f"{path}: format {value.get('format')!r}; this version reads format {version}"
        )
