"""Step 2: train boundaries, the directions along which scores change, on the latent codes and scores of step 1.

`python train_boundary.py --help` is the manual; it stands in higan/commands/train_boundary.py.
"""

from higan.commands.train_boundary import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
