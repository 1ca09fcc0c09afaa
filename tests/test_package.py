"""What is installed: the names of `import higan`, and a wheel that needs nothing of the project's folder."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.scripts import ROOT

import higan

# runs each command of the wheel, by the entry point that pip makes a program of
PROGRAM = """
import importlib.metadata, json, sys
import higan
assert higan.__file__.startswith(sys.path[1]), higan.__file__
points = importlib.metadata.distribution("higan").entry_points.select(group="console_scripts")
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv = [name, *arguments]
    try:
        points[name].load()()
    except SystemExit as stop:
        assert not stop.code, (name, stop.code)
"""
COMMANDS = [
    ["higan-synthesize", "stylegan2_rooms", "-N", "24", "--generate_prediction", "-o", "made"],
    [
        "higan-train-boundary", "made/w.npy", "made/attribute.npy", "--score_name", "window", "-N", "8",
        "-o", "own",
    ],
    ["higan-rescore", "stylegan2_rooms", "list.txt", "-N", "2", "-o", "rescored"],
    ["higan-manipulate", "stylegan2_rooms", "list.txt", "-N", "2", "-S", "3", "--generate_html", "-o", "moved"],
    ["higan-simple-manipulate", "stylegan2_rooms", "indoor_lighting", "-N", "2", "-S", "3"],
]  # fmt: skip


def test_every_public_name_is_there_and_listed() -> None:
    assert {"load_generator", "load_predictor", "train_boundary", "rescore", "manipulate"} <= set(higan.__all__)
    for name in higan.__all__:
        assert name in dir(higan)
        assert getattr(higan, name).__name__ == name
    assert "__version__" in dir(higan)
    with pytest.raises(AttributeError, match="module 'higan' has no attribute 'rescoer'"):
        higan.rescoer  # noqa: B018
    for package in ("checkpoints", "generators"):
        module = importlib.import_module(f"higan.{package}")
        assert all(getattr(module, name).__name__ == name for name in module.__all__)
        with pytest.raises(AttributeError, match=f"module 'higan.{package}' has no attribute 'read_network'"):
            module.read_network  # noqa: B018


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("higan", "models", "boundaries"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=folder, check=True)
    (made,) = (folder / "dist").glob("*.whl")
    return made


def test_the_wheel_holds_every_file_and_what_is_shipped(wheel: Path) -> None:
    assert wheel.name.startswith(f"higan-{higan.__version__}-py3")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    files = (path for path in (ROOT / "higan").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    wanted = {path.relative_to(ROOT).as_posix() for path in files}
    wanted |= {f"higan/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "boundaries").glob("*/*_boundary.*")}
    wanted |= {"higan/py.typed", "higan/models/zoo.toml", "higan/models/stylegan2_rooms/stylegan2_rooms.pth"}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests", "models", "boundaries", "build"))]


def test_the_wheel_s_commands_run_in_a_fresh_folder(wheel: Path, tmp_path: Path) -> None:
    installed, folder = tmp_path / "installed", tmp_path / "folder"
    with zipfile.ZipFile(wheel) as content:
        content.extractall(installed)
    folder.mkdir()
    (folder / "list.txt").write_text("(window, w): own/window_boundary.npy\n")
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)], cwd=folder, env=environment, check=True)
    assert (folder / "manipulation_results" / "stylegan2_rooms_indoor_lighting.html").exists()
    assert (folder / "rescored" / "rescore.html").exists() and list((folder / "moved").glob("*.html"))
