"""Boundaries trained several at a time: nothing changes but the time, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bad_days import LIMIT, ROOT, check_ending, digests


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with made/: codes and the scores score_00 to score_19, of which score_05 cannot be trained on."""
    folder = tmp_path_factory.mktemp("source")
    generator = np.random.default_rng(0)
    codes = generator.standard_normal((4000, 64)).astype(np.float32)
    scores = np.zeros(len(codes), [(f"score_{index:02d}", "<f4") for index in range(20)])
    for index, name in enumerate(scores.dtype.names or ()):
        scores[name] = 0 if index == 5 else codes[:, index] + generator.standard_normal(len(codes))
    (folder / "made").mkdir()
    np.save(folder / "made" / "w.npy", codes)
    np.save(folder / "made" / "attribute.npy", scores)
    return folder


def command(source: Path, out: str, *more: str) -> subprocess.Popen[str]:
    """Start train_boundary.py on all scores."""
    files = ["made/w.npy", "made/attribute.npy", "--score_name", "all", "-N", "1000", "-o", out]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_boundary.py"), *files, *more],
        cwd=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(said: str) -> list[str]:
    """Return the log without what differs from run to run: times, the command, and the folder's name."""
    return [Path(line.split("] ", 1)[1]).name for line in said.splitlines()[1:]]


def test_jobs_change_nothing_but_the_time(source: Path) -> None:
    said = {}
    for jobs in ("1", "2"):
        out, error = command(source, f"jobs{jobs}", "--jobs", jobs, "--condition", "score_00").communicate(
            timeout=LIMIT
        )
        assert error == ""
        said[jobs] = lines(out)
    assert said["1"] == said["2"]
    assert "score_05 is left out" in " ".join(said["1"])
    assert digests(source / "jobs1") == digests(source / "jobs2")
    assert len(digests(source / "jobs1")) == 2 * 19 + 1


def test_what_was_done_before_a_signal_is_not_lost(source: Path) -> None:
    script = command(source, "stopped", "--jobs", "2")
    assert script.stdout is not None
    while "written" not in script.stdout.readline():
        pass
    os.kill(script.pid, signal.SIGTERM)
    _, error = script.communicate(timeout=LIMIT)
    check_ending("train_boundary", script.returncode, error, signal.SIGTERM)
    found = digests(source / "stopped")
    assert "score_00_boundary.npy" in found and not [name for name in found if name.startswith(".")]
