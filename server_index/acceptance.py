"""Which other spaces an index answers: told once, with the map, the scale and what shows it.

A compatible encoder's queries search the database of the space that it was made compatible with;
and, once a database is in the new space, queries of the old one search that, by the same map turned
around. What an index accepts lies in it, under `accepts/` and the space's id.
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from encoder.atomic import new_folder
from encoder.compatibility import COMPATIBILITY, TENSORS, Compatibility, load_compatibility
from encoder.errors import PocketlensError
from encoder.evaluation.score_scale import ScoreScale
from encoder.json_files import read_json
from encoder.space import EmbeddingSpace
from encoder.vector_map import VectorMap
from server_index.faiss_index import Vectors
from server_index.state import Acceptance

ACCEPTS = "accepts"
_NO_SCALE = ScoreScale()


@dataclasses.dataclass(frozen=True)
class Accepted:
    """Hold how queries of another space ask an index's: the map, and what a score is worth."""

    space: EmbeddingSpace
    map: VectorMap
    scale: ScoreScale

    def apply(self, vectors: Vectors) -> Vectors:
        """Return what is asked of the index for unit vectors `[n, dim]` of the other space."""
        return self.map.apply(vectors)


def read_accepted(found: Compatibility, index_space: str, where: Path) -> Accepted:
    """Return who is accepted by an index of a space, and how, by a compatibility.

    Raises:
        PocketlensError: when it is of other spaces, or would have the database mapped.
    """
    old, new = found.database, found.query
    if index_space == old.id and found.direction == "backward":
        return Accepted(new, found.map, found.scale)
    if index_space == old.id:
        raise PocketlensError(
            f"{where}: maps the database, not the query; give it to backfill, which brings the "
            "index into the new space"
        )
    if index_space == new.id:
        return Accepted(old, found.turn_back(), _NO_SCALE)
    raise PocketlensError(
        f"{where}: is between spaces {new.id} and {old.id}, and the index is in {index_space}"
    )


def keep_compatibility(
    folder: Path, source: Path, index_space: str, evidence: Mapping[str, Any]
) -> Acceptance:
    """Copy a compatibility's files into an index folder; return what the record says of it.

    Raises:
        PocketlensError: when it is damaged, or of other spaces.
    """
    found = load_compatibility(source)
    space = read_accepted(found, index_space, source).space.id
    made = Acceptance(space, digest_compatibility(source), dict(evidence) | {"shown": found.shown})
    kept = folder / ACCEPTS / made.folder
    kept.parent.mkdir(exist_ok=True)
    with new_folder(kept, marker=COMPATIBILITY, overwrite=True) as scratch:
        for name in made.files:
            shutil.copyfile(source / name, scratch / name)
    return made


def read_evidence(report: Path, compatibility: Path) -> dict[str, Any]:
    """Return what a report of compat-matrix shows of a compatibility.

    Raises:
        PocketlensError: when it is damaged, of other spaces, or shows that it does not hold.
    """
    found, value = load_compatibility(compatibility), read_json(report)
    try:
        return _read_evidence(found, value, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PocketlensError(f"{report}: not a report of compat-matrix ({error!r})") from None


def _read_evidence(found: Compatibility, value: dict[str, Any], report: Path) -> dict[str, Any]:
    shown = [each for each in value["declared"] if each["compatibility"] == found.digest()]
    if not shown:
        raise PocketlensError(
            f"{report}: does not show this compatibility of {found.query.id} with "
            f"{found.database.id}"
        )
    if not all(each["holds"] is True for each in shown):
        raise PocketlensError(f"{report}: shows that the compatibility does not hold")
    digest = hashlib.sha256(report.read_bytes()).hexdigest()
    names = [each["names"] for each in shown]
    curves = [
        {
            "order": str(curve["order"]),
            "shares": [float(share) for share in curve["shares"]],
            "r1": [float(row["figures"]["r1"]) for row in curve["rows"]],
        }
        for curve in value["curves"]
        if [curve["query"], curve["database"]] in names
    ]
    for curve in curves:
        if not len(curve["shares"]) == len(curve["r1"]) > 0:
            raise ValueError("a curve of as many shares as figures")
    return {"report": {"sha256": digest, "declared": shown, "curves": curves}}


def expect_recall(evidence: Mapping[str, Any], order: str, share: float) -> float | None:
    """Return the R@1, in per cent, that an acceptance's report shows at a share encoded anew."""
    for curve in evidence.get("report", {}).get("curves", []):
        if curve["order"] == order:
            return float(np.interp(share, curve["shares"], curve["r1"]))
    return None


def digest_compatibility(folder: Path) -> dict[str, str]:
    """Return the digests of a compatibility's files by name; a checkpoint may lie beside them."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (COMPATIBILITY, TENSORS)
    }


def open_accepted(folder: Path, accepted: Acceptance, index_space: str) -> Accepted:
    """Open what was accepted.

    Raises:
        PocketlensError: naming the file that is missing or damaged.
    """
    return read_accepted(read_kept(folder, accepted), index_space, folder / ACCEPTS)


def read_kept(folder: Path, accepted: Acceptance) -> Compatibility:
    """Read a compatibility that an index keeps.

    Raises:
        PocketlensError: naming the file that is missing or damaged.
    """
    kept = folder / ACCEPTS / accepted.folder
    try:
        found, digests = load_compatibility(kept), digest_compatibility(kept)
    except OSError as error:
        raise PocketlensError(f"{kept}: missing or unreadable ({error.strerror})") from None
    for name, digest in accepted.files.items():
        if digests.get(name) != digest:
            raise PocketlensError(f"{kept / name}: damaged (not what was accepted)")
    return found
