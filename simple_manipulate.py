"""Edit random samples of a model along one boundary that comes with it, and write one page.

`python simple_manipulate.py --help` is the manual; it stands in higan/commands/simple_manipulate.py.
"""

from higan.commands.simple_manipulate import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
