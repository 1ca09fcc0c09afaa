"""Step 1: sample latent codes; write them and what they lead to: styles, images, scores, a page.

`python synthesize.py --help` is the manual; it stands in higan/commands/synthesize.py.
"""

from higan.commands.synthesize import main, run

__all__ = ["main", "run"]

if __name__ == "__main__":
    run()
