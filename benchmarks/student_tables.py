"""The tables of students, as Markdown, from the figures that `students.py` recorded."""

from other_terms import REPLACED
from student_ablation import ABLATION, ABLATION_STORED, TEACHER_SIZES
from student_queue import ELASTIC, SIZES, TESTED, TESTED_TEACHER
from students import STUDENTS, TEACHERS
from teacher_tables import Figures, make_table, show

_SETS = {"cars": "Cars", "cub": "Birds"}
_RIVALS = {
    "architecture": "MobileNetV2 0.35 at 224 px, distilled as ours",
    "regression": "ours at 112 px by plain regression of whole pictures",
    "labels": "ours at 112 px trained with labels, searching itself",
}


def _both(figures: Figures, key: str) -> list[str]:
    return [show(figures, f"{key}.{metric}") for metric in ("r1", "map_at_r")]


def show_difference(figures: Figures, key: str) -> str:
    """Return a paired difference with its 95 % interval; a dash where it was not measured."""
    if f"{key}.low" not in figures:
        return "–"
    value = figures[key] if key in figures else figures[f"{key}.diff"]
    return f"{value:+.1f} [{figures[f'{key}.low']:+.1f}, {figures[f'{key}.high']:+.1f}]"


def format_sizes(figures: Figures, name: str) -> str:
    """Return the students of a set by size, beside the teacher's weights fed as few pixels."""
    rows = []
    for size in sorted(SIZES[name]):
        won = [figures.get(f"{name}.s{size}.won_back.{metric}") for metric in ("r1", "map_at_r")]
        rows.append(
            [
                f"{size} px",
                *_both(figures, f"{name}.untrained{size}.asym"),
                *_both(figures, f"{name}.s{size}.asym"),
                *("–" if share is None else f"{share:.0%}" for share in won),
                *_both(figures, f"{name}.elastic.{size}.asym"),
            ]
        )
    rows.append(["teacher", "", "", *_both(figures, f"{name}.teacher.sym"), "", "", "", ""])
    columns = ["query"]
    columns += [f"untrained: {metric}" for metric in ("R@1", "MAP@R")]
    columns += [f"student: {metric}" for metric in ("R@1", "MAP@R")]
    columns += [f"of the loss won back: {metric}" for metric in ("R@1", "MAP@R")]
    columns += [f"one student for all: {metric}" for metric in ("R@1", "MAP@R")]
    if f"{name}.elastic.{ELASTIC[0]}.asym.r1" not in figures:
        columns, rows = columns[:-2], [row[:-2] for row in rows]
    return make_table(columns, rows if f"{name}.teacher.sym.r1" in figures else [])


def format_claims(figures: Figures) -> str:
    """Return rivals of the student at 112 px, and how much more it finds, paired by query."""
    rows = []
    for key, title in _RIVALS.items():
        cells = []
        for name in _SETS:
            cells += _both(figures, f"{name}.{key}")
            cells += [show_difference(figures, f"{name}.vs_{key}")]
            cells += [show_difference(figures, f"{name}.vs_{key}.map_at_r")]
        rows.append([title, *cells])
    parts = ("R@1", "MAP@R", "ours − it: R@1", "MAP@R")
    columns = [f"{title}: {part}" for title in _SETS.values() for part in parts]
    return make_table(["instead of the student at 112 px", *columns], rows)


def _format_differences(figures: Figures, titles: dict[str, str], first: str) -> str:
    rows = [
        [
            title,
            *_both(figures, key),
            *(
                show_difference(figures, f"{key}.minus_plain.{metric}")
                for metric in ("r1", "map_at_r")
            ),
        ]
        for key, title in titles.items()
    ]
    return make_table([first, "R@1", "MAP@R", "− plain: R@1", "MAP@R"], rows)


def format_ablation(figures: Figures) -> str:
    """Return students each without, or with another, part of the recipe."""
    names = [*ABLATION, *(f"{count} views stored" for count in ABLATION_STORED)]
    names += ["no mixing", "no mixing, uncoupled crops", *REPLACED]
    titles = {"ablation.untrained": "untrained: the teacher's weights"}
    titles |= {f"ablation.{name.replace(' ', '_')}": name for name in names}
    return _format_differences(figures, titles, "student at 56 px")


def format_conditions(figures: Figures) -> str:
    """Return students of other images, other norms and bigger teachers."""
    titles = {
        "conditions.on_birds": "distilled on birds",
        "conditions.trained_norms": "teacher and student with trained norms",
    }
    for size in TEACHER_SIZES:
        titles[f"conditions.teacher_{size}.sym"] = f"a teacher at {size} px, searching itself"
        titles[f"conditions.teacher_{size}"] = "its student at 56 px"
    return _format_differences(figures, titles, "who searches")


def format_tested(figures: Figures) -> str:
    """Return the student at 112 px and the teacher tested at other sizes than their own."""
    rows = []
    for who, sizes, key in (
        ("student of 112 px", TESTED, "s112.tested{}.asym"),
        ("teacher of 224 px", TESTED_TEACHER, "teacher.tested{}.sym"),
    ):
        for size in sizes:
            cells = [
                cell for name in _SETS for cell in _both(figures, f"{name}.{key.format(size)}")
            ]
            rows.append([f"{who} at {size}", *cells])
    columns = [f"{title}: {metric}" for title in _SETS.values() for metric in ("R@1", "MAP@R")]
    return make_table(["tested", *columns], rows)


def format_store(figures: Figures) -> str:
    """Return what a teacher that looks once saves, against the limit."""
    rows = []
    for size in TEACHERS:
        key = f"store.teacher{size}"
        if f"{key}.limit" not in figures:
            continue
        steps = ", ".join(f"{figures[f'{key}.s{each}_core_ms']:.1f}" for each in STUDENTS)
        rows.append(
            [
                f"{size} px",
                f"{figures[f'{key}.t_core_ms']:.1f}",
                steps,
                *(f"{figures[f'{key}.{part}']:.2f}" for part in ("limit", "speedup", "vs_limit")),
            ]
        )
    sizes = ", ".join(map(str, STUDENTS))
    columns = ["teacher", "its look at a view, core-ms", f"a step of students at {sizes} px"]
    return make_table([*columns, "limit", "times as fast", "share"], rows)


def format_trade_off(figures: Figures) -> str:
    """Return what exported students find and cost."""
    rows = []
    for name, title in _SETS.items():
        for student in (*(f"s{size}" for size in SIZES[name]), "mobile"):
            key = f"{name}.trade_off.{student}"
            if f"{key}.ms" in figures:
                rows.append(
                    [
                        f"{title}, {student}",
                        *_both(figures, key),
                        f"{figures[f'{key}.ms']:.1f}",
                        f"{figures[f'{key}.bytes'] / 1e6:.1f}",
                        f"{figures[f'{key}.macs'] / 1e6:.0f}",
                    ]
                )
    return make_table(["encoder", "R@1", "MAP@R", "ms", "MB", "million MACs"], rows)
