"""README and docs say what the code does and what was measured."""

import re
import shlex
import shutil
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
        "images = tables.ROOT / 'docs' / 'images'\n"
        "stale += [name for name, draw in tables.CHARTS.items()\n"
        "          if draw() != (images / name).read_text()]\n"
        "sys.exit(f'run python benchmarks/tables.py: {stale} differ' if stale else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_results_name_no_place_of_a_machine() -> None:
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        assert not re.findall(r"[\s\"'=](/\w[\w./-]*)", file.read_text()), file.name


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


def test_the_commands_of_the_readme_run(tmp_path: Path, drawn: Path) -> None:
    """Trainings are made small; all else is as it is written."""
    shutil.copytree(drawn, tmp_path / "photos")
    shutil.copy(sorted(drawn.rglob("*.jpg"))[0], tmp_path / "photo.jpg")
    small = {
        "train-teacher": "--size 48 --epochs 1 --batch 8 --images-per-class 2 --dim 8",
        "distill": "--size 32 --epochs 1",
    }
    text = (ROOT / "README.md").read_text()
    block = next(each for each in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "cli" in each)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [words[1] for words in lines] == [
        ".venv/bin/activate", "train-teacher", "distill", "evaluate", "export", "build-index",
        "search",
    ]  # fmt: skip
    for name, *arguments in lines[1:]:
        assert name == "cli"
        arguments += small.get(arguments[0], "").split()
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (arguments, done.stderr)
    assert "rank" in done.stdout


def test_the_commands_of_the_database_guide_run(tmp_path: Path, saved: Path, drawn: Path) -> None:
    pictures = sorted(drawn.rglob("*.jpg"))
    for name, some in (("photos/cat", pictures[:9]), ("more", pictures[9:12])):
        (tmp_path / name).mkdir(parents=True)
        for n, picture in enumerate(some):
            shutil.copy(picture, tmp_path / name / f"{n:03d}.jpg")
    shutil.copy(pictures[0], tmp_path / "photo.jpg")
    shutil.copytree(saved / "teacher", tmp_path / "teacher")
    run = [sys.executable, str(ROOT / "cli.py")]
    subprocess.run([*run, "export", saved / "student", tmp_path / "query"], check=True)
    text = (ROOT / "docs" / "database.md").read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len([line for line in lines if line]) == 8
    for line in filter(None, lines):
        name, *arguments = shlex.split(line)
        assert name == "cli"
        done = subprocess.run([*run, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    made = "import numpy as np\nvectors = np.eye(32, dtype=np.float32)[:2]\n"
    check = "assert len(hits) == 2 and hits[0][0].item.metadata['label'] == 'cat'\n"
    done = subprocess.run(
        [sys.executable, "-c", made + code + check], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_commands_of_the_compatibility_guide_run(tmp_path: Path, drawn: Path) -> None:
    """Trainings are made small; all else is as it is written."""
    shutil.copytree(drawn, tmp_path / "photos")
    small = "--size 48 --epochs 1 --batch 8 --images-per-class 2 --dim 8 --test-share 0.25"
    run = [sys.executable, str(ROOT / "cli.py")]
    first = ["train-teacher", "photos", "old", *small.split()]
    for line in (first, ["build-index", "photos", "index", "--encoder", "old"]):
        subprocess.run([*run, *line], cwd=tmp_path, check=True)
    text = (ROOT / "docs" / "compatible.md").read_text()
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    assert len([line for line in lines if line]) == 5
    for line in filter(None, lines):
        name, *arguments = shlex.split(line)
        assert name == "cli"
        if arguments[0] == "train-compatible":
            arguments += small.split()
        done = subprocess.run([*run, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (line, done.stderr)
    assert "in space" in done.stdout
