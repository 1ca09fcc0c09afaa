"""`python -m higan.inversion`: the codes of pictures of your own; the command is higan/commands/inversion.py."""

from higan.commands.inversion import main
from higan.commands.scripts import run_script

if __name__ == "__main__":
    run_script(main)
