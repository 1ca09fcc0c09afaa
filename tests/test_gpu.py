"""What tests/gpu.sh measures on a GPU, in small and without one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support.scripts import ROOT


def test_speeds_are_measured_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import gpu

    monkeypatch.setattr(sys, "argv", ["gpu.py", "rescoring", "--device", "cpu", "--tiny"])
    gpu.main()
    text = capsys.readouterr().out
    assert text.startswith("# Numbers of ") and "## Rescoring" in text
    assert re.search(r"Re-scoring of 2 boundaries, layer by layer, on 2 samples: [\d.]+ s, \d+ moved samples/s", text)


def test_the_script_is_one_that_bash_reads() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "tests" / "gpu.sh")], check=True)
