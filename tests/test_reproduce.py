"""The paper's experiments (docs/reproduce/) on the embedded model and on files made by rule, with small numbers.

The shell scripts run as they are, but for `python`: it hands its command line to this process, where PyTorch is
imported already.
"""

from __future__ import annotations

import os
import re
import runpy
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from support.golden import GOLDEN
from support.scripts import ROOT

TEXT = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^bash docs/reproduce/(\w+\.sh)", TEXT, re.MULTILINE)
SMALL = {"NUM": "24", "SIDE": "8", "RESCORE": "2", "CONTROL": "2", "NAMES": "window indoor_lighting warm_walls"}
COLORS = {"PREDICTOR": "colors", "GROUP": "color", "NAMES": "brightness"}
ROOMS = "stylegan2_rooms"


def answer(words: list[str]) -> int:
    """Run `python WORDS` in this process; return its exit status."""
    before, sys.argv = sys.argv, words[1:] if words[0] == "-m" else words
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    finally:
        sys.argv = before
    return 0


def experiment(place: Path, script: str, *arguments: object, **variables: str) -> None:
    """Run a script of docs/reproduce/ with its output below `place`."""
    commands, answers, programs = place / "commands", place / "answers", place / "bin"
    if not programs.exists():
        programs.mkdir()
        os.mkfifo(commands)
        os.mkfifo(answers)
        (programs / "python").write_text(
            f"#!/bin/bash\nprintf '%s\\0' \"$@\" END > {commands}\nread -r status < {answers}\nexit $status\n"
        )
        (programs / "python").chmod(0o755)
    environment: Mapping[str, str] = {
        **os.environ, **SMALL, "OUT": str(place), **variables, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    asked, said = os.open(commands, os.O_RDWR), os.open(answers, os.O_RDWR)
    try:
        shell = subprocess.Popen(
            ["bash", str(ROOT / "docs" / "reproduce" / script), *map(str, arguments)], env=environment
        )
        received = b""
        while shell.poll() is None:
            if select.select([asked], [], [], 0.02)[0]:
                received += os.read(asked, 65536)
                if received.endswith(b"\0END\0"):
                    words = [word.decode() for word in received.split(b"\0")[:-2]]
                    received = b""
                    os.write(said, f"{answer(words)}\n".encode())
        assert shell.returncode == 0
    finally:
        os.close(asked)
        os.close(said)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def rows(printed: str) -> dict[str, list[str]]:
    """Return the rows of the tables in a text, by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line[:1]]
    return {first: rest for first, *rest in cells}


def test_every_script_is_described_and_run_here() -> None:
    scripts = {path.name for path in (ROOT / "docs" / "reproduce").glob("*.sh")} - {"boundaries.sh"}
    here = Path(__file__).read_text(encoding="utf-8")
    assert set(COMMANDS) == scripts
    assert all(f'"{script}"' in here for script in scripts)


def test_layers_and_joint_edits(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment(place, "layers.sh", ROOMS)
    found = rows(capfd.readouterr().out)
    assert len(found["window"]) == 12 and len(found["object (1)"]) == 12 and len(found["layout (4)"]) == 12
    moved = np.array(found["warm_walls"], float)
    assert moved[5:].sum() > 1.2 * moved[:5].sum(), "the model decides on the colour of walls from 32x32 on"

    experiment(place, "joint.sh", ROOMS, "window", "indoor_lighting")
    found = rows(capfd.readouterr().out)
    assert found["score"] == ["indoor_lighting", "window", "sum of these", "all at once"]
    first, second, total, joint = map(float, found["indoor_lighting"])
    assert first > 0.5 and total == pytest.approx(first + second, abs=0.011) and joint > 0.5
    assert (place / ROOMS / "joint" / "page" / "combined_viz.html").exists()


def test_ranking_of_several_models(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment(place, "ranking.sh", ROOMS, GOLDEN / "tf_stylegan_tiny16.pkl", **COLORS, OUT=str(place / "ranking"))
    found = rows(capfd.readouterr().out)
    assert found["score"] == [ROOMS, "tf_stylegan_tiny16"]
    assert all(
        re.fullmatch(r"\*\*1\.\*\* [\d.]+ \([\d.]+ to [\d.]+\), [\d.]+ sd( ✓)?", cell) for cell in found["brightness"]
    )


def test_spaces(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment(place, "spaces.sh", ROOMS)
    assert rows(capfd.readouterr().out)["score"] == [f"{ROOMS} w", f"{ROOMS} z"]


def test_families(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    models = [GOLDEN / name for name in ("tf_pggan_tiny16.pkl", "tf_stylegan_tiny16.pkl", "bigdeep_tiny32")]
    experiment(place, "families.sh", *models, 3, **COLORS, OUT=str(place / "families"))
    printed = capfd.readouterr().out
    assert rows(printed)["score"] == [model.stem for model in models]
    assert printed.count("Mean Δ of the boundaries of each level") == 2, "PGGAN has no layers"


def test_transition(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The embedded model has one category: two of its factors stand in."""
    experiment(place, "transition.sh", ROOMS, "bed_left", "window", GROUP="attribute", PREDICTOR="rooms")
    folder = place / ROOMS / "transition"
    scores = np.load(place / ROOMS / "synthesis" / "attribute.npy")
    np.testing.assert_array_equal(np.load(folder / "scores.npy")["window"], scores["window"] - scores["bed_left"])
    assert len(rows(capfd.readouterr().out)["window"]) == 12
    assert all((folder / group / "window_w_viz.html").exists() for group in ("bottom", "lower", "upper", "top"))


def test_jitter(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment(place, "jitter.sh", ROOMS)
    found = rows(capfd.readouterr().out)
    assert len(found["change"]) == 12 and float(found["change"][1]) > float(found["change"][9])


def test_colors(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    experiment(place, "colors.sh", ROOMS, OUT=str(place))
    found = rows(capfd.readouterr().out)
    assert all(len(found[name]) == 12 for name in ("hue", "brightness", "saturation"))


def test_a_mistyped_table_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["docs/reproduce/tables.py", "rank", "x"]) == 1
