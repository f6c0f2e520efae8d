"""The tables of teachers, as Markdown, from the figures that `teachers.py` recorded."""

from collections.abc import Iterable, Sequence

from teacher_queue import DIMS, LOSSES, SHARES, SHIFTS, SHOTS, SIZES, STORAGES, TRUNKS
from teachers import SHARES as STEP_SHARES

Figures = dict[str, float]
_UNMEASURED = "Not measured yet."
_SETS = {"cars": "Cars", "cub": "Birds"}
_CONDITIONS = {
    "in_domain": "unseen cars",
    "birds": "birds",
    "blurred": "cars, blurred",
    "recoloured": "cars, red and blue exchanged",
    "tiny": "cars of 32 px",
}


def show(figures: Figures, key: str) -> str:
    """Return a figure with half of its 95 % interval; a dash where it was not measured."""
    if key not in figures:
        return "–"
    half = (figures[f"{key}.high"] - figures[f"{key}.low"]) / 2
    return f"{figures[key]:.1f} ±{half:.1f}"


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; rows of which nothing was measured are left out."""
    kept = [row for row in rows if set(row[1:]) != {"–"}]
    if not kept:
        return _UNMEASURED
    lines = [columns, ["---"] * len(columns), *kept]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _both(figures: Figures, key: str) -> list[str]:
    return [show(figures, f"{key}.{metric}") for metric in ("r1", "map_at_r")]


def _set_columns() -> list[str]:
    return [f"{title}: {metric}" for title in _SETS.values() for metric in ("R@1", "MAP@R")]


def format_full(figures: Figures) -> str:
    """Return the recorded teachers, what their vectors lose when stored small, and no labels."""
    titles = {
        "label_free": "no labels: ImageNet's features, half whitened",
        "teacher": "trained, float",
        "binary512": "trained, signs against signs (64 bytes)",
        "float_binary512": "trained, float query against signs",
        "matryoshka128": "trained, first 128 dimensions",
    }
    rows = (
        [title, *(cell for name in _SETS for cell in _both(figures, f"{name}.{key}"))]
        for key, title in titles.items()
    )
    return make_table(["teacher at 224 px, 512 dimensions", *_set_columns()], rows)


def format_losses(figures: Figures) -> str:
    """Return the losses at equal budget."""
    rows = ([f"`{loss}`", *_both(figures, f"cars.loss.{loss}")] for loss in LOSSES)
    return make_table(["loss", "R@1", "MAP@R"], rows)


def format_shares(figures: Figures) -> str:
    """Return softmaxes over shares of the classes."""
    rows = ([f"{share:.0%}", *_both(figures, f"cars.share.{share:g}")] for share in SHARES)
    return make_table(["share of the other classes a step", "R@1", "MAP@R"], rows)


def format_dims(figures: Figures) -> str:
    """Return dimensions, float and as signs."""
    rows = (
        [str(dim), *(c for s in STORAGES for c in _both(figures, f"cars.dim.{dim}.{s}"))]
        for dim in DIMS
    )
    titles = ("float", "signs", "float query, signs")
    columns = [f"{title}: {metric}" for title in titles for metric in ("R@1", "MAP@R")]
    return make_table(["dimensions", *columns], rows)


def format_flowers(figures: Figures) -> str:
    """Return what sizes and trunks buy."""
    rows = []
    for trunk in TRUNKS:
        short = trunk.rpartition("_")[2]
        for size in SIZES:
            key = f"flowers.{short}.{size}"
            cost = figures.get(f"{key}.core_ms")
            rows.append(
                [
                    f"Lite{short[-1]}, {size} px",
                    *_both(figures, key),
                    "–" if cost is None else f"{cost:.0f}",
                ]
            )
    return make_table(["teacher", "R@1", "MAP@R", "core-ms an image"], rows)


def format_guided(figures: Figures) -> str:
    """Return few-shot teachers alone and guided, and the paired difference in MAP@R."""
    rows = []
    for shots in SHOTS:
        for condition in ("in_domain", "birds", *SHIFTS):
            key = f"guided.{shots}_shot.{condition}"
            alone, guided = (show(figures, f"{key}.{k}.map_at_r") for k in ("unguided", "guided"))
            gain = f"{key}.minus_unguided.map_at_r"
            difference = "–"
            if gain in figures:
                low, high = figures[f"{gain}.low"], figures[f"{gain}.high"]
                difference = f"{figures[gain]:+.2f} [{low:+.2f}, {high:+.2f}]"
            rows.append([f"{shots}, {_CONDITIONS[condition]}", alone, guided, difference])
    columns = ["images a class, tested on", "alone: MAP@R", "guided: MAP@R", "difference"]
    return make_table(columns, rows)


def format_many_classes(figures: Figures) -> str:
    """Return what a step against a million classes costs."""
    rows = []
    for share in STEP_SHARES:
        key = f"subsampled.{share:g}.step_ms"
        if key in figures:
            count = share * figures["subsampled.classes"]
            rows.append([f"{share:.1%}", f"{count:,.0f}", f"{figures[key]:.0f}"])
    return make_table(["share a step", "proxies a step", "ms a step"], rows)
