"""Small pictures of database items, made when they are asked for, of the files they came from."""

import collections
import io
import stat
import threading

from PIL import Image

from encoder.errors import BadImageError
from encoder.images import decode_image, file_of
from encoder.preprocess import Preprocess
from server_index.items import Item
from server_index.source import open_path

TYPE = "image/jpeg"
_SIDE = 256
_QUALITY = 82
# A JPEG of a large picture is decoded at a reduced scale.
_NEEDED = Preprocess(_SIDE)


class Thumbnails:
    """Make thumbnails, and keep the latest; for several threads."""

    def __init__(self, keep: int = 1000) -> None:
        self._made: collections.OrderedDict[tuple[str, int], bytes] = collections.OrderedDict()
        self._keep, self._lock = keep, threading.Lock()

    def make(self, item: Item) -> bytes:
        """Return a JPEG of the picture that an item was encoded from.

        Raises:
            BadImageError: when it is not there any more, has changed, or cannot be decoded.
        """
        if not item.path or item.mtime_ns is None:
            # Whoever added it said where it lies; this service has not read it.
            raise BadImageError("it was not encoded from a file here")
        source = open_path(item.path)
        try:
            found = file_of(source).stat()
        except (OSError, ValueError):
            raise BadImageError("its picture is not where it was encoded from") from None
        # Not a device or a pipe, which would be read without end.
        if not stat.S_ISREG(found.st_mode):
            raise BadImageError("its picture is not a file")
        if (found.st_size, found.st_mtime_ns) != (item.size, item.mtime_ns):
            raise BadImageError("its picture has changed since it was encoded")
        key = item.path, found.st_mtime_ns
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        image = Image.fromarray(decode_image(source, target=_NEEDED))
        image.thumbnail((_SIDE, _SIDE))
        written = io.BytesIO()
        image.save(written, "JPEG", quality=_QUALITY)
        with self._lock:
            self._made[key] = written.getvalue()
            while len(self._made) > self._keep:
                self._made.popitem(last=False)
        return written.getvalue()
