"""Kill a backfill at random moments, and see whether anything is lost or wrongly answered.

    python benchmarks/backfill_crashes.py [--kills 100] [--record]

An index of random vectors is brought into another space by a process that is killed (SIGKILL) again
and again, through the last commit; then the next index is. After each kill the folder must be sound
to the last byte, hold every item, have kept what was encoded anew and acknowledged, and answer new
queries as the definition says: by new vectors where there are some, else by old ones, scaled.
"""

import argparse
import dataclasses
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from index_crashes import DIM, ENCODER, SPACE, make_vectors
from killing import kill_within, run_apart
from record import update_result

from encoder.compatibility import Compatibility, save_compatibility
from encoder.embed import EmbeddedBatch
from encoder.evaluation.score_scale import ScoreScale
from encoder.images import Source
from encoder.space import EmbeddingSpace, mint_space
from encoder.vector_map import VectorMap
from server_index import backfill as filling
from server_index.backfill import (
    Backfill,
    begin_backfill,
    check_backfill,
    finish_backfill,
    run_backfill,
)
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.items import Item
from server_index.next_layer import find_missing
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index

COUNT = 1500
NEW = mint_space("compatible", DIM, "crashes anew")
SCALE = ScoreScale(0.9, 0.05)
KINDS = ("Flat", "SQfp16", "IVF4,SQ8")
LONGEST_LIFE_S = 1.5
NAMES = [f"item {n}" for n in range(COUNT)]
# A small rotation: new queries are near to old ones.
TURN = np.linalg.qr(np.eye(DIM) + 0.05 * np.random.default_rng(3).normal(size=(DIM, DIM)))[0]


def draw_old() -> np.ndarray:
    """Return the old vectors."""
    return make_vectors(list(range(COUNT)))


def draw_new() -> np.ndarray:
    """Return the new vectors, which are near to the old ones."""
    new = draw_old() @ TURN.astype(np.float32) + 0.1 * make_vectors(list(range(COUNT, 2 * COUNT)))
    found: np.ndarray = new / np.linalg.norm(new, axis=1, keepdims=True)
    return found


@dataclasses.dataclass(frozen=True)
class Named:
    """Give each file the new vector of its number."""

    space: EmbeddingSpace = NEW
    encoder: str = "fedcba9876543210"

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order."""
        rows = [int(str(file).rpartition(" ")[2]) for file in files]
        yield EmbeddedBatch(np.arange(len(rows)), draw_new()[rows].astype(np.float32))


def set_up(folder: Path, compatible: Path, kind: str) -> None:
    """Write an index of the old vectors, some of them recent additions."""
    shutil.rmtree(folder, ignore_errors=True)
    create_index(folder, SPACE)
    items, vectors = [Item(name, name) for name in NAMES], draw_old()
    with IndexWriter(folder) as writer:
        writer.add(vectors[:1300], items[:1300], ENCODER)
        writer.compact(Kind(kind))
        writer.add(vectors[1300:], items[1300:], ENCODER)
    compatible.mkdir(exist_ok=True)
    matrix = VectorMap(TURN.astype(np.float32), np.zeros(DIM, np.float32))
    save_compatibility(Compatibility(NEW, SPACE, "backward", matrix, SCALE), compatible)


def run_until_killed(folder: Path, compatible: Path, journal: Path) -> None:
    """Go on with the backfill to its end, and note how far it is."""
    filling.STEP = 40
    with IndexWriter(folder) as writer:
        found = check_backfill(writer, compatible, Named(), Backfill())
        begin_backfill(writer, compatible, found)
        journal.write_text(str(COUNT - len(find_missing(writer))))
        while True:
            progress = run_backfill(writer, found, Named(), Backfill("random", most=40))
            journal.write_text(str(progress.done))
            if progress.done == COUNT:
                break
        finish_backfill(writer, found, Named().encoder)


def check(folder: Path, acknowledged: int, answer: Path) -> None:
    """Say what is wrong with the folder, and how far it is."""
    faults = verify(folder)
    old, new = draw_old(), draw_new()
    queries = new[::191].astype(np.float32)
    with Index(folder) as index:
        state, done = index.state, np.ones(COUNT, bool)
        switched = state.space == NEW
        if not switched:
            done[:] = False
            if index._view.joined:
                for part in index._view.joined.anew.parts:
                    done[part.keys] = True
        if len(index) != COUNT or done.sum() < acknowledged:
            faults.append(f"{len(index)} items, {done.sum()} anew of {acknowledged} acknowledged")
        exact = state.kind.exact and (state.next is None or state.next.kind.exact)
        if NEW.id in index.spaces and exact:
            mapped = VectorMap(TURN.astype(np.float32), np.zeros(DIM, np.float32)).apply(queries)
            scores = np.where(done, queries @ new.T, SCALE.slope * (mapped @ old.T) + SCALE.offset)
            best = [NAMES[row] for row in scores.argmax(axis=1)]
            found = [hits[0].item.id for hits in index.search(queries, 1, space=NEW.id)]
            faults += [
                f"{one} in place of {two}"
                for one, two in zip(found, best, strict=True)
                if one != two
            ]
    answer.write_text(json.dumps({"faults": faults, "done": int(done.sum()), "switched": switched}))


def run_trial(work: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill so many backfills; return the counts."""
    folder, compatible = work / "index", work / "compatible"
    journal, answer = work / "journal", work / "answer"
    chance, faults, finished, shares = random.Random(seed), list[str](), 0, list[float]()
    fresh = True
    for number in range(kills):
        if fresh:
            kind = KINDS[finished % len(KINDS)]
            run_apart(set_up, folder, compatible, kind)
            journal.write_text("0")
        kill_within(LONGEST_LIFE_S, chance, run_until_killed, folder, compatible, journal)
        run_apart(check, folder, int(journal.read_text() or 0), answer)
        found = json.loads(answer.read_text())
        faults += [f"kill {number}: {fault}" for fault in found["faults"]]
        shares.append(found["done"] / COUNT)
        fresh = found["switched"]
        finished += fresh
        if faults:
            break
    return {"kills": kills, "faults": faults, "finished": finished, "met": sorted(set(shares))}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_trial(Path(folder), asked.kills, asked.seed)
    print(json.dumps(found, indent=2))
    if asked.record:
        faults, met = found["faults"], found["met"]
        assert isinstance(faults, list) and isinstance(met, list)
        update_result(
            "compatible",
            {
                "backfill.crash.kills": asked.kills,
                "backfill.crash.faults": len(faults),
                "backfill.crash.finished": float(str(found["finished"])),
                "backfill.crash.shares_met": len(met),
            },
            part="crashes",
            command=f"python benchmarks/backfill_crashes.py --kills {asked.kills} --record",
            seed=asked.seed,
        )
    raise SystemExit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
