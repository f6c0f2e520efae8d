"""The program run in this process, as tests of the command line meet it."""

import sys

import pytest

import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the program: exit code, standard output, standard error."""
    sys.argv = ["cli", *map(str, arguments)]
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def succeed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run and expect exit code 0; return standard output."""
    code, out, errors = run(capsys, *arguments)
    assert code == 0, errors
    return out


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run and expect exit code 2 with one line of error; return it."""
    code, _, errors = run(capsys, *arguments)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1, errors
    assert "Traceback" not in errors
    return lines[0]
