"""Every command as a program: what its entry point runs, and what it says where nothing can be done."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.scripts import ROOT, run

STEPS = ("synthesize", "train_boundary", "rescore", "manipulate", "simple_manipulate")


@pytest.mark.parametrize("name", STEPS)
def test_an_installed_command_is_its_own_manual(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"higan.commands.{name}").run()
    assert stop.value.code == 0 and f"python {name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inversion", "explorer", "directions", "generators", "checkpoints", "predictors"])
def test_a_module_is_its_own_manual(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, f"higan.{name}.__main__", raising=False)
    if name == "inversion":
        monkeypatch.delitem(sys.modules, "higan.inversion", raising=False)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(f"higan.{name}", run_name="__main__")
    assert stop.value.code == 0 and f"python -m higan.{name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["synthesize.py"], ["-m", "higan.inversion"], ["-m", "higan.directions"], ["-m", "higan.explorer"]]
)
def test_an_error_begins_with_what_was_typed(words: list[str]) -> None:
    line = [sys.executable, *words, "--nothing"]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.startswith(f"python {' '.join(words)}: error: "), result.stderr


def test_scores_none_of_which_can_be_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    codes = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    scores = np.zeros(100, [("a", "<f4"), ("b", "<f4"), ("c", "<f4")])
    np.save("w.npy", codes)
    np.save("none.npy", scores)
    scores["c"] = codes[:, 0]
    np.save("one.npy", scores)
    assert run("train_boundary", "w.npy", "none.npy", "--score_name", "all", "-o", "out") == 2
    assert "none of the 3 scores can be trained on" in capsys.readouterr().err
    assert run("train_boundary", "w.npy", "one.npy", "--score_name=c", "-N", "30", "--condition", "a", "-o", "out") == 2
    assert "--condition a: all 100 scores are 0" in capsys.readouterr().err
