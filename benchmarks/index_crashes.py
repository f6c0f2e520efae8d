"""Kill the writer of an index at random moments, and see whether anything acknowledged is lost.

    python benchmarks/index_crashes.py [--kills 200] [--record]

A process adds, replaces, deletes, seals, compacts and adds whole segments, and notes each step in a
journal before and after it. It is killed (SIGKILL) again and again. Each time another process opens
the folder: it must be at a committed state, that of all acknowledged steps or one more, and sound
to the last byte; the next writer goes on from there. Segments are sealed early, so that every kind
of step is met.
"""

import argparse
import json
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from killing import kill_within, run_apart
from record import update_result

from encoder.space import mint_space
from server_index import writer as writing
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.items import Item
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index

DIM = 32
SPACE = mint_space("teacher", DIM, "crashes")
ENCODER = "0123456789abcdef"
NAMES = [f"item {n}" for n in range(400)]
WEIGHTS = {"add": 8, "replace": 6, "delete": 6, "segment": 3, "seal": 1, "compact": 1}
KINDS = ("Flat", "SQfp16", "IVF4,SQ8", "HNSW8", "BFlat")
# Additions after which a segment is written.
SEAL_AT = 64
LONGEST_LIFE_S = 1.2

Model = dict[str, int]


def make_vectors(seeds: list[int]) -> np.ndarray:
    """Return the unit vector of each seed."""
    rows = [np.random.default_rng(seed).normal(size=DIM) for seed in seeds]
    vectors = np.array(rows, np.float32).reshape(-1, DIM)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw_step(model: Model, chance: random.Random, first_seed: int) -> dict[str, Any]:
    """Return a random step that the state allows."""
    name = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    free = [each for each in NAMES if each not in model]
    if name == "compact":
        return {"step": name, "kind": chance.choice(KINDS)}
    if name == "seal":
        return {"step": name}
    pool = {"replace": NAMES, "delete": list(model)}.get(name, free)
    ids = chance.sample(pool, min(len(pool), chance.randint(1, 40)))
    if name == "delete":
        return {"step": name, "ids": ids}
    return {"step": name, "ids": ids, "seeds": list(range(first_seed, first_seed + len(ids)))}


def apply_to_model(model: Model, step: dict[str, Any]) -> Model:
    """Return what a plain dictionary would hold after the step."""
    after = dict(model)
    for at, name in enumerate(step.get("ids", ())):
        after.pop(name, None)
        if step["step"] != "delete":
            after[name] = step["seeds"][at]
    return after


def apply_to_index(writer: IndexWriter, step: dict[str, Any]) -> None:
    """Do the step."""
    name = step["step"]
    if name == "compact":
        kind = Kind(step["kind"])
        writer.compact(kind if len(writer) >= 4 else None)
    elif name == "seal":
        writer.seal()
    elif name == "delete":
        writer.delete(step["ids"])
    else:
        vectors, items = make_vectors(step["seeds"]), [Item(each) for each in step["ids"]]
        if name == "segment":
            # As an operator's folder of vectors comes; of a kind that needs no training.
            writer.add_segment(vectors, items, ENCODER)
        else:
            writer.add(vectors, items, ENCODER, replace=name == "replace")


def read_journal(journal: Path) -> tuple[Model, Model | None, int]:
    """Return what was acknowledged, what the step that was not would have made, and a free seed."""
    model, after, seed = Model(), None, 0
    for line in journal.read_text().splitlines():
        step = json.loads(line)
        if step == "done":
            assert after is not None
            model, after = after, None
        else:
            after = apply_to_model(model, step)
            seed = max([seed, *(each + 1 for each in step.get("seeds", ()))])
    return model, after, seed


def note(journal: Path, line: Any) -> None:
    """Append a line in one write: what a killed process has written stays."""
    handle = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (json.dumps(line) + "\n").encode())
    os.close(handle)


