"""The trainings behind the tables of compatible teachers, as a queue: finished ones are skipped.

Three settings. `update`: the old model learnt the first 40 % of the training classes, with the new
one's recipe and passes an image. `trunk`: it is MobileNetV2 0.35 at 128 px with 256 dimensions.
`apart`: the new model learns the other 60 %, so that no class is common. The full tables train on
the first half of a set's classes and are judged on the second, which nothing was chosen by. The
small ones keep to the first half: its own first half trains, its second is judged, three seeds.
"""

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from command_queue import SEEDS, Place
from record import flatten_row
from small_sets import link_classes

from encoder.checkpoint import load_checkpoint
from encoder.compatibility import Compatibility, load_compatibility
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.datasets.table import ImageTable
from encoder.evaluate import encode_images, labelled_test
from encoder.evaluation.matrix import fill_matrix
from encoder.evaluation.protocol import (
    COMPARED,
    EncodedSet,
    EncoderVectors,
    EvaluationRow,
    Judging,
    average_rows,
    compare_rows,
    evaluate_pair,
)

# Under half an hour each on two cores.
FULL = {
    "cars": "--size 224 --small-size 112 --epochs 8 --lr 1e-4 --pooling gem --any-colour "
    "--interpolation bicubic",
    "cub": "--size 224 --small-size 112 --epochs 4 --lr 5e-5 --interpolation bicubic",
}
SMALL = {
    "cars": "--size 112 --epochs 4 --lr 1e-4 --val-share 0",
    "cub": "--size 112 --epochs 3 --lr 5e-5 --val-share 0",
}
SETTINGS = ("update", "trunk", "apart")
METHODS = ("dual-tuning", "bct", "lce", "regression")
# Of dual-tuning, where the model is only updated.
VARIANTS = {
    "plain-prototypes": "--trim 0 --no-weigh",
    "not-turned": "--no-turn",
    "papers-weights": "--old-weight 1 --old-temperature 0.07",
}
# Crops of each image that the forward map learns from too.
CROPS = 4
FORWARD = {"forward": CROPS, "forward-whole": 0}
_OLD_SHARE = 0.4
# Of the score, where both encoders are asked; chosen on the small cars' test classes, seed 0.
NEW_SHARE = 0.35
_OLD_TRUNK = "--trunk mobilenetv2_035:pad_type=same,mean=0.5,std=0.5 --dim 256 --size 128"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompatiblePlace(Place):
    """Hold, too, where the weights of another architecture lie."""

    weights: Path


@dataclasses.dataclass(frozen=True)
class Setting:
    """Hold what one setting trains on, and what is judged; folders of links to a set's classes."""

    name: str
    old: Path
    new: Path
    test_classes: Path
    flags: str
    old_flags: str

    def table(self) -> ImageTable:
        """Return the test images."""
        names = tuple(self.test_classes.read_text().split("\n"))
        rule = SplitRule(val=0.0, test_names=tuple(name for name in names if name))
        return labelled_test(split_classes(read_table(self.new), rule))


def lay_out(place: CompatiblePlace, data: Path, name: str, setting: str, flags: str) -> Setting:
    """Link the classes of a setting; of a set's classes the first half trains."""
    names = read_table(data).class_names()
    test = names[len(names) - round(len(names) * 0.5) :]
    training = names[: len(names) - len(test)]
    few = round(_OLD_SHARE * len(training))
    sets = place.runs / "sets"
    listed = sets / f"{name}-test.txt"
    first = link_classes(data, sets / f"{name}-old", training[:few])
    listed.write_text("\n".join(test) + "\n")
    old, new, old_flags = first, data, flags
    if setting == "trunk":
        old = link_classes(data, sets / f"{name}-training", training)
        weights = shlex.quote(str(place.weights / "mobilenetv2_035.safetensors"))
        kept = flags.replace("--small-size 112 ", "").replace("--size 224 ", "")
        old_flags = f"{kept.replace('--size 112 ', '')} {_OLD_TRUNK} --weights {weights}"
    if setting == "apart":
        new = link_classes(data, sets / f"{name}-apart", training[few:] + test)
    return Setting(setting, old, new, listed, flags, old_flags)


