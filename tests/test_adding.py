"""What docs/adding.md adds, added as it says: a family, a file format and a predictor, then used by the scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from support.readme import README

ROOT = README.parent
TEXT = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
FILES = re.findall(r"^```python (\S+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CHANGES = re.findall(r"^```diff (\S+)\n (.*?)\n\+(.*?)\n```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```bash\n(.*?)\n```", TEXT, re.MULTILINE | re.DOTALL)
CHECK = """
import higan, torch
from higan.checkpoints import read_checkpoint, write_checkpoint
generator = higan.load_generator("toy.pt", device="cpu")
checkpoint = read_checkpoint("toy.pt")
assert (checkpoint.format, generator.family, generator.num_layers) == ("toy_program", "toy", 2)
write_checkpoint("own.pth", checkpoint.family, checkpoint.state_dict, checkpoint.settings)
wp = generator.to_wp(generator.sample(3, seed=0), "z")
images = generator.synthesize(wp)
assert images.shape == (3, 8, 8, 3) and images.float().std() > 1
assert torch.equal(higan.load_generator("own.pth", device="cpu").synthesize(wp), images)
boundary = higan.read_boundary("warmth_boundary.npy")
predictor = higan.load_predictor("warmth:load", "cpu")
result = higan.rescore(generator, predictor, [boundary], num=8, layerwise=True, control=2)
print(result.layers)
"""


def test_what_is_added_works(tmp_path: Path) -> None:
    for entry in ("higan", "models", "pyproject.toml"):
        (tmp_path / entry).symlink_to(ROOT / entry)
    shutil.copy(ROOT / "synthesize.py", tmp_path)  # a link would lead to the package beside its target
    changed = {path for path, _ in FILES if "/" in path} | {path for path, *_ in CHANGES}
    for path in changed:  # the folders that change are copies, with links to what does not
        for folder in [*Path(path).parents][-2::-1]:
            copy = tmp_path / folder
            if copy.is_symlink():
                copy.unlink()
                copy.mkdir()
                for entry in (ROOT / folder).iterdir():
                    (copy / entry.name).symlink_to(entry)
    for path, text in FILES:
        (tmp_path / path).write_text(text, encoding="utf-8")
    for path, before, added in CHANGES:
        text = (tmp_path / path).read_text(encoding="utf-8")
        assert f"{before}\n" in text, f"docs/adding.md: {path} has no line {before!r}"
        if (tmp_path / path).is_symlink():
            (tmp_path / path).unlink()
        (tmp_path / path).write_text(text.replace(f"{before}\n", f"{before}\n{added}\n"), encoding="utf-8")

    torch.manual_seed(0)
    shapes = {"average": (5,), "waves": (2, 4, 8), "map.weight": (6, 5), "map.bias": (5,)}
    shapes |= {"toy1.weight": (12, 5), "toy1.bias": (12,), "toy2.weight": (12, 5), "toy2.bias": (12,)}
    torch.save({name: torch.randn(shape) for name, shape in shapes.items()}, tmp_path / "toy.pt")
    np.save(tmp_path / "warmth_boundary.npy", np.eye(1, 5, dtype=np.float32))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in ([*COMMANDS[0].split()], ["python", "-c", CHECK]):
        assert command[0] == "python"
        done = subprocess.run(
            [sys.executable, *command[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(0, 1)"
    scores = np.load(tmp_path / "results" / "toy" / "color.npy")["warmth"]
    assert len(scores) == 64 and scores.std() > 0.01
    with np.errstate(all="raise"):
        assert np.isfinite(scores).all()
