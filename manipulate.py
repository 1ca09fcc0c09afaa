"""Step 4: move samples along boundaries; write the codes, and pictures, pages and videos of them.

`python manipulate.py --help` is the manual; it stands in higan/commands/manipulate.py.
"""

from higan.commands.manipulate import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
