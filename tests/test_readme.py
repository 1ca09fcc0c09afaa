"""The commands and programs printed in the README, run as printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.clip import write_clip
from support.readme import README, command_blocks

from higan.generators.zoo import read_zoo

ROOT = README.parent
TEXT = README.read_text(encoding="utf-8")
BLOCKS = command_blocks(TEXT)
# "first" and "test" install and are run by .ci/run; "long-..." are made of scripts that other tests run in small
RUN_HERE = [name for name in BLOCKS if name not in ("first", "test") and not name.startswith("long-")]
PYTHON_BLOCKS = re.findall(r"^```python ?(\S*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the project's, whose outputs go elsewhere."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("results", "manipulation_results"):
            (tmp_path / entry.name).symlink_to(entry)
    for name, text in PYTHON_BLOCKS:
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


@pytest.mark.parametrize("name", RUN_HERE)
def test_command_runs_as_printed(name: str, checkout: Path) -> None:
    (checkout / "results").mkdir()
    variables = {}
    if name == "words":
        write_clip(checkout / "results" / "models" / "clip-tiny")
        variables["HIGAN_MODELS"] = str(checkout / "results" / "models")
    run(["bash", "-euo", "pipefail", "-c", BLOCKS[name]], checkout, **variables)
    if name == "pipeline":
        for page in ("rescore/rescore.html", "manipulation/window_w_viz.html"):
            assert (checkout / "results" / page).stat().st_size > 10_000
        assert (checkout / "manipulation_results" / "stylegan2_rooms_lamp.html").stat().st_size > 10_000


def test_scripts_from_elsewhere(tmp_path: Path) -> None:
    """By path from another folder, with names beyond ASCII in a locale that only knows ASCII, without asserts."""
    project, folder = tmp_path / "Räume und Bücher" / "日本", tmp_path / "my results ü"
    project.mkdir(parents=True)
    folder.mkdir()
    for name in ("models", "boundaries"):
        (project / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "higan", project / "higan")
    for path in ROOT.glob("*.py"):
        shutil.copy(path, project)
    (folder / "Räume.pth").symlink_to(ROOT / "models" / "stylegan2_rooms" / "stylegan2_rooms.pth")
    (folder / "Liste ß.txt").write_text(f"(window, w): {folder}/é/window_boundary.npy\n", encoding="utf-8")
    commands = [
        "synthesize.py Räume.pth -N 120 --predictor_name=rooms --generate_prediction --generate_html -o 'aus gabe/ö'",
        "train_boundary.py 'aus gabe/ö/w.npy' 'aus gabe/ö/attribute.npy' --score_name all -N 0.2 --jobs=2 -o é",
        f"rescore.py Räume.pth 'Liste ß.txt' --predictor_name=rooms -N 8 --write_layers --control=2 -o '{folder}/ä'",
        "manipulate.py Räume.pth 'Liste ß.txt' -N 2 --generate_html --html_name=ß.html -o '日 本'",
        "simple_manipulate.py stylegan2_rooms window -N 1 -o ñ",
    ]
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONOPTIMIZE": "2"}
    for command in commands:
        script, *arguments = shlex.split(command)
        done = run([sys.executable, str(project / script), *arguments], folder, **poor)
        assert done.stderr == ""
    for page in (
        "aus gabe/ö/viz.html",
        "ä/rescore.html",
        "日 本/window_w_ß.html",
        "ñ/stylegan2_rooms_window.html",
    ):
        assert (folder / page).stat().st_size > 10_000


def test_python_example_runs_as_printed(checkout: Path) -> None:
    (program,) = [text for name, text in PYTHON_BLOCKS if not name]
    done = run([sys.executable, "-c", program + "\nprint(images.shape, images[2].mean() > images[0].mean())"], checkout)
    assert done.stdout.split("\n")[0] == "(3, 128, 128, 3) True"


def test_first_commands_are_single_lines() -> None:
    assert "\n" not in BLOCKS["first"] and "\n" not in BLOCKS["test"]
    assert BLOCKS["first"].startswith("pip install -e . && python simple_manipulate.py stylegan2_rooms indoor_lighting")


def test_every_known_model_is_listed() -> None:
    assert not [name for name in read_zoo() if f"`{name}`" not in TEXT]


def test_every_package_is_installed() -> None:
    listed = re.search(
        r"^packages = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    folders = [path.parent.relative_to(ROOT) for path in sorted((ROOT / "higan").rglob("__init__.py"))]
    assert listed is not None
    assert sorted(re.findall(r'"([\w.]+)"', listed[1])) == sorted(
        [".".join(folder.parts) for folder in folders] + ["higan.boundaries", "higan.models"]
    )
