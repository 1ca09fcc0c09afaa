"""List the models that are known by name, and say which of them are here.

    python -m higan.generators

Weight files are looked for in the folder that the environment variable HIGAN_MODELS names and in the project's models/.
"""

from __future__ import annotations

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script


def main() -> None:
    """Print a line per model."""
    ArgumentParser(__doc__, "python -m higan.generators").parse_args()
    from higan.generators.zoo import find_file, folders, read_zoo

    published = ""
    zoo = read_zoo()
    print(f"{'model':28} {'family':10} {'size':>5}  {'here':5} file")
    for name, model in zoo.items():
        if model["published"] != published:
            published = model["published"]
            print(f"\n{published}; licence: {model['licence']}")
        path = find_file(name, model)
        here = "yes" if path else "no"
        print(f"{name:28} {model['family']:10} {model['resolution']:5}  {here:5} {path or model['files'][0]}")
    print(f"\nPut missing files into {' or '.join(map(str, folders()))}. A path works wherever a name does.")


if __name__ == "__main__":
    run_script(main)