def train_all(
    place: CompatiblePlace, setting: Setting, prefix: str, seed: int, methods: tuple[str, ...]
) -> dict[str, Path]:
    """Train the old and the independent model and each method's; return their folders."""
    own = f"--test-classes {shlex.quote(str(setting.test_classes))} --seed {seed}"
    flags = f"{setting.flags} {own}"
    end = f"s{seed}"
    # The new data are the same in two settings: so is the independent model.
    alone = "apart-" if setting.name == "apart" else ""
    # The old model is the same in two settings.
    before = "trunk-" if setting.name == "trunk" else ""
    old_flags = f"{setting.old_flags} --test-share 0 --seed {seed}"
    made = {
        "old": place.make(
            f"{prefix}/{before}old-{end}", "train-teacher", setting.old, flags=old_flags
        ),
        "independent": place.make(
            f"{prefix}/{alone}independent-{end}", "train-teacher", setting.new, flags=flags
        ),
    }
    old = shlex.quote(str(made["old"]))
    free = shlex.quote(str(made["independent"]))
    for name, crops in FORWARD.items() if len(methods) > 1 else [("forward", CROPS)]:
        made[name] = place.make(
            f"{prefix}/{setting.name}-{name}-{end}",
            "train-compatible",
            setting.new,
            flags=f"--old {old} --method forward --crops {crops} --new {free} --seed {seed}",
        )
    for method in methods:
        name = f"{prefix}/{setting.name}-{method}-{end}"
        chosen = VARIANTS.get(method, f"--method {method}")
        given = f"--old {old} {chosen} {flags}"
        made[method] = place.make(name, "train-compatible", setting.new, flags=given)
    return made


def judge(made: dict[str, Path], table: ImageTable) -> Iterator[tuple[str, EvaluationRow]]:
    """Yield the rows of one seed: old → old, and of each method new → old and new → new."""
    encoded = {name: encode(folder, table) for name, folder in made.items() if name not in FORWARD}
    old = encoded.pop("old")
    yield "old_old", evaluate_pair("old", old, old)
    yield "independent", evaluate_pair("alone", encoded["independent"], encoded["independent"])
    for name in encoded.keys() - {"independent"}:
        key, new = name.replace("-", "_"), encoded[name]
        yield f"{key}.new_new", evaluate_pair(name, new, new)
        yield f"{key}.new_old", search_old(load_compatibility(made[name]), new, old)
    # Their model is the independent one.
    alone = encoded["independent"]
    maps = {name: load_compatibility(made[name]) for name in FORWARD if name in made}
    for name, found in maps.items():
        yield f"{name.replace('-', '_')}.new_old", search_old(found, alone, old)
    yield "forward.new_new", evaluate_pair("forward", alone, alone)
    yield "forward_and_old.new_old", ask_both(maps["forward"], alone, old)


def encode(folder: Path, table: ImageTable) -> EncodedSet:
    """Return a checkpoint's vectors of test images."""
    checkpoint = load_checkpoint(folder)
    return encode_images(checkpoint, checkpoint.preprocess, table=table, precision="auto")[0]


def search_old(found: Compatibility, new: EncodedSet, old: EncodedSet) -> EvaluationRow:
    """Return the row of new queries in the old database."""
    asking = dataclasses.replace(new, vectors=found.map_queries(new.vectors))
    asked = dataclasses.replace(old, vectors=found.map_database(old.vectors))
    return evaluate_pair("cross", asking, asked)


def ask_both(forward: Compatibility, new: EncodedSet, old: EncodedSet) -> EvaluationRow:
    """Return the row of queries by both encoders, the scores added: a device kept the old one."""
    shares = np.sqrt(np.float32([NEW_SHARE, 1 - NEW_SHARE]))
    mapped = forward.map_database(old.vectors)
    asking = np.hstack([shares[0] * new.vectors, shares[1] * old.vectors])
    asked = np.hstack([shares[0] * mapped, shares[1] * old.vectors])
    return evaluate_pair(
        "both",
        dataclasses.replace(new, vectors=asking),
        dataclasses.replace(old, vectors=asked),
    )


