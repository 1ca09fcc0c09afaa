"""Nothing that a hostile user, folder or download hands to the programs runs, hangs, traces back or gets out.

Every fourth attack of the table is tried, in the order of its kinds. They all are, which takes minutes, by
`EVERY_ATTACK=1 pytest tests/robustness/test_attacks.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attack_runner import MEMORY, SECONDS, Outcome, Runner
from attacks import ATTACKS, Attack, write_files, write_workplace

MARKUP = ("<script>pwned", "<img src=x", 'onerror="pwned')  # of the attacks; a page shows it as text
STEP = 1 if os.environ.get("EVERY_ATTACK") else 4
PROGRAMS = dict.fromkeys(attack.program for attack in ATTACKS)
TRIED = [attack for name in PROGRAMS for attack in [a for a in ATTACKS if a.program == name][::STEP]]
LINE = 1500  # characters of an error that a person still reads


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("idle")
    with Runner() as runner:
        runner.idle = runner.run("", [], folder, folder).memory
        yield runner


def test_table_is_large_and_its_names_differ() -> None:
    assert len(TRIED) >= 150
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert {attack.program for attack in TRIED} >= {
        "synthesize", "train_boundary", "rescore", "manipulate", "simple_manipulate",
        "higan.checkpoints", "higan.generators", "higan.predictors", "higan.inversion",
    }  # fmt: skip


@pytest.mark.parametrize("attack", TRIED, ids=lambda attack: attack.name)
def test_attack(attack: Attack, runner: Runner, tmp_path: Path) -> None:
    work, outside, notes = (tmp_path / name for name in ("work", "outside", "notes"))
    for folder in (work, outside, notes, work / "out", work / "empty"):
        folder.mkdir()
    (outside / "victim.npy").write_bytes(b"precious")
    write_workplace(work)
    write_files(work, attack.files)
    own = [work / folder for folder in attack.writes]
    before = listing(tmp_path, own)
    arguments = [argument.replace("OUTSIDE", str(outside)) for argument in attack.arguments]
    outcome = runner.run(
        attack.program, arguments, work, notes, attack.environment, attack.models and work / attack.models
    )
    check_cost(outcome, runner.idle)
    check_words(outcome, attack)
    assert outcome.events == []
    assert listing(tmp_path, own) == before
    for folder in own:
        assert not [path for path in folder.rglob("*") if path.suffix in (".tmp", ".part")]
        for page in folder.rglob("*.html"):
            check_page(page)
    shutil.rmtree(tmp_path)


def check_cost(outcome: Outcome, idle: int) -> None:
    assert outcome.seconds < SECONDS
    assert outcome.memory - idle < MEMORY


def check_words(outcome: Outcome, attack: Attack) -> None:
    """A mistake costs one printable line and exit status 2; where there is none, nothing is said to be wrong."""
    lines = outcome.stderr.splitlines()
    if attack.fine:
        assert (outcome.status, lines) == (0, [])
        return
    assert outcome.status == 2, outcome.stderr
    assert len(lines) == 1, outcome.stderr
    assert lines[0].isprintable()
    assert len(lines[0]) < LINE
    assert attack.says in lines[0]
    assert "Traceback" not in outcome.stdout + outcome.stderr


def listing(folder: Path, without: list[Path]) -> dict[str, str]:
    """Return kind and content of everything in a folder but its notes and what is in the folders `without`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not {path, *path.parents}.isdisjoint([folder / "notes", *without]):
            continue
        kind = oct(path.lstat().st_mode)
        content = str(path.readlink()) if path.is_symlink() else digest(path) if path.is_file() else ""
        found[str(path)] = f"{kind} {content}"
    return found


def digest(path: Path) -> str:
    status = path.stat()
    if status.st_size > 2**26:
        return f"{status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Elements(HTMLParser):
    """Notes the elements of a page and the names of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attributes}


def check_page(path: Path) -> None:
    """A page has the one script that is ours, and no element or attribute that someone else wrote."""
    text = path.read_text(encoding="utf-8")
    assert not [markup for markup in MARKUP if markup in text]
    elements = Elements()
    elements.feed(text)
    assert elements.names.count("script") == 1
    assert not [name for name in (*elements.names, *elements.attributes) if name.startswith("on") or "pwned" in name]
