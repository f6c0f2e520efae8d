"""The distillations behind the tables of students, as a queue: finished ones are skipped.

The recorded students learn from the whole first half of a set's classes (their recipes are chosen
elsewhere) and search, on the second half, the database of the recorded teacher of that set. The
ablation keeps to the first half of the classes of cars: its own first half trains, its second is
searched, a teacher at 112 px and students at 56 px, three seeds each.
"""

import dataclasses
import functools
import shlex
from collections.abc import Callable
from pathlib import Path

from command_queue import SEEDS, Place
from other_stores import couple_otherwise, show_whole
from record import flatten_row

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.splits import known_split, read_table, split_classes
from encoder.datasets.table import ImageTable
from encoder.evaluate import encode_images, labelled_test
from encoder.evaluation.protocol import (
    EncodedSet,
    EvaluationRow,
    average_rows,
    compare_rows,
    evaluate_pair,
)

STORED = 16
SIZES = {"cars": (56, 96, 112, 128, 160), "cub": (56, 96, 112, 128, 160), "flowers": (96, 128, 192)}
RECIPE = {
    "cars": "--epochs 10 --lr 2e-4 --with-validation",
    "cub": "--epochs 16 --lr 2e-4 --keep 0.2 --with-validation",
    "flowers": "--epochs 16 --lr 2e-4 --with-validation",
}
ELASTIC = (96, 112, 128, 160)
# Of steps that each serve one of the sizes an elastic student takes more; fewer than all apart.
ELASTIC_PASSES = 2.0
MOBILE = "mobilenetv2_035:pad_type=same,mean=0.5,std=0.5"
SMALL_TEACHER = "--size 112 --epochs 6 --lr 2e-4 --val-share 0"
SMALL = "--size 56 --epochs 6 --lr 2e-4 --with-validation"
# What differs from the plain small student: other options, other numbers of stored views.
ABLATION = {
    "plain": "",
    "no relational terms": "--teacher-student 0 --student-student 0",
    "teacher-student term only": "--student-student 0",
    "no term on features": "--feature 0",
    "no term on neighbours": "--neighbours 0",
    "the paper's terms": "--feature 0 --neighbours 0",
    "from ImageNet": "--start imagenet",
    "4 views a step": "--views 4 --images 16",
    "8 views a step": "--views 8 --images 8",
}
ABLATION_STORED = (8, 50)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentPlace(Place):
    """Hold, too, where the recorded teachers and the weights of other architectures lie."""

    teachers: Path
    weights: Path

    def views(self, teacher: Path, data: Path, name: str, flags: str) -> Path:
        """Let a teacher look at views once."""
        return self.make(f"views/{name}", "make-views", teacher, data, flags=flags)

    def distil(self, teacher: Path, data: Path, name: str, flags: str, store: Path) -> Path:
        """Distil a student from views that are stored."""
        given = f"{flags} --store {shlex.quote(str(store))}"
        return self.make(name, "distill", teacher, data, flags=given)


def divide(data: Path, teacher: Checkpoint) -> ImageTable:
    """Return a set's images, divided as the teacher's were."""
    return split_classes(read_table(data), known_split(teacher.provenance))


def encode(checkpoint: Checkpoint, test: ImageTable, size: int) -> EncodedSet:
    """Return the vectors of test images at a size."""
    return encode_images(
        checkpoint, checkpoint.preprocess.resized(size), table=test, precision="auto"
    )[0]


def measure_families(place: StudentPlace, name: str) -> dict[str, float]:
    """Distil a student at each size, and one for all, from views the teacher looked at once."""
    data, folder = place.data / name, place.teachers / name
    teacher = load_checkpoint(folder)
    test = labelled_test(divide(data, teacher))
    store = place.views(folder, data, name, f"--views {STORED} --with-validation")
    database = encode(teacher, test, teacher.preprocess.size)
    figures = flatten_row(f"{name}.teacher.sym", evaluate_pair("", database, database).to_json())

    def judge(key: str, checkpoint: Checkpoint, size: int) -> None:
        row = evaluate_pair("", encode(checkpoint, test, size), database)
        figures.update(flatten_row(f"{name}.{key}.asym", row.to_json()))

    for size in SIZES[name]:
        flags = f"--size {size} {RECIPE[name]}"
        student = load_checkpoint(place.distil(folder, data, f"{name}/s{size}", flags, store))
        judge(f"untrained{size}", teacher, size)
        judge(f"s{size}", student, size)
        if size in ELASTIC:
            judge(f"dedicated.{size}", student, size)
        for metric in ("r1", "map_at_r"):
            top, bottom, reached = (
                figures[f"{name}.{key}.{metric}"]
                for key in ("teacher.sym", f"untrained{size}.asym", f"s{size}.asym")
            )
            figures[f"{name}.s{size}.won_back.{metric}"] = (reached - bottom) / (top - bottom)
    if name != "flowers":
        largest, *others = sorted(ELASTIC, reverse=True)
        given = " ".join(f"--elastic {size}" for size in others)
        flags = f"--size {largest} {given} {_lengthen(RECIPE[name], ELASTIC_PASSES)}"
        elastic = load_checkpoint(place.distil(folder, data, f"{name}/elastic", flags, store))
        for size in ELASTIC:
            judge(f"elastic.{size}", elastic, size)
    return figures


