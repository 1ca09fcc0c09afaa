"""The commands of the README by name: `python tests/readme_commands.py first` prints the block marked "bash first"."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def command_blocks(text: str) -> dict[str, str]:
    """Return {name: commands} of the fenced blocks whose info string is "bash NAME"."""
    blocks: dict[str, str] = {}
    for name, commands in re.findall(r"^```bash ?(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not name or name in blocks:
            raise ValueError(f"a bash block of the README needs a name of its own, found {name!r}: {commands[:60]!r}")
        blocks[name] = commands.strip()
    return blocks


if __name__ == "__main__":
    print(command_blocks(README.read_text(encoding="utf-8"))[sys.argv[1]])
