"""The project's scripts, run in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from higan.commands.scripts import run_script

ROOT = Path(__file__).resolve().parents[2]


def load_script(name: str) -> ModuleType:
    """Import the script `name`.py from the project's folder."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> int:
    """Run the script `name`.py with a command line in this process; return its exit status."""
    before = sys.argv
    sys.argv = [f"{name}.py", *map(str, arguments)]
    try:
        run_script(load_script(name).main)
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def assert_refused(capsys: pytest.CaptureFixture[str], expected: str, script: str, *arguments: object) -> None:
    """The script exits with 2 and says why in one line."""
    capsys.readouterr()
    assert run(script, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert expected in lines[0]
