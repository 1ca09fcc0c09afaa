"""`python -m higan.explorer`: the live page; the command is higan/commands/explorer.py."""

from higan.commands.explorer import main
from higan.commands.scripts import run_script

if __name__ == "__main__":
    run_script(main)
