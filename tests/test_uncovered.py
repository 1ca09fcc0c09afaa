"""The check of lines that no test runs: which reasons count, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import uncovered
from coverage import CoverageData

CODE = """\
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
if 1 > 2:
    LINE
def block():  MARK
    first = 1
    second = 2
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """check(line, mark, lines that ran) returns the exit status and what is said of the code above."""
    (tmp_path / "higan").mkdir()
    (tmp_path / "pyproject.toml").write_text((uncovered.ROOT / "pyproject.toml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    monkeypatch.setattr(uncovered, "ROOT", tmp_path)
    monkeypatch.setattr(uncovered, "REASONS", {"CUDA": False, "Python 3.10": True})

    def call(line: str, mark: str, ran: set[int]) -> tuple[int, str]:
        path = tmp_path / "higan" / "a.py"
        path.write_text(CODE.replace("LINE", line).replace("MARK", mark))
        data = CoverageData(".coverage")
        data.erase()
        data.add_lines({str(path): {1, 2, 4, 6} | ran})
        data.write()
        status = uncovered.main()
        return status, capsys.readouterr().out

    return call


def test_every_line_that_did_not_run_needs_a_reason(check: Any) -> None:
    assert check("x = 1", "", {5, 7, 8}) == (0, "0 lines did not run for a reason, 0 mistakes\n")
    status, said = check("x = 1", "", {8})
    assert status == 1 and "a.py:5 did not run: x = 1\nhigan/a.py:7 did not run: first = 1\n0 lines" in said
    for excuse in ("# pragma: no cover", "# needs luck", "# needs CUDA, really"):
        assert check(f"x = 1  {excuse}", "", {7, 8})[0] == 1


def test_a_reason_is_of_its_line_or_of_the_block_it_opens(check: Any) -> None:
    assert check("x = 1  # needs CUDA", "", {7, 8}) == (
        0, "higan/a.py:5  needs CUDA\n1 lines did not run for a reason, 0 mistakes\n",
    )  # fmt: skip
    status, said = check("x = 1  # needs CUDA", "# needs CUDA", set())
    assert status == 0 and said.count("needs CUDA") == 3 and "3 lines" in said
    assert check("x = 1", "# needs CUDA", set())[0] == 1


def test_a_reason_that_is_not_there_keeps_lines_from_running(check: Any) -> None:
    status, said = check("x = 1  # needs CUDA", "", {5, 7, 8})
    assert status == 1 and "higan/a.py:5 ran without CUDA" in said
    assert check("x = 1  # needs Python 3.10", "", {5, 7, 8})[0] == 0
