"""Say what a weight file holds, or convert it to the project's own format.

    python -m higan.checkpoints FILE
    python -m higan.checkpoints FILE --convert OUT.pth
    python -m higan.checkpoints FILE --convert OUT.safetensors

Nothing in the file is executed; its format is recognised from its content.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from higan.commands.options import ArgumentParser
from higan.commands.scripts import run_script
from higan.errors import HiganError


def parse_args() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = ArgumentParser(__doc__, "python -m higan.checkpoints")
    parser.add_argument("file", type=Path, metavar="FILE", help="weight file of any supported format")
    parser.add_argument("--convert", type=Path, metavar="OUT", help="write the weights in the project's own format")
    return parser.parse_args()


def main() -> None:
    """Print what the file holds, and convert it if asked."""
    args = parse_args()
    from higan.checkpoints import write_checkpoint
    from higan.checkpoints.beside import weight_file
    from higan.generators.loading import read_network

    checkpoint, _ = read_network(args.file)
    values = sum(tensor.numel() for tensor in checkpoint.state_dict.values())
    print(f"{'format':18} {checkpoint.format}")
    print(f"{'family':18} {checkpoint.family}")
    size = weight_file(args.file).stat().st_size
    print(f"{'size':18} {size:,} bytes, {len(checkpoint.state_dict)} tensors, {values:,} values")
    for name, value in checkpoint.settings.items():
        print(f"{name:18} {value}")
    if checkpoint.tuned_from:
        print(f"{'tuned from':18} {checkpoint.tuned_from[0]} ({checkpoint.tuned_from[1][:12]})")
    for note in checkpoint.notes:
        print(f"{'note':18} {note}")
    if args.convert:
        if args.convert.exists():
            raise HiganError(f"{args.convert} is there already; choose another name or remove it")
        said = checkpoint.settings, checkpoint.tuned_from
        write_checkpoint(args.convert, checkpoint.family, checkpoint.state_dict, *said)
        print(f"{'written':18} {args.convert}")


if __name__ == "__main__":
    run_script(main)
