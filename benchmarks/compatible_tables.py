"""The tables of compatible teachers, as Markdown, from what `compatible.py` recorded."""

from compatible_queue import SETTINGS, name_setting
from teacher_tables import Figures, make_table, show

from encoder.evaluation.protocol import COMPARED

_METHODS = {
    "dual_tuning": "dual-tuning",
    "bct": "bct",
    "lce": "lce",
    "regression": "regression",
    "forward": "forward transform",
    "forward_whole": "forward transform, from whole images only (`--crops 0`)",
    "forward_and_old": "forward transform, and the old encoder asked too",
}
_VARIANTS = {
    "plain_prototypes": "plain prototypes (`--trim 0 --no-weigh`)",
    "not_turned": "not turned at the start (`--no-turn`)",
    "papers_weights": "the paper's weights, at temperature 0.07",
}
_TITLES = {
    "update": "update: 40 % of the classes to all",
    "trunk": "another trunk and dimension",
    "apart": "no class in common",
}


def format_methods(figures: Figures, name: str, *, full: bool) -> str:
    """Return a set's table: every setting, every method."""
    rows: list[list[str]] = []
    for setting in SETTINGS:
        key = name_setting(name, setting, full=full)
        pair = [show(figures, f"{key}.old_old.{metric}") for metric in COMPARED]
        rows.append([f"**{_TITLES[setting]}**: old → old", *pair, "–", "–"])
        alone = [show(figures, f"{key}.independent.{metric}") for metric in COMPARED]
        rows.append(["independent: new → new", "–", "–", *alone])
        for method, title in {**_METHODS, **({} if full else _VARIANTS)}.items():
            cells = [
                _with_difference(figures, f"{key}.{method}.{pair}", base, metric)
                for pair, base in (("new_old", "minus_old"), ("new_new", "minus_independent"))
                for metric in COMPARED
            ]
            rows.append([title, *cells])
    columns = [
        "new query by",
        "old database: R@1",
        "MAP@R",
        "own database: R@1",
        "MAP@R",
    ]
    return make_table(columns, [row for row in rows if set(row[1:]) != {"–"}])


def _with_difference(figures: Figures, key: str, base: str, metric: str) -> str:
    """Return a figure, and its difference to what it is compared with."""
    if f"{key}.{metric}" not in figures:
        return "–"
    found = f"{key}.{base}.{metric}"
    ends = f"{figures[f'{found}.low']:+.1f} to {figures[f'{found}.high']:+.1f}"
    return f"{figures[f'{key}.{metric}']:.1f}; {figures[found]:+.1f} ({ends})"


def format_backfill(figures: Figures) -> str:
    """Return what is found on average while a database is encoded anew, by order."""
    rows = []
    for order in ("random", "margin", "doubt"):
        cells = []
        for name in ("cars", "cub"):
            for metric in COMPARED:
                key = f"backfill.{name}.{order}.{metric}"
                if key not in figures:
                    cells.append("–")
                    continue
                low, high = (figures[f"{key}.over_random.{end}"] for end in ("low", "high"))
                gain = "" if order == "random" else f" ({low:+.2f} to {high:+.2f})"
                cells.append(f"{figures[key]:.2f}{gain}")
        rows.append([order, *cells])
    columns = ["order", "cars: R@1", "cars: MAP@R", "birds: R@1", "birds: MAP@R"]
    return make_table(columns, rows)


_STUDENTS = {
    "old_old": "old student, old database",
    "new_old": "new student, old database",
    "new_new": "new student, new database",
    "old_new": "old student, new database",
}


def format_students(figures: Figures, name: str) -> str:
    """Return who of the students may ask which database, and what is found."""
    own, *others = _STUDENTS.items()
    rows = [[own[1], *(show(figures, f"students.{name}.{own[0]}.{each}") for each in COMPARED)]]
    for key, title in others:
        found = f"students.{name}.{key}"
        cells = [_with_difference(figures, found, "minus_old", metric) for metric in COMPARED]
        rows.append([title, *cells])
    return make_table(["query by, in", "R@1", "MAP@R"], rows)
