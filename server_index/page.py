"""The page that encodes the query in the browser: its files, the runtime's and the bundle's."""

import asyncio
import dataclasses
import gzip
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, Response

from encoder.digests import digest_json
from export.card import CARD, Card
from export.web_runtime import HEADERS, PACKED, TYPES, list_runtime_files

_WEB = Path(__file__).parent / "web"
_WORKER = "service-worker.js"
_INDEX = "index.html"
# Whatever is named by its digest never changes.
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclasses.dataclass(frozen=True)
class _Served:
    """Hold a file's place, the digest of its bytes, and by what a change of it is noticed."""

    file: Path
    digest: str
    state: tuple[int, ...]

    @classmethod
    def of(cls, file: Path) -> Self:
        """Describe a file."""
        state = _read_state(file)
        with file.open("rb") as opened:
            return cls(file, hashlib.file_digest(opened, "sha256").hexdigest(), state)


def _read_state(file: Path) -> tuple[int, ...]:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_bundle_files(bundle: Path) -> dict[str, Path]:
    """Return a bundle's card and encoder files by name, once their bytes are known to be whole.

    Raises:
        PocketlensError: when it is no bundle, or a file is missing or has changed.
    """
    card = Card.read(bundle)
    names = {str(entry["file"]) for entry in card.encoders}
    for listed in card.list_files():
        if listed.file in names:
            listed.check(bundle)
    return {name: bundle / name for name in (CARD, *sorted(names))}


def add_page(app: FastAPI, bundle: Path) -> None:
    """Serve the page, and of a bundle what it needs.

    Raises:
        PocketlensError: when the bundle is not whole, or the browser's runtime not here.
    """
    own = {file.name: file for file in sorted(_WEB.iterdir()) if file.suffix in TYPES}
    runtime = {f"runtime/{name}": file for name, file in list_runtime_files().items()}
    held = {f"bundle/{name}": file for name, file in read_bundle_files(bundle).items()}
    served = {name: _Served.of(file) for name, file in (own | runtime | held).items()}
    worker = _write_worker(served).encode()

    async def give(request: Request, path: str = _INDEX) -> Response:
        found = served.get(path)
        if found is None:
            raise HTTPException(404, "no such file")
        if path == _WORKER:
            headers = HEADERS | {"Cache-Control": _ASK_AGAIN}
            return Response(worker, media_type=TYPES[".js"], headers=headers)
        return await asyncio.to_thread(_give, request, found)

    # Behind all other routes: what they do not answer is a file, or nothing.
    for path in ("/", "/{path:path}"):
        app.add_api_route(path, give, methods=["GET", "HEAD"], include_in_schema=False)


def _give(request: Request, served: _Served) -> Response:
    named = request.query_params.get("sha256")
    try:
        changed = _read_state(served.file) != served.state
    except OSError:
        changed = True
    if changed or named not in (None, served.digest):
        raise HTTPException(404, "no such file now: the bundle was replaced; serve it anew")
    tag = f'"{served.digest[:32]}"'
    headers = {
        **HEADERS,
        "ETag": tag,
        "Cache-Control": _FOREVER if named else _ASK_AGAIN,
        "Vary": "Accept-Encoding",
    }
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    file = served.file
    type_ = TYPES[Path(file.name.removesuffix(PACKED)).suffix]
    if file.suffix == PACKED:
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(gzip.decompress(file.read_bytes()), media_type=type_, headers=headers)
        headers["Content-Encoding"] = "gzip"
    return FileResponse(file, media_type=type_, headers=headers)


def _write_worker(served: Mapping[str, _Served]) -> str:
    """Return the service worker with a digest of everything, so that browsers notice a change."""
    release = digest_json([HEADERS, {name: each.digest for name, each in served.items()}])
    shell = [
        f"./{name}"
        for name in served
        if not name.startswith(("bundle/", "runtime/vendor/")) and name != _WORKER
    ]
    runtime = [f"./{name}" for name in served if name.startswith("runtime/vendor/")]
    given = {"RELEASE": release[:16], "SHELL": ["./", *shell], "RUNTIME": runtime}
    lines = [f"const {name} = {json.dumps(value)};" for name, value in given.items()]
    return "\n".join([*lines, (_WEB / _WORKER).read_text("utf-8")])
