"""Unpack an archive that came from elsewhere: nothing leaves the folder, and it appears whole."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from encoder.errors import PocketlensError, first_line


def unpack(archive: Path, folder: Path, gives: str) -> None:
    """Unpack a tar or zip archive and put what is called `gives` in it into the folder.

    It appears by one rename; a kill leaves nothing of that name. Other entries are passed over.

    Raises:
        PocketlensError: when the archive is damaged, encrypted, would write outside the folder, or
            does not hold `gives`.
    """
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".unpack-"))
    try:
        _extract(archive, scratch)
        if not (scratch / gives).exists():
            raise PocketlensError(f"{archive}: holds no {gives}; it is another archive")
        (folder / gives).parent.mkdir(parents=True, exist_ok=True)
        (scratch / gives).rename(folder / gives)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(archive: Path, scratch: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as data:
                for member in data.infolist():
                    _refuse_outside(archive, member)
                data.extractall(scratch)
        else:
            with tarfile.open(archive) as data:
                data.extractall(scratch, filter="data")
    except tarfile.FilterError as error:
        raise PocketlensError(
            f"{archive}: not unpacked, as it is not safe ({first_line(error)})"
        ) from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PocketlensError(
            f"{archive}: damaged archive ({first_line(error)}); delete it, get it anew"
        ) from None
    except RuntimeError as error:  # an encrypted zip
        raise PocketlensError(f"{archive}: unpack it by hand ({first_line(error)})") from None


def _refuse_outside(archive: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    link = stat.S_ISLNK(member.external_attr >> 16)
    if link or path.is_absolute() or ".." in path.parts or ":" in member.filename:
        raise PocketlensError(
            f"{archive}: not unpacked, as it is not safe ({member.filename!r} "
            f"{'is a link' if link else 'would leave the folder'})"
        )
