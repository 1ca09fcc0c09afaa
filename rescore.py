"""Step 3: re-score boundaries: which of them the generator obeys, at which layer, and what else changes.

`python rescore.py --help` is the manual; it stands in higan/commands/rescore.py.
"""

from higan.commands.rescore import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
