"""Small pictures of database items, made when they are asked for, of the files they came from."""

import collections
import io
import stat
import threading

from PIL import Image

from encoder.errors import BadImageError
from encoder.images import decode_image, file_of
from encoder.preprocess import Preprocess
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

    def make(self, path: str) -> bytes:
        """Return a JPEG of the picture that an item's recorded path names.

        Raises:
            BadImageError: when there is none, or it cannot be decoded.
        """
        source = open_path(path)
        try:
            found = file_of(source).stat()
        except (OSError, ValueError):
            raise BadImageError("its picture is not where it was encoded from") from None
        # Not a device or a pipe, which would be read without end.
        if not path or not stat.S_ISREG(found.st_mode):
            raise BadImageError("its picture is not a file")
        key = path, found.st_mtime_ns
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
