"""Give the reason of every line of higan/ that the last measured run of the tests left out; fail where there is none.

    pytest --cov=higan && python tests/uncovered.py

The only reasons are those below. A line ends in `# needs REASON`, or the line that opens its block does. Such a mark on
a line that ran without the reason being there is wrong, and fails too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from coverage import Coverage

ROOT = Path(__file__).resolve().parents[1]
# what a line may need, and whether it is here
REASONS = {
    "CUDA": torch.cuda.is_available(),
    "Python 3.11": sys.version_info >= (3, 11),
    "Python 3.10": sys.version_info < (3, 11),
}


def analyse(path: Path, mark: str = "") -> tuple[set[int], set[int]]:
    """Return which lines of a file could run but for those with the `mark`, and which of these did not."""
    measured = Coverage(config_file=str(ROOT / "pyproject.toml"))
    if mark:
        measured.exclude(mark)
    measured.load()
    _, statements, _, missing, _ = measured.analysis2(str(path))
    return set(statements), set(missing)


def report(path: Path) -> tuple[list[str], list[str]]:
    """Return a line for every line of a file that did not run for a reason, and one for every mistake."""
    text = path.read_text(encoding="utf-8").splitlines()
    statements, unexplained = analyse(path)
    explained, mistakes = [], []
    for reason, here in REASONS.items():
        mark = rf"# needs {re.escape(reason)}$"
        if not any(re.search(mark, line) for line in text):
            continue
        marked = statements - analyse(path, mark)[0]
        explained += [f"{place(path, line)}  needs {reason}" for line in sorted(marked & unexplained)]
        if not here:
            opening = {number for number, line in enumerate(text, 1) if re.search(rf":\s*{mark}", line)}
            ran = marked - unexplained - opening
            mistakes += [f"{place(path, line)} ran without {reason}" for line in sorted(ran)]
        unexplained -= marked
    mistakes += [f"{place(path, line)} did not run: {text[line - 1].strip()}" for line in sorted(unexplained)]
    return explained, mistakes


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def main() -> int:
    explained, mistakes = [], []
    for path in sorted((ROOT / "higan").rglob("*.py")):
        for found, lines in zip((explained, mistakes), report(path), strict=True):
            found += lines
    print(*explained, *mistakes, f"{len(explained)} lines did not run for a reason, {len(mistakes)} mistakes", sep="\n")
    return int(bool(mistakes))


if __name__ == "__main__":
    sys.exit(main())
