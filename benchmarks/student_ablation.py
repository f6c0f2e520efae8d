"""Small students, each without a part of the recipe, with another one, or under other conditions.

All keep to the first half of the classes of cars: its own first half trains, its second is
searched, by students at 56 px of three seeds.
"""

import functools
from pathlib import Path

from command_queue import SEEDS
from other_stores import uncouple
from other_terms import REPLACED, put_in_place
from record import flatten_row
from student_place import STORED, StudentPlace, divide, encode

from encoder.checkpoint import CONFIG, load_checkpoint
from encoder.datasets.splits import read_table
from encoder.evaluate import labelled_test
from encoder.evaluation.protocol import EvaluationRow, average_rows, compare_rows, evaluate_pair
from encoder.optimisation import Optimisation
from encoder.student import StudentRecipe, distil_student
from encoder.view_store import open_store

TEACHER_SIZE, STUDENT_SIZE = 112, 56
TEACHER = "--epochs 6 --lr 1e-4 --val-share 0"
_EPOCHS, _LR = 4.0, 2e-4
SMALL = f"--size {STUDENT_SIZE} --epochs {_EPOCHS:g} --lr {_LR:g} --with-validation"
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
TEACHER_SIZES = (112, 160, 224)


def judge_seeds(
    place: StudentPlace, folder: Path, data: Path, title: str, flags: str, store: Path
) -> EvaluationRow:
    """Distil a small student with every seed; return the mean row of their searches."""
    teacher = load_checkpoint(folder)
    test = labelled_test(divide(place.small("cars"), teacher))
    database = encode(teacher, test, teacher.preprocess.size)
    found = []
    for seed in SEEDS:
        name = f"small/{title.replace(' ', '-')}-s{seed}"
        if title in REPLACED:
            student = _distil_otherwise(place, folder, data, name, title, store, seed)
        else:
            student = place.distil(folder, data, name, f"{SMALL} {flags} --seed {seed}", store)
        asked = encode(load_checkpoint(student), test, STUDENT_SIZE)
        found.append(evaluate_pair(title, asked, database))
    return average_rows(title, found)


def _distil_otherwise(
    place: StudentPlace, folder: Path, data: Path, name: str, title: str, store: Path, seed: int
) -> Path:
    """Distil as the command does, but for a term that it does not have."""
    output = place.runs / name
    place.commands.append(f"as cli distill {SMALL} --seed {seed}, with {title}: {name}")
    if not (output / CONFIG).exists():
        teacher = load_checkpoint(folder)
        recipe = StudentRecipe(
            size=STUDENT_SIZE,
            optimisation=Optimisation(epochs=_EPOCHS, lr=_LR, head_factor=1.0),
            with_validation=True,
            seed=seed,
        )
        table = divide(data, teacher)
        with put_in_place(title):
            distil_student(
                teacher, table, recipe, output, store=open_store(store), overwrite=True, resume=True
            )
    return output


def flatten_differences(key: str, row: EvaluationRow, plain: EvaluationRow) -> dict[str, float]:
    """Return a row's figures, and how they differ from the plain one's, paired by query."""
    figures = flatten_row(key, row.to_json())
    for metric, interval in compare_rows(row, plain).items():
        if metric in ("r1", "map_at_r"):
            shown = f"{key}.minus_plain.{metric}"
            figures[shown] = row.figures[metric] - plain.figures[metric]
            figures[f"{shown}.low"], figures[f"{shown}.high"] = interval.low, interval.high
    return figures


def make_teacher(place: StudentPlace, size: int, flags: str = "") -> Path:
    """Train a teacher of the small cars at a size."""
    name = f"small/teacher-{size}{flags.replace(' ', '-')}"
    return place.make(
        name, "train-teacher", place.small("cars"), flags=f"--size {size} {TEACHER} {flags}"
    )


def store_views(place: StudentPlace, teacher: Path, data: Path, *flags: str) -> Path:
    """Let a small teacher look at views of a set."""
    shown = " ".join((f"--views {STORED}", *flags))
    name = f"{teacher.name}-{data.name}{''.join(flags).replace(' ', '')}"
    return place.views(teacher, data, name, f"{shown} --with-validation")


def measure_ablation(place: StudentPlace) -> dict[str, float]:
    """Distil small students each without, or with another, part of the recipe."""
    data = place.small("cars")
    folder = make_teacher(place, TEACHER_SIZE)
    store = functools.partial(store_views, place, folder, data)
    plain_store, unmixed = store(), store("--mix 0")
    uncoupled = uncouple(unmixed, place.runs / "views/small-uncoupled")
    variants = {title: (flags, plain_store) for title, flags in ABLATION.items()}
    variants |= {f"{n} views stored": ("", store(f"--views {n}")) for n in ABLATION_STORED}
    variants |= {"no mixing": ("", unmixed), "no mixing, uncoupled crops": ("", uncoupled)}
    variants |= dict.fromkeys(REPLACED, ("", plain_store))
    rows = {
        title: judge_seeds(place, folder, data, title, flags, views)
        for title, (flags, views) in variants.items()
    }
    teacher = load_checkpoint(folder)
    test = labelled_test(divide(data, teacher))
    database = encode(teacher, test, TEACHER_SIZE)
    untrained = evaluate_pair("untrained", encode(teacher, test, STUDENT_SIZE), database)
    figures = flatten_row("ablation.untrained", untrained.to_json())
    for title, row in rows.items():
        key = f"ablation.{title.replace(' ', '_')}"
        figures |= flatten_differences(key, row, rows["plain"])
    return figures


def measure_conditions(place: StudentPlace) -> dict[str, float]:
    """Distil small students from images of birds, with trained norms, of bigger teachers.

    On birds as many steps are made as on cars.
    """
    cars, figures = place.small("cars"), dict[str, float]()
    folder = make_teacher(place, TEACHER_SIZE)
    plain = judge_seeds(place, folder, cars, "plain", "", store_views(place, folder, cars))
    birds = place.small("cub")
    known = divide(cars, load_checkpoint(folder)).split("train")
    epochs = _EPOCHS * len(known) / len(read_table(birds))
    row = judge_seeds(
        place,
        folder,
        birds,
        "on birds",
        f"--epochs {epochs:.3f}",
        store_views(place, folder, birds),
    )
    figures |= flatten_differences("conditions.on_birds", row, plain)
    for title, size, flags in (
        *((f"teacher {size}", size, "") for size in TEACHER_SIZES),
        ("trained norms", TEACHER_SIZE, "--batch-norm trained"),
    ):
        guide = make_teacher(place, size, flags)
        key = f"conditions.{title.replace(' ', '_')}"
        teacher = load_checkpoint(guide)
        own = encode(teacher, labelled_test(divide(cars, teacher)), size)
        figures |= flatten_row(f"{key}.sym", evaluate_pair("", own, own).to_json())
        row = judge_seeds(place, guide, cars, title, "", store_views(place, guide, cars))
        figures |= flatten_differences(key, row, plain)
    return figures
