"""The distillations behind the tables of students, as a queue: finished ones are skipped.

The recorded students learn from the whole first half of a set's classes (their recipes are chosen
elsewhere) and search, on the second half, the database of the recorded teacher of that set.
"""

import functools
import json
import shlex
from collections.abc import Callable

from other_stores import show_whole
from record import RESULTS, flatten_row, run_cli
from student_ablation import measure_ablation, measure_conditions
from student_place import STORED, StudentPlace, divide, encode
from teacher_queue import FULL

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.evaluate import labelled_test
from encoder.evaluation.protocol import compare_rows, evaluate_pair

IMAGES = RESULTS.parent.parent / "docs" / "images"
# Where the queue of teachers leaves them.
TEACHERS = {"cars": "full/cars", "cub": "full/cub", "flowers": "flowers/lite0.384"}
SIZES = {"cars": (56, 96, 112, 128, 160), "cub": (56, 96, 112, 128, 160), "flowers": (96, 128, 192)}
_LITE0 = "--trunk tf_efficientnet_lite0"
RECIPE = {
    "cars": f"--epochs 10 --lr 2e-4 --with-validation {_LITE0}",
    "cub": f"--epochs 16 --lr 2e-4 --with-validation {_LITE0}",
    "flowers": f"--epochs 16 --lr 2e-4 --with-validation {_LITE0}",
}
KEEP = {"cub": "--keep 0.2"}
# The teacher's training for the network of the student, which costs less: more passes.
WITH_LABELS = {"cars": f"--size 112 {_LITE0}", "cub": f"--size 112 --epochs 7 {_LITE0}"}
ELASTIC = (96, 112, 128, 160)
# Of steps that each serve one of the sizes an elastic student takes more; fewer than all apart.
ELASTIC_PASSES = 2.0
MOBILE = "mobilenetv2_035:pad_type=same,mean=0.5,std=0.5"
# Sizes that the student at 112 px and the teacher are tested at (the FixRes effect).
TESTED = (80, 96, 112, 128, 144)
TESTED_TEACHER = (176, 192, 224, 256, 288)


def measure_families(place: StudentPlace, name: str) -> dict[str, float]:
    """Distil a student at each size, and one for all, from views the teacher looked at once."""
    data, folder = place.data / name, place.teachers / TEACHERS[name]
    teacher = load_checkpoint(folder)
    recipe = f"{RECIPE[name]} {KEEP.get(name, '')}"
    test = labelled_test(divide(data, teacher))
    store = place.views(folder, data, name, f"--views {STORED} --with-validation")
    database = encode(teacher, test, teacher.preprocess.size)
    figures = flatten_row(f"{name}.teacher.sym", evaluate_pair("", database, database).to_json())

    def judge(key: str, checkpoint: Checkpoint, size: int) -> None:
        row = evaluate_pair("", encode(checkpoint, test, size), database)
        figures.update(flatten_row(f"{name}.{key}.asym", row.to_json()))

    for size in SIZES[name]:
        flags = f"--size {size} {recipe}"
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
        flags = f"--size {largest} {given} {_lengthen(recipe, ELASTIC_PASSES)}"
        elastic = load_checkpoint(place.distil(folder, data, f"{name}/elastic", flags, store))
        for size in ELASTIC:
            judge(f"elastic.{size}", elastic, size)
        narrow = load_checkpoint(place.runs / f"{name}/s112")
        for size in TESTED:
            judge(f"s112.tested{size}", narrow, size)
        for size in TESTED_TEACHER:
            tested = encode(teacher, test, size)
            row = evaluate_pair("", tested, tested)
            figures.update(flatten_row(f"{name}.teacher.tested{size}.sym", row.to_json()))
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
    data, folder = place.data / name, place.teachers / TEACHERS[name]
    teacher = load_checkpoint(folder)
    table = divide(data, teacher)
    test, side = labelled_test(table), teacher.preprocess.size
    database = encode(teacher, test, side)
    store = place.views(folder, data, name, f"--views {STORED} --with-validation")
    plain = f"--size 112 {RECIPE[name]} {KEEP.get(name, '')}"
    student = place.distil(folder, data, f"{name}/s112", plain, store)
    file = place.weights / "mobilenetv2_035.safetensors"
    flags = f"--size {side} {RECIPE[name].replace(_LITE0, f'--trunk {MOBILE}')}"
    other = place.distil(
        folder, data, f"{name}/mobile", f"{flags} --weights {shlex.quote(str(file))}", store
    )
    whole = show_whole(teacher, table, place.runs / "views" / f"{name}-whole")
    absolute = "--teacher-student 0 --student-student 0 --feature 0 --neighbours 0"
    plainly = place.distil(folder, data, f"{name}/regression", f"{plain} {absolute}", whole)
    with_labels = place.make(
        f"{name}/labels", "train-teacher", data, flags=f"{FULL[name]} {WITH_LABELS[name]}"
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


def measure_trade_off(place: StudentPlace, name: str) -> dict[str, float]:
    """Export the students and rivals of a set; compare, time and draw them."""
    data, teacher = place.data / name, place.teachers / TEACHERS[name]
    students = [f"s{size}" for size in SIZES[name]] + ["mobile"]
    bundles = [
        place.make(f"{name}/bundles/{student}", "export", place.runs / name / student)
        for student in students
    ]
    found = place.runs / name / "trade-off.json"
    chart = IMAGES / f"trade-off-{name}.svg"
    shown = ("--json", str(found), "--plot", str(chart), "--split", "test")
    run_cli("pareto", str(data), *map(str, bundles), "--teacher", str(teacher), *shown)
    figures: dict[str, float] = {}
    for each in json.loads(found.read_text())["candidates"]:
        student = students[[bundle.name in each["name"] for bundle in bundles].index(True)]
        key = f"{name}.trade_off.{student}"
        figures |= flatten_row(key, each)
        figures |= {f"{key}.{cost}": each[cost] for cost in ("ms", "p95_ms", "bytes", "macs")}
    return figures


TABLES: dict[str, Callable[[StudentPlace], dict[str, float]]] = {
    "ablation": measure_ablation,
    "conditions": measure_conditions,
    **{f"{name}-sizes": functools.partial(measure_families, name=name) for name in SIZES},
    **{f"{name}-claims": functools.partial(measure_claims, name=name) for name in ("cars", "cub")},
    **{
        f"{name}-trade-off": functools.partial(measure_trade_off, name=name)
        for name in ("cars", "cub")
    },
}
