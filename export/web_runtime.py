"""The encoder's runtime for browsers: where its files lie, and what their types are.

Its JavaScript is in `web/`; ONNX Runtime Web lies in `web/vendor/`, where `make web` puts it and
from where a wheel takes it along.
"""

import json
from pathlib import Path

from encoder.errors import PocketlensError

FOLDER = Path(__file__).parent / "web"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
# Of every page that encodes: threads of WebAssembly share memory, which needs isolation from other
# origins, and nothing is fetched from or sent to anywhere but the server that the page came from.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# What is compressed with gzip, and is sent so.
PACKED = ".gz"
_VENDOR = "vendor"
# Written when the others are whole.
_FETCHED = "vendor.json"
# What fetches vendor/, and is of no use to a browser.
_SET_UP = ("fetch.js",)


def name_runtime() -> str:
    """Return the name and version of the browser's ONNX Runtime.

    Raises:
        PocketlensError: when it has not been fetched.
    """
    return f"onnxruntime-web {json.loads(_find_fetched().read_text())['onnxruntime-web']}"


def _find_fetched() -> Path:
    fetched = FOLDER / _VENDOR / _FETCHED
    if not fetched.is_file():
        raise PocketlensError(
            "ONNX Runtime for the browser is not here: in a checkout `make web` fetches it"
        )
    return fetched


def list_runtime_files() -> dict[str, Path]:
    """Return the runtime's files by the path that its modules import each other by.

    Those of ONNX Runtime Web lie there compressed: their files end in `.gz`.

    Raises:
        PocketlensError: when ONNX Runtime Web has not been fetched.
    """
    vendor = _find_fetched().parent
    own = [f for f in FOLDER.iterdir() if f.suffix in (".html", ".js") and f.name not in _SET_UP]
    fetched = vendor.glob(f"*{PACKED}")
    found = {file.relative_to(FOLDER).as_posix(): file for file in sorted([*own, *fetched])}
    return {name.removesuffix(PACKED): file for name, file in found.items()}
