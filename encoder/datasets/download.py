"""Get a published set from its official address: resumed, verified, unpacked, counted."""

import contextlib
import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from encoder.datasets.official import Archive, OfficialSet, read_official
from encoder.datasets.table import ImageTable
from encoder.datasets.unpack import unpack
from encoder.errors import PocketlensError
from encoder.progress import track

_TIMEOUT = 60.0
_CHUNK = 1 << 20


def download_set(official: OfficialSet, folder: Path) -> ImageTable:
    """Get a set into a folder, passing over what is there already, and read it.

    An archive that lies in the folder, put there by hand, is verified and unpacked.

    Raises:
        PocketlensError: when an archive cannot be had, is not the published one, or the set read
            from it is not complete.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise PocketlensError(f"{folder}: not a folder") from None
    home = folder / official.home
    if official.recognises(home):
        with contextlib.suppress(PocketlensError):
            return read_official(official, home)
    _ask_for_files(official, folder)
    for archive in official.archives:
        if archive.gives == archive.file or not (folder / archive.gives).exists():
            file = folder / archive.file
            if not file.exists():
                fetch(archive, file, page=official.page)
            else:
                check_archive(archive, file)
            if archive.gives != archive.file:
                unpack(file, folder, archive.gives)
    return read_official(official, home)


def fetch(archive: Archive, file: Path, *, page: str) -> None:
    """Download an archive, going on from what an earlier run has left, and verify it.

    Raises:
        PocketlensError: when the address cannot be reached, the connection ends early, or what has
            come is not the published file.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        _transfer(archive, partial)
    except urllib.error.HTTPError as error:
        error.close()
        raise PocketlensError(
            f"{archive.address}: answered {error.code} {error.reason}; see {page}, put "
            f"{archive.file} into {file.parent} by hand and run this again"
        ) from None
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        TimeoutError,
        ConnectionError,
    ) as error:
        raise PocketlensError(
            f"{archive.address}: cannot be reached ({_reason(error)}); what has come is kept, run "
            f"this again where there is a network, or put {archive.file} into {file.parent} by hand"
        ) from None
    try:
        check_archive(archive, partial)
    except PocketlensError:
        partial.unlink()
        raise PocketlensError(
            f"{archive.address}: what came is not the published {archive.file} and was deleted; "
            f"run this again, or see {page}"
        ) from None
    partial.rename(file)


def check_archive(archive: Archive, file: Path) -> None:
    """Refuse a file that is not the published one, where its size or md5 is known.

    Raises:
        PocketlensError: saying what was expected and found.
    """
    size = file.stat().st_size
    if archive.size and size != archive.size:
        raise PocketlensError(
            f"{file}: expected {archive.size:,} bytes, found {size:,}; delete it, get it anew"
        )
    if archive.md5:
        with file.open("rb") as data:
            # Not for security: it is what was published with the set.
            found = hashlib.file_digest(
                data, lambda: hashlib.md5(usedforsecurity=False)
            ).hexdigest()
        if found != archive.md5:
            raise PocketlensError(
                f"{file}: expected md5 {archive.md5}, found {found}; delete it, get it anew"
            )


def _ask_for_files(official: OfficialSet, folder: Path) -> None:
    """Refuse a set of which some file can only be had by hand and is not there."""
    missing = [
        f"{archive.file} (md5 {archive.md5})" if archive.md5 else archive.file
        for archive in official.archives
        if not archive.address
        and not (folder / archive.file).exists()
        and not (folder / archive.gives).exists()
    ]
    if missing:
        raise PocketlensError(
            f"{official.title} cannot be downloaded: {official.by_hand} ({official.page}); put "
            f"{' and '.join(missing)} into {folder} and run this again"
        )


def _transfer(archive: Archive, partial: Path) -> None:
    """Append what is missing to the partial file, or start over where the server cannot."""
    have = partial.stat().st_size if partial.exists() else 0
    if archive.size and have == archive.size:
        return
    request = urllib.request.Request(archive.address)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            error.close()
            return  # nothing is missing; the check decides
        raise
    with response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if response.status == http.client.PARTIAL_CONTENT and goes_on else 0
        length = int(response.headers.get("Content-Length") or 0)
        with partial.open("ab" if start else "wb") as file:
            came = _copy(response, file, partial.name, start, start + length)
    if length and came < length:
        raise http.client.HTTPException(f"ended after {start + came:,} of {start + length:,} bytes")


def _copy(response: Any, file: Any, name: str, start: int, total: int) -> int:
    came = 0
    with track(f"{name.removesuffix('.partial')}, MiB", max(total >> 20, 1)) as advance:
        advance(start >> 20)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            advance(((start + came + len(chunk)) >> 20) - ((start + came) >> 20))
            came += len(chunk)
    return came


def _reason(error: Exception) -> str:
    return str(error.reason if isinstance(error, urllib.error.URLError) else error)
