"""Write the tables of README and docs from the committed results: `python benchmarks/tables.py`."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import compatible_tables
import device_tables
import index_tables
import student_tables
import teacher_tables
from teacher_tables import show

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_SETS = {"cars": "Cars, 98 test classes", "cub": "Birds, 50 test classes"}
_ROWS = {
    "teacher.sym": "teacher 224, searching itself",
    "untrained_small.asym": "untrained: teacher's weights at 112, searching the teacher",
    "student.asym": "**student 112, searching the teacher**",
    "student.sym": "student 112, searching itself",
}


def read_figures(name: str) -> dict[str, float]:
    """Return the figures of a result file."""
    figures: dict[str, float] = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    return figures


def format_real_images() -> str:
    """Return the table of the first chain on real images."""
    figures = read_figures("first-chain")
    lines = [
        "| who searches whom | " + " | ".join(f"{t}: R@1 | MAP@R" for t in _SETS.values()) + " |",
        "|---|" + "---|" * (2 * len(_SETS)),
    ]
    for key, title in _ROWS.items():
        cells = []
        for name in _SETS:
            cells += [show(figures, f"{name}.{key}.{metric}") for metric in ("r1", "map_at_r")]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_speed() -> str:
    """Return the table of speed against the limit."""
    chain, teachers = read_figures("first-chain"), read_figures("teachers")
    lines = ["| what | measured | limit | share |", "|---|---|---|---|"]
    for figures, key, title, unit in (
        (chain, "encode", "database encoding, 224 px", "images"),
        (chain, "train", "student training, views at 224 and 112 px", "views"),
        (teachers, "train", "teacher training, views at 224 px", "images"),
    ):
        if f"{key}.vs_limit" not in figures:
            lines.append(f"| {title} | not yet measured | | |")
            continue
        found, limit = figures[f"{key}.{unit}_per_s"], figures[f"{key}.limit_{unit}_per_s"]
        share = figures[f"{key}.vs_limit"]
        lines.append(f"| {title} | {found:.0f} {unit}/s | {limit:.0f} | {share:.2f} |")
    return "\n".join(lines)


def format_off_the_shelf() -> str:
    """Return the table of ImageNet features without training, under both preprocessings."""
    figures = read_figures("evaluation")
    lines = [
        "| input | resize | " + " | ".join(f"{t}: R@1 | MAP@R" for t in _SETS.values()) + " |",
        "|---|---|" + "---|" * (2 * len(_SETS)),
    ]
    for size in (224, 128):
        for key, title in (("", "Pillow, bicubic"), (".own", "this project's, bilinear")):
            cells = [
                show(figures, f"offtheshelf.{name}.{size}{key}.{metric}")
                for name in _SETS
                for metric in ("r1", "map_at_r")
            ]
            lines.append(f"| {size} px | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_search() -> str:
    """Return the table of exact search over 60,502 items."""
    figures = read_figures("evaluation")
    product = figures["knn60k.matmul_s"]
    rows = (
        ("the matrix product alone", product),
        ("10 neighbours each", product * figures["knn60k.k10.vs_matmul"]),
        ("1,000 neighbours each", figures["knn60k.k1000_s"]),
        (
            "1,000 each, of queries that are not the database",
            product * figures["knn60k.apart.vs_matmul"],
        ),
        ("whole rankings (mAP)", figures["knn60k.whole_ranking_s"]),
    )
    lines = ["| 60,502 × 60,502 × 512 | seconds | ÷ product |", "|---|---|---|"]
    lines += [f"| {title} | {value:.1f} | {value / product:.2f} |" for title, value in rows]
    return "\n".join(lines)


def format_query() -> str:
    """Return the table of a query's milliseconds, against what people do otherwise."""
    figures = read_figures("query_latency")
    ours = figures["query.ms.query"]
    rows = (
        ("this toolkit: reduced decode, resize in the graph, student at 112 px", "query"),
        ("the same in int8", "query_int8"),
        ("the limit: reduced decode and the network, each alone", ""),
        ("the student exported as it comes: whole decode, Pillow, numpy, fp32 ONNX", "naive"),
        ("ordinary: whole decode, torchvision, the teacher at 224 px in PyTorch", "ordinary"),
    )
    lines = ["| one photo of 4000×3000, one thread | ms | ÷ ours |", "|---|---|---|"]
    for title, key in rows:
        ms = figures[f"query.ms.{key}"] if key else ours * figures["query.vs_limit"]
        lines.append(f"| {title} | {ms:.1f} | {ms / ours:.2f} |")
    return "\n".join(lines)


def format_recorded(name: str, table: Callable[[dict[str, float]], str]) -> str:
    """Return a table of the figures of a result file."""
    return table(read_figures(name))


TABLES: dict[str, Callable[[], str]] = {
    "real-images": format_real_images,
    "speed": format_speed,
    "off-the-shelf": format_off_the_shelf,
    "search": format_search,
    "query": format_query,
    "devices": partial(format_recorded, "devices", device_tables.format_devices),
    "teachers": partial(format_recorded, "teachers", teacher_tables.format_full),
    "losses": partial(format_recorded, "teachers", teacher_tables.format_losses),
    "shares": partial(format_recorded, "teachers", teacher_tables.format_shares),
    "dims": partial(format_recorded, "teachers", teacher_tables.format_dims),
    "flowers": partial(format_recorded, "teachers", teacher_tables.format_flowers),
    "guided": partial(format_recorded, "teachers", teacher_tables.format_guided),
    "many-classes": partial(format_recorded, "teachers", teacher_tables.format_many_classes),
    **{
        f"students-{name}": partial(
            format_recorded, "students", partial(student_tables.format_sizes, name=name)
        )
        for name in student_tables.SIZES
    },
    **{
        f"compatible-{'full' if full else 'small'}-{name}": partial(
            format_recorded,
            "compatible",
            partial(compatible_tables.format_methods, name=name, full=full),
        )
        for name in ("cars", "cub")
        for full in (True, False)
    },
    "compatible-students": partial(
        format_recorded, "compatible", partial(compatible_tables.format_students, name="cars")
    ),
    "backfill": partial(format_recorded, "compatible", compatible_tables.format_backfill),
    "index-sizes": partial(format_recorded, "server_index", index_tables.format_sizes),
    "index-codes": partial(format_recorded, "server_index", index_tables.format_codes),
    "index-speed": partial(format_recorded, "server_index", index_tables.format_database),
    "claims": partial(format_recorded, "students", student_tables.format_claims),
    "ablation": partial(format_recorded, "students", student_tables.format_ablation),
    "conditions": partial(format_recorded, "students", student_tables.format_conditions),
    "tested-sizes": partial(format_recorded, "students", student_tables.format_tested),
    "view-store": partial(format_recorded, "students", student_tables.format_store),
    "trade-off": partial(format_recorded, "students", student_tables.format_trade_off),
}


CHARTS: dict[str, Callable[[], str]] = {
    "index-sizes.svg": partial(format_recorded, "server_index", index_tables.draw_chart),
}


def fill(text: str) -> str:
    """Return the text with every marked table made anew."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        if re.search(pattern, text, re.DOTALL):
            made = table()
            text = re.sub(
                pattern, lambda m, made=made: m[1] + made + "\n" + m[2], text, flags=re.DOTALL
            )
    return text


def list_documents() -> list[Path]:
    """Return the files whose tables are made."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for document in list_documents():
        document.write_text(fill(document.read_text()))
    for picture, draw in CHARTS.items():
        (ROOT / "docs" / "images" / picture).write_text(draw())