def _lengthen(flags: str, factor: float) -> str:
    words = flags.split()
    at = words.index("--epochs") + 1
    words[at] = f"{factor * float(words[at]):g}"
    return " ".join(words)


def measure_claims(place: StudentPlace, name: str) -> dict[str, float]:
    """Compare the 112 px student with what else costs a device as much, paired by query.

    Another architecture at the teacher's size; plain regression of whole pictures without coupled
    views; the same network trained with labels and no teacher, searching itself.
    """
    data, folder = place.data / name, place.teachers / name
    teacher = load_checkpoint(folder)
    table = divide(data, teacher)
    test, side = labelled_test(table), teacher.preprocess.size
    database = encode(teacher, test, side)
    store = place.views(folder, data, name, f"--views {STORED} --with-validation")
    plain = f"--size 112 {RECIPE[name]}"
    student = place.distil(folder, data, f"{name}/s112", plain, store)
    file = place.weights / "mobilenetv2_035.safetensors"
    flags = f"--size {side} {RECIPE[name].replace('--keep 0.2 ', '')} --trunk {MOBILE}"
    other = place.distil(
        folder, data, f"{name}/mobile", f"{flags} --weights {shlex.quote(str(file))}", store
    )
    whole = show_whole(teacher, table, place.runs / "views" / f"{name}-whole")
    absolute = "--teacher-student 0 --student-student 0 --feature 0 --neighbours 0"
    plainly = place.distil(folder, data, f"{name}/regression", f"{plain} {absolute}", whole)
    provenance = teacher.provenance["recipe"]["optimisation"]
    with_labels = place.make(
        f"{name}/labels",
        "train-teacher",
        data,
        flags=f"--size 112 --epochs {provenance['epochs']:g} --lr {provenance['lr']:g}",
    )
    asked = encode(load_checkpoint(student), test, 112)
    ours = evaluate_pair("student", asked, database)
    rivals = {
        "architecture": (encode(load_checkpoint(other), test, side), database),
        "regression": (encode(load_checkpoint(plainly), test, 112), database),
        "labels": (encode(load_checkpoint(with_labels), test, 112),) * 2,
    }
    figures: dict[str, float] = {}
    for rival, sides in rivals.items():
        row = evaluate_pair(rival, *sides)
        figures |= flatten_row(f"{name}.{rival}", row.to_json())
        for metric, interval in compare_rows(ours, row).items():
            if metric in ("r1", "map_at_r"):
                key = f"{name}.vs_{rival}" + ("" if metric == "r1" else ".map_at_r")
                figures[f"{key}.diff"] = ours.figures[metric] - row.figures[metric]
                figures[f"{key}.low"], figures[f"{key}.high"] = interval.low, interval.high
    return figures


def measure_ablation(place: StudentPlace) -> dict[str, float]:
    """Distil small students each without, or with another, part of the recipe."""
    data = place.small("cars")
    folder = place.make("small/teacher", "train-teacher", data, flags=SMALL_TEACHER)
    teacher = load_checkpoint(folder)
    test = labelled_test(divide(data, teacher))
    database = encode(teacher, test, 112)
    name = functools.partial("small-{}".format)
    stores = {
        count: place.views(folder, data, name(count), f"--views {count} --with-validation")
        for count in (STORED, *ABLATION_STORED)
    }
    unmixed = place.views(
        folder, data, name("unmixed"), f"--views {STORED} --with-validation --mix 0"
    )
    again = place.views(folder, data, name("again"), f"--views {STORED} --with-validation --seed 1")
    uncoupled = couple_otherwise(stores[STORED], again, place.runs / "views" / name("uncoupled"))
    variants = {title: (flags, stores[STORED]) for title, flags in ABLATION.items()}
    variants |= {f"{count} views stored": ("", stores[count]) for count in ABLATION_STORED}
    variants |= {"uncoupled crops": ("", uncoupled), "no mixing": ("", unmixed)}
    rows: dict[str, EvaluationRow] = {}
    for title, (flags, store) in variants.items():
        found = []
        for seed in SEEDS:
            given = f"{SMALL} {flags} --seed {seed}"
            called = f"small/{title.replace(' ', '-')}-s{seed}"
            student = load_checkpoint(place.distil(folder, data, called, given, store))
            found.append(evaluate_pair(title, encode(student, test, 56), database))
        rows[title] = average_rows(title, found)
    figures = flatten_row(
        "ablation.untrained", evaluate_pair("", encode(teacher, test, 56), database).to_json()
    )
    for title, row in rows.items():
        key = f"ablation.{title.replace(' ', '_')}"
        figures |= flatten_row(key, row.to_json())
        for metric, interval in compare_rows(row, rows["plain"]).items():
            if title != "plain" and metric in ("r1", "map_at_r"):
                shown = f"{key}.minus_plain.{metric}"
                figures[shown] = row.figures[metric] - rows["plain"].figures[metric]
                figures[f"{shown}.low"], figures[f"{shown}.high"] = interval.low, interval.high
    return figures


TABLES: dict[str, Callable[[StudentPlace], dict[str, float]]] = {
    "ablation": measure_ablation,
    **{f"{name}-sizes": functools.partial(measure_families, name=name) for name in SIZES},
    **{f"{name}-claims": functools.partial(measure_claims, name=name) for name in ("cars", "cub")},
}
