"""Ask a search service: nothing but the standard library and numpy, as on a device."""

import base64
import http.client
import json
import urllib.parse
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError, first_line


class SearchClient:
    """Hold a connection to a search service; not for several threads at once."""

    def __init__(self, address: str, *, token: str = "", timeout: float = 10.0) -> None:
        """Name the service, as `http://127.0.0.1:8000`; the first request connects.

        Raises:
            PocketlensError: when the address is none of HTTP.
        """
        try:
            parts = urllib.parse.urlsplit(address)
            port = parts.port
        except ValueError:
            parts, port = urllib.parse.urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PocketlensError(f"{address!r}: not an address, as http://127.0.0.1:8000")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._address, self._root = address, parts.path.rstrip("/")
        self._connection = kind(parts.hostname, port, timeout=timeout)
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def search(
        self, vector: NDArray[np.float32], space: str, k: int = 10, *, where: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the answers to a unit vector `[dim]`: dictionaries of id, score and metadata.

        Raises:
            PocketlensError: when the service cannot be reached or refuses, saying why.
        """
        asked = {"vector": encode_vector(vector), "space": space, "k": k}
        if where is not None:
            asked["filter"] = where
        answers: list[dict[str, Any]] = self._ask("/v1/search", asked)["answers"]
        return answers

    def describe(self) -> dict[str, Any]:
        """Return what the index holds, and which spaces may ask it."""
        return self._ask("/v1/space")

    def add(
        self,
        items: list[dict[str, Any]],
        vectors: NDArray[np.float32],
        space: str,
        encoder: str,
        *,
        replace: bool = False,
    ) -> int:
        """Add items (dictionaries of id, and path and metadata if any) with vectors `[n, dim]`.

        Returns the generation in which they are.
        """
        named = [
            {**item, "vector": encode_vector(vector)}
            for item, vector in zip(items, vectors, strict=True)
        ]
        asked = {"items": named, "space": space, "encoder": encoder, "replace": replace}
        return int(self._ask("/v1/items", asked)["generation"])

    def delete(self, ids: list[str]) -> int:
        """Delete items by id; return how many there were."""
        return int(self._ask("/v1/items/delete", {"ids": ids})["count"])

    def _ask(self, path: str, value: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if value is None else json.dumps(value)
        method = "GET" if value is None else "POST"
        try:
            status, data = self._send(method, self._root + path, body)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise PocketlensError(f"{self._address}: not reached ({first_line(error)})") from None
        try:
            answer = json.loads(data)
        except ValueError:
            answer = {"detail": "no JSON"}
        if status != 200:
            raise PocketlensError(f"{self._address}: {status}: {_say(answer)}")
        return dict(answer)

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        # Not for changes: the service may have made this one.
        again = self._connection.sock is not None and path.endswith(("/search", "/space"))
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            # A service may close a connection that was idle, before it has read the request.
            self._connection.close()
            if not again:
                raise
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
        return answer.status, answer.read()


def encode_vector(vector: NDArray[np.float32]) -> str:
    """Return a vector as the service takes it: base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def _say(answer: Any) -> str:
    detail = answer.get("detail") if isinstance(answer, dict) else None
    return str(detail or "refused")[:300]
