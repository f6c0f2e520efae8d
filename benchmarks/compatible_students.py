"""Students of an old and of a compatible teacher, cross-tested: who may ask which database."""

import dataclasses

from compatible_queue import (
    FULL,
    METHODS,
    CompatiblePlace,
    encode,
    flatten_difference,
    lay_out,
    search_old,
    train_all,
)
from record import flatten_row

from encoder.compatibility import load_compatibility
from encoder.evaluation.protocol import evaluate_pair

_DISTILLED = "--size 112 --epochs 4"


def measure_students(place: CompatiblePlace, name: str) -> dict[str, float]:
    """Distil a student of each teacher in the update, and judge all that may ask one another."""
    laid = lay_out(place, place.data / name, name, "update", FULL[name])
    made = train_all(place, laid, f"full/{name}", 0, METHODS[:1])
    teachers = {"old": (made["old"], laid.old), "new": (made["dual-tuning"], laid.new)}
    table = laid.table()
    students, databases = {}, {}
    for key, (teacher, data) in teachers.items():
        distilled = place.make(
            f"full/{name}/student-{key}-s0", "distill", teacher, data, flags=_DISTILLED
        )
        students[key], databases[key] = encode(distilled, table), encode(teacher, table)
    found = load_compatibility(made["dual-tuning"])
    back = found.turn_back()
    # An old student asks the new database as the new space sees its vector.
    turned = dataclasses.replace(students["old"], vectors=back.apply(students["old"].vectors))
    rows = {
        "old_old": evaluate_pair("old", students["old"], databases["old"]),
        "new_old": search_old(found, students["new"], databases["old"]),
        "new_new": evaluate_pair("new", students["new"], databases["new"]),
        "old_new": evaluate_pair("back", turned, databases["new"]),
    }
    figures: dict[str, float] = {}
    for key, row in rows.items():
        figures |= flatten_row(f"students.{name}.{key}", row.to_json())
        if key != "old_old":
            title = f"students.{name}.{key}.minus_old"
            figures |= flatten_difference(title, row, rows["old_old"])
    return figures
