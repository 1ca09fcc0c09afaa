"""List the predictors, what they score, and which of their files are missing.

    python -m higan.predictors

Files are looked for in the folder that the environment variable HIGAN_MODELS names and in the project's models/.
"""

from __future__ import annotations

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script
from higan.errors import HiganError


def main() -> None:
    """Print one paragraph per predictor."""
    ArgumentParser(__doc__, "python -m higan.predictors").parse_args()
    from higan.predictors import FORMS, NAMES, load_predictor, why_not
    from higan.predictors.text import USAGE, find_models

    for name in NAMES:
        try:
            predictor = load_predictor(name, device="cpu")
        except HiganError as error:
            print(f"{name}\n  not usable: {error}")
            continue
        print(name)
        for group, members in predictor.names.items():
            print(f"  {group}: {len(members)} scores")
            for member in members[:40]:
                print(f"    {member}{f' ({predictor.levels[member]})' if member in predictor.levels else ''}")
            if len(members) > 40:
                print(f"    ... and {len(members) - 40} more")
    for name, form in FORMS.items():
        reason = why_not(name)
        print(f"{form}\n  not usable: {reason}" if reason else form)
        if name == "text":
            print(f'  --predictor_name "{USAGE}", see higan.predictors.text.load_text')
            for model, folder in sorted(find_models().items()):
                print(f"    {model} ({folder})")
        else:
            print("  a classifier's state dict, FILE.json beside it: see higan.predictors.classifiers.load_classifier")
    print("your own\n  --predictor_name package.module:callable, see higan.predictors.load_predictor")


if __name__ == "__main__":
    run_script(main)
