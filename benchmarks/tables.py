"""Write the tables of README and docs from the committed results: `python benchmarks/tables.py`."""

import json
import re
from pathlib import Path

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
            for metric in ("r1", "map_at_r"):
                base = f"{name}.{key}.{metric}"
                half = (figures[f"{base}.high"] - figures[f"{base}.low"]) / 2
                cells.append(f"{figures[base]:.1f} ±{half:.1f}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def format_speed() -> str:
    """Return the table of speed against the limit."""
    figures = read_figures("first-chain")
    lines = ["| what | measured | limit | share |", "|---|---|---|---|"]
    for key, title, unit in (
        ("encode", "database encoding, 224 px", "images"),
        ("train", "student training, views at 224 and 112 px", "views"),
    ):
        if f"{key}.vs_limit" not in figures:
            lines.append(f"| {title} | not yet measured | | |")
            continue
        found, limit = figures[f"{key}.{unit}_per_s"], figures[f"{key}.limit_{unit}_per_s"]
        share = figures[f"{key}.vs_limit"]
        lines.append(f"| {title} | {found:.0f} {unit}/s | {limit:.0f} | {share:.2f} |")
    return "\n".join(lines)


TABLES = {"real-images": format_real_images, "speed": format_speed}


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