def write_until_killed(folder: Path, journal: Path, seed: int) -> None:
    """Step on and on."""
    writing.SEAL_AT = SEAL_AT
    chance = random.Random(seed)
    model, _, first_seed = read_journal(journal)
    with IndexWriter(folder) as writer:
        while True:
            step = draw_step(model, chance, first_seed)
            note(journal, step)
            apply_to_index(writer, step)
            note(journal, "done")
            model = apply_to_model(model, step)
            first_seed += len(step.get("seeds", ()))


def check(folder: Path, journal: Path, answer: Path) -> None:
    """Say what is wrong with the folder, and whether the last step was committed."""
    faults = verify(folder)
    acknowledged, maybe, _ = read_journal(journal)
    with Index(folder) as index:
        held = {
            part.id_of(row)
            for part in index.snapshot.parts
            for row in range(len(part.keys))
            if part.alive is None or part.alive[row]
        }
        states = [acknowledged] if maybe is None else [acknowledged, maybe]
        matching = [state for state in states if held == set(state) and _finds(index, state)]
    if not matching:
        faults.append(f"{len(held)} items held, {len(acknowledged)} acknowledged")
    committed = bool(matching) and maybe is not None and matching[-1] is maybe
    answer.write_text(json.dumps({"faults": faults, "committed": committed}))


def _finds(index: Index, state: Model) -> bool:
    """Return whether each item's own vector finds it: an older version's would not."""
    if not state:
        return len(index) == 0
    ids = [f"id = '{name}'" for name in list(state)[::23]]
    names = list(state)[::23]
    vectors = make_vectors([state[name] for name in names])
    for vector, name, where in zip(vectors, names, ids, strict=True):
        hits = index.search(vector[None], 1, where=where)[0]
        if [hit.item.id for hit in hits] != [name] or hits[0].score < 0.99:
            return False
    return True


def run_trial(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so many writers; return the counts."""
    index, journal, answer = folder / "index", folder / "journal", folder / "answer"
    journal.touch()
    run_apart(create_index, index, SPACE)
    chance, lost, met = random.Random(seed), list[str](), dict[str, int]()
    for number in range(kills):
        given = index, journal, chance.getrandbits(32)
        code = kill_within(LONGEST_LIFE_S, chance, write_until_killed, *given)
        if code != -signal.SIGKILL:
            lost.append(f"kill {number}: the writer ended by itself with {code}")
        lines = journal.read_text().splitlines()
        last = json.loads(lines[-1]) if lines else "done"
        where = "between steps" if last == "done" else last["step"]
        met[where] = met.get(where, 0) + 1
        run_apart(check, index, journal, answer)
        found = json.loads(answer.read_text())
        lost.extend(f"kill {number} ({where}): {fault}" for fault in found["faults"])
        if lost:
            break
        if last != "done":
            _settle(journal, lines, committed=found["committed"])
    steps = journal.read_text().count('"done"')
    return {"kills": kills, "lost": lost, "met": dict(sorted(met.items())), "steps": steps}


def _settle(journal: Path, lines: list[str], *, committed: bool) -> None:
    """Note whether the step in which the writer was killed counts."""
    if committed:
        note(journal, "done")
    else:
        journal.write_text("".join(f"{line}\n" for line in lines[:-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run_trial(Path(folder), asked.kills, asked.seed)
    print(json.dumps(found, indent=2))
    if asked.record:
        update_result(
            "server_index",
            {
                "crash.kills": asked.kills,
                "crash.lost": len(found["lost"]),
                "crash.steps": found["steps"],
                **{f"crash.during.{k.replace(' ', '_')}": n for k, n in found["met"].items()},
            },
            part="crashes",
            command=f"python benchmarks/index_crashes.py --kills {asked.kills} --record",
            seed=asked.seed,
        )
    raise SystemExit(1 if found["lost"] else 0)


if __name__ == "__main__":
    main()