def flatten(key: str, rows: dict[str, list[EvaluationRow]]) -> dict[str, float]:
    """Return the mean rows over seeds, their gains over old → old, and what they lose of new."""
    means = {name: average_rows(name, found) for name, found in rows.items()}
    alone, before = means["independent"], means["old_old"]
    figures: dict[str, float] = {}
    for name, row in means.items():
        figures |= flatten_row(f"{key}.{name}", row.to_json())
        if name.endswith(".new_old"):
            figures |= flatten_difference(f"{key}.{name}.minus_old", row, before)
            for metric in COMPARED:
                whole = alone.figures[metric] - before.figures[metric]
                gain = row.figures[metric] - before.figures[metric]
                figures[f"{key}.{name}.update_gain.{metric}"] = gain / whole
        if name.endswith(".new_new"):
            figures |= flatten_difference(f"{key}.{name}.minus_independent", row, alone)
    return figures


def flatten_difference(key: str, row: EvaluationRow, baseline: EvaluationRow) -> dict[str, float]:
    """Return differences of two rows with their intervals."""
    figures: dict[str, float] = {}
    for metric, interval in compare_rows(row, baseline).items():
        if metric in COMPARED:
            figures[f"{key}.{metric}"] = row.figures[metric] - baseline.figures[metric]
            figures |= {f"{key}.{metric}.low": interval.low, f"{key}.{metric}.high": interval.high}
    return figures


def measure_backfill(made: dict[str, Path], table: ImageTable, name: str) -> dict[str, float]:
    """Return what is found while the old database is encoded anew, on average over the shares."""
    used = {name: load_checkpoint(made[name]) for name in ("old", "dual-tuning")}
    both = [
        EncoderVectors(each, one.space.id, one.encoder, encode(made[each], table))
        for each, one in used.items()
    ]
    found = load_compatibility(made["dual-tuning"])
    matrix = fill_matrix(both, both, [found], (Judging(),))
    figures: dict[str, float] = {}
    for curve in matrix.curves:
        for metric in COMPARED:
            key = f"backfill.{name}.{curve.order}.{metric}"
            figures[key] = curve.area.figures[metric]
            ends = curve.over_random[metric]
            figures |= {f"{key}.over_random.low": ends.low, f"{key}.over_random.high": ends.high}
            for share, row in zip(curve.shares, curve.rows, strict=True):
                figures[f"{key}.at_{100 * share:.0f}"] = row.figures[metric]
    if name == "cars":
        for title, order in (("planned", "margin"), ("random", "random")):
            figures[f"backfill.auc.{title}"] = figures[f"backfill.cars.{order}.map_at_r"]
    return figures


def measure(
    place: CompatiblePlace, name: str, methods: dict[str, tuple[str, ...]], *, full: bool
) -> dict[str, float]:
    """Train and judge the methods of each setting on one set."""
    data = place.data / name if full else place.small(name)
    flags, seeds = (FULL[name], (0,)) if full else (SMALL[name], SEEDS)
    figures: dict[str, float] = {}
    for setting, named in methods.items():
        laid = lay_out(place, data, name if full else f"{name}-small", setting, flags)
        rows: dict[str, list[EvaluationRow]] = {}
        for seed in seeds:
            made = train_all(place, laid, f"{'full' if full else 'small'}/{name}", seed, named)
            for key, row in judge(made, laid.table()):
                rows.setdefault(key, []).append(row)
        figures |= flatten(name_setting(name, setting, full=full), rows)
        if full and setting == "update":
            figures |= measure_backfill(made, laid.table(), name)
    return figures


def name_setting(name: str, setting: str, *, full: bool) -> str:
    """Return the beginning of the names of a setting's figures; the update's is the set's own."""
    own = name if setting == "update" else f"{name}.{setting}"
    return own if full else f"small.{own}"


# At the full budget first what the bars are about, then its rivals where the model is updated.
_FULL = {"update": METHODS[:1], "trunk": METHODS[:1]}
_RIVALS = {"update": METHODS}
_SMALL = {"update": (*METHODS, *VARIANTS), "trunk": METHODS, "apart": METHODS}
TABLES: dict[str, Callable[[CompatiblePlace], dict[str, float]]] = {
    "full-cars": lambda place: measure(place, "cars", _FULL, full=True),
    "small-cars": lambda place: measure(place, "cars", _SMALL, full=False),
    "full-birds": lambda place: measure(place, "cub", _FULL, full=True),
    "small-birds": lambda place: measure(place, "cub", _SMALL, full=False),
    "rivals-cars": lambda place: measure(place, "cars", _RIVALS, full=True),
    "rivals-birds": lambda place: measure(place, "cub", _RIVALS, full=True),
}
SEEDED = ("small-cars", "small-birds")
