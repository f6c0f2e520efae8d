"""README and docs say what the code does and what was measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_are_made_from_the_committed_results() -> None:
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import tables\n"
        "texts = {d.name: d.read_text() for d in tables.list_documents()}\n"
        "stale = [name for name, text in texts.items() if tables.fill(text) != text]\n"
        "sys.exit(f'run python benchmarks/tables.py: {stale} differ' if stale else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_benchmark_can_be_imported() -> None:
    """They follow the packages, though no test runs them."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    code = f"import sys; sys.path.insert(0, 'benchmarks'); import {', '.join(names)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_every_command_in_the_readme_exists_and_every_command_is_in_it() -> None:
    from typer.main import get_command

    import cli

    known = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^\| `cli ([\w-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == known


def test_modules_in_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for cell in re.findall(r"^\| (`(?:encoder|export|server_index)\.[^|]*) \|", text, re.MULTILINE):
        names = re.findall(r"`([\w.]+)`", cell)
        room = names[0].split(".")[0]
        for name in names:
            path = ROOT / (name if "." in name else f"{room}.{name}").replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_readmes_python_runs(tmp_path: Path, student: object, drawn: Path) -> None:
    from encoder.checkpoint import Checkpoint
    from export.bundle import export_bundle
    from export.variants import Variant

    assert isinstance(student, Checkpoint)
    (tmp_path / "demo-run").mkdir()
    export_bundle([Variant(student)], tmp_path / "demo-run/query")
    (tmp_path / "photo.jpg").write_bytes(sorted(drawn.rglob("*.jpg"))[0].read_bytes())
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
