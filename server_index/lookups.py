"""What an open index asks its record beside a search: items by key, and whom a filter allows."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoder.errors import PocketlensError
from server_index.faiss_index import Rows
from server_index.filters import Filter, require_field
from server_index.items import Item
from server_index.record import Record
from server_index.snapshot import Allowed, Snapshot

_FILTERS_KEPT = 16
_NO_ROWS: Rows = np.empty(0, np.int64)


class Lookups:
    """Hold connections of their own to one record: an answer waits for no refresh or scan."""

    def __init__(self, folder: Path) -> None:
        self._record, self._scanned = Record(folder), Record(folder)
        self._asking, self._scanning = threading.Lock(), threading.Lock()
        # Of each filter the keys that it allows, and up to which.
        self._filters: dict[Filter, tuple[int, Rows]] = {}

    def close(self) -> None:
        """Disconnect."""
        self._record.close()
        self._scanned.close()

    def items(self, keys: Sequence[int]) -> dict[int, Item]:
        """Return the items of those keys that are still recorded."""
        with self._asking:
            return self._record.items(keys)

    def item_named(self, id_: str) -> Item | None:
        """Return the item of that id that lives."""
        with self._asking:
            keys = self._record.living([id_])
            return self._record.items([keys[id_]])[keys[id_]] if keys else None

    def has_field(self, field: str) -> bool:
        """Return whether an item, or one lately deleted, has that field; looks at all if none."""
        has = require_field(field)
        with self._scanning:
            found = self._scanned.select(
                f"SELECT 1 FROM items WHERE {has.condition} LIMIT 1", has.values
            )
        return bool(found)

    def encoders(self, keys: Sequence[int]) -> dict[int, str]:
        """Return the encoder digests of the vectors of keys."""
        with self._asking:
            return self._record.encoders_of(keys)

    def allow(self, snapshot: Snapshot, chosen: Filter, seconds: float) -> list[Allowed]:
        """Return which living rows of each part a filter allows.

        A filter that was asked before is asked only of what was added since.

        Raises:
            PocketlensError: when it takes longer than that.
        """
        with self._scanning:
            # Taken out, and put in again as the latest.
            known, keys = self._filters.pop(chosen, (0, _NO_ROWS))
            if known < snapshot.next_key:
                new = self._scan(known, snapshot.next_key, chosen, seconds)
                known, keys = snapshot.next_key, np.concatenate([keys, new])
            self._filters[chosen] = known, keys
            if len(self._filters) > _FILTERS_KEPT:
                del self._filters[next(iter(self._filters))]
        return [part.allow(keys) for part in snapshot.parts]

    def _scan(self, first: int, end: int, chosen: Filter, seconds: float) -> Rows:
        try:
            # The dead too: an older generation may be asked, and the parts know who lives.
            return self._scanned.scan_keys(
                f"SELECT key FROM items WHERE key >= ? AND key < ? AND {chosen.condition}"
                " ORDER BY key",
                [first, end, *chosen.values],
                seconds,
            )
        except TimeoutError:
            raise PocketlensError(f"filter: took longer than {seconds:g} s") from None
