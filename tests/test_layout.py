"""What the README says of the layout: imports run one way, and the help of a script costs nothing."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.scripts import ROOT

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "higan").rglob("*.py")
}
# each knows only those before it
BELOW = ("checkpoints", "generators", "predictors", "directions", "report", "rescoring", "editing", "commands")


def imported(module: str) -> set[str]:
    """Return the modules of higan that a module imports, now or in a function, but for what only types need."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield from {node.module, f"{node.module}.{alias.name}"} & FILES.keys()
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    packages = {module.rsplit(".", parts)[0] for parts in range(1, module.count(".") + 1)}
    return set(visit(ast.parse(FILES[module].read_text(encoding="utf-8")))) - packages - {"higan", module}


def test_imports_run_one_way() -> None:
    graph = {module: imported(module) for module in FILES}
    assert len(graph) > 40 and graph["higan.runs.run"] >= {"higan.files", "higan.runs.folders"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_readme_names_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    layout = text.split("## How the code is laid out")[1].split("\n## ")[0]
    words = {word for word in re.findall(r"[\w./]+", layout) if word.endswith(("/", ".py")) and len(word) > 3}
    for word in words:
        found = (path for place in ("higan", "tests") for path in (ROOT / place).rglob(word.strip("/")))
        assert (ROOT / word).exists() or any(found), word
    rooms = {f"higan/{path.name}" + "/" * path.is_dir() for path in (ROOT / "higan").glob("[!_]*[!d]")}
    assert rooms - {"higan/inversion.py"} <= words  # a program that is no room of its own


@pytest.mark.parametrize("name", BELOW)
def test_what_is_below_knows_nothing_of_what_is_above(name: str) -> None:
    above = tuple(f"higan.{other}" for other in BELOW[BELOW.index(name) + 1 :])
    for module in FILES:
        if module.startswith(f"higan.{name}") and not module.endswith("__main__"):
            assert not [other for other in imported(module) if other.startswith(above)], module


@pytest.mark.parametrize("module", FILES)
def test_bases_of_classes_are_plain(module: str) -> None:
    """The standard library's generic classes cannot all be subscripted in the oldest Python, 3.10."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    bases = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    assert not [ast.unparse(base) for base in bases if isinstance(base, ast.Subscript)]


def test_a_boundary_of_arrays_needs_no_torch(tmp_path: Path) -> None:
    """Its import takes many times as long as the training."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((400, 8)).astype(np.float32)
    np.save(tmp_path / "w.npy", codes)
    np.save(tmp_path / "scores.npy", codes[:, :1])
    arguments = [
        "train_boundary.py",
        str(tmp_path / "w.npy"),
        str(tmp_path / "scores.npy"),
        "-o",
        str(tmp_path / "out"),
    ]
    code = (
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv = {arguments}; "
        f"runpy.run_path({str(ROOT / arguments[0])!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "out").glob("*.npy"))


@pytest.mark.parametrize("name", ["synthesize", "train_boundary", "rescore", "manipulate", "simple_manipulate"])
def test_help_needs_neither_torch_nor_numpy(name: str) -> None:
    code = (
        "import runpy, sys; sys.modules |= {'torch': None, 'numpy': None}; sys.argv = ['x', '--help']; "
        f"runpy.run_path({str(ROOT / name) + '.py'!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"python {name}.py" in result.stdout
