"""What the command lines share: the parser, the options that several steps have, and checks of what they are given.

Nothing here imports PyTorch, so that --help and a mistyped option cost no time.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from higan.errors import HiganError
from higan.generators.network import SPACES

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
NEGATIVE = re.compile(r"-\.?\d.*")  # a word that is a number, not an option


class ArgumentParser(argparse.ArgumentParser):
    """A script's argument parser. Its `description` is the manual, printed as it stands; its errors are HiganErrors."""

    def __init__(self, description: str | None, prog: str | None = None) -> None:
        super().__init__(prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Raise the HiganError of a command line that cannot be parsed."""
        raise HiganError(f"{message}; --help lists the arguments")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as usual, but let options leave the positional arguments their own, wherever they stand.

        argparse gives `--score_name wood data.npy scores.npy` three score names, and misses the two files; it does not
        know what to do with the second file of `first.txt --num 3 second.txt`.
        """
        words = self._values_joined(sys.argv[1:] if args is None else list(args))
        return super().parse_known_args(self._positionals_first(words), namespace)

    def _values_joined(self, words: list[str]) -> list[str]:
        """Return `words` in which an option whose number may be left out has it: no file is taken for the number."""
        joined = list(words)
        for place, word in enumerate(words):
            action = self._option_string_actions.get(word)
            following = words[place + 1] if place + 1 < len(words) else ""
            if action is not None and action.nargs == "?" and not NUMBER.fullmatch(following):
                joined[place] = f"{word}={action.const}"
        return joined

    def _positionals_first(self, words: list[str]) -> list[str]:
        """Return `words` with the positionals first, those too that end the values of an option and are lacking.

        Behind an option argparse takes no more words for a positional that may be left out, or repeated.
        """
        found, runs, takes = [], [], "nothing"  # places of positionals and of several values, what a word is taken for
        for place, word in enumerate(words):
            if word == "--":
                return words
            if word.startswith("-") and not NEGATIVE.fullmatch(word):
                takes = self._takes(word)
                runs += [range(place + 1, place + 1)] * (takes == "several")
            elif takes == "several":
                runs[-1] = range(runs[-1].start, place + 1)
            else:
                found += [place] * (takes == "nothing")
                takes = "nothing"
        positionals = [action for action in self._actions if not action.option_strings]
        lacking = [action for action in positionals if action.required or not found][len(found) :]
        for run in reversed(runs):
            given = min(len(lacking), len(run) - 1)
            if given > 0:
                found = sorted([*found, *run[-given:]])
                break
        return [*(words[place] for place in found), *(word for place, word in enumerate(words) if place not in found)]

    def _takes(self, word: str) -> str:
        """Return what an option takes of the words behind it: "several", "one" or "nothing"."""
        name, _, value = word.partition("=")
        named = self._option_string_actions
        action = named.get(name) or next((named[full] for full in named if full.startswith(name)), None)
        if action is None or action.nargs == 0 or value:
            return "nothing"
        return "several" if action.nargs == "+" else "one"

    def under(self, heading: str) -> Callable[..., argparse.Action]:
        """Return what adds the options that --help shows under a heading, as `add_argument` does."""
        groups = {group.title: group for group in self._action_groups}
        return (groups.get(heading) or self.add_argument_group(heading)).add_argument

    def add_model(self) -> None:
        """Add model_name, --class_idx, --translate, --rotate and --device."""
        self.add_argument("model_name", help="a model of models/zoo.toml, or the path of a weight file")
        words = "classes of a conditional model, which the samples take in turn: numbers, 3-7, names or all; or a file "
        words += "with one per sample (.npy, .txt)"
        self.under("model")("--class_idx", nargs="+", metavar="CLASS", help=words)
        words = "move all images right and down, in image widths, such as 0.1,0 (StyleGAN3 only)"
        self.under("model")("--translate", type=pair, metavar="X,Y", help=words)
        words = "turn all images counter-clockwise, in degrees (StyleGAN3 only)"
        self.under("model")("--rotate", type=float, metavar="DEGREES", help=words)
        words = "auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)"
        self.under("model")("--device", default="auto", help=words)

    def add_drawing(self) -> None:
        """Add --truncation_psi, --truncation_layers and --noise, all None unless given, and --force."""
        self.add_truncation("that of the codes given, else of the boundaries, else the model's")
        self.add_force()

    def add_truncation(self, default: str = "the model's") -> None:
        """Add --truncation_psi, --truncation_layers and --noise, all None unless given; their help says `default`."""
        add = self.under("model")
        words = f"how much of a code's distance to the average is kept; 1 is no truncation (default: {default})"
        add("--truncation_psi", type=float, help=words)
        add("--truncation_layers", type=int, help="layers that are truncated, counted from layer 0 (same default)")
        words = "noise of the layers: always the same, none, or new for every image (same default, else const)"
        add("--noise", choices=("const", "none", "random"), help=words)

    def add_cost(self, more: str = "") -> None:
        """Add --batch_size, whose help holds the words `more`, and --precision."""
        words = f"images at a time{more} (default 0: as memory allows)"
        self.under("model")("--batch_size", type=int, default=0, help=words)
        choices = ("fp32", "bf16", "fp16")
        words = "of the numbers that the generator computes with (default: fp32)"
        self.under("model")("--precision", default="fp32", choices=choices, help=words)

    def add_samples(self, num: int, flag: str, codes: str = "to use (default: draw them from --seed)") -> None:
        """Add -N (default `num`, 0: none), --seed and --latent_codes_path (short `flag`), whose help says `codes`."""
        words = f" (default: {num}); not used with {flag}" if num else f"; needed without {flag}"
        self.under("samples")("-N", "--num", type=int, default=num, help=f"samples to draw{words}")
        self.under("samples")("--seed", type=int, default=0, help="seed of the samples (default: 0)")
        self.under("samples")(flag, "--latent_codes_path", type=Path, help=f".npy, .npz or .pt of codes {codes}")

    def add_numbers(self) -> None:
        """Add --samples, the numbers of the samples to take."""
        words = "take only these samples, such as 3,7,12; a page tells the numbers of the starred ones"
        self.under("samples")("--samples", type=sample_numbers, metavar="NUMBERS", help=words)

    def add_space(self, more: str = "", *flags: str) -> None:
        """Add --latent_space_type, also under `flags`; the words `more` end its help."""
        words = "space of the codes given (default: what their record says, else their file's name, else their shape)"
        self.under("samples")(*flags, "--latent_space_type", choices=SPACES, help=words + more)

    def add_predictor(self) -> None:
        """Add --predictor_name."""
        words = "rooms, scene, colors, text:PHRASES, torchvision:ARCH=FILE, timm:ARCH=FILE or package.module:callable"
        words += " (default: the model's own, else scene)"
        self.under("scores")("--predictor_name", help=words)

    def add_force(self) -> None:
        """Add --force."""
        words = "go on although the record of a file says that it does not belong to the others"
        self.under("output")("--force", action="store_true", help=words)

    def add_steps(self, steps: int, clear: bool = False) -> None:
        """Add -S (default `steps`), --start_distance and --end_distance; `clear` leaves these None unless given."""
        words = f"steps of each sample; an even number gets one more (default: {steps})"
        self.under("edit")("-S", "--step", type=int, default=steps, help=words)
        for name, step, distance in (("--start_distance", "first", -3.0), ("--end_distance", "last", 3.0)):
            default = "where the change is clear, else " if clear else ""
            words = f"distance of the {step} step (default: {default}{distance:g})"
            self.under("edit")(name, type=float, default=None if clear else distance, help=words)

    def add_output(self, default: str) -> None:
        """Add --output_dir, None unless given (its help says `default`), and --logfile_name."""
        words = f"folder for everything written (default: {default})"
        self.under("output")("-o", "--output_dir", type=Path, help=words)
        self.under("output")("--logfile_name", default="log.txt", help="the log's file name (default: %(default)s)")


def sample_numbers(text: str) -> list[int]:
    """Return the numbers in "3,7,12"; raise HiganError unless there is one at least and none twice."""
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or max(numbers) >= 10**9 or len(set(numbers)) < len(numbers):
        raise HiganError(f"--samples is {text[:60]!r}; expected numbers from 0 on, such as 3,7,12, none of them twice")
    return numbers


def pair(text: str) -> tuple[float, float]:
    """Return the two numbers of a text such as "0.1,0"."""
    first, second = text.split(",")
    return float(first), float(second)


def require_range(args: argparse.Namespace, least: dict[str, int], most: dict[str, int] | None = None) -> None:
    """Raise HiganError unless every named argument lies between its number in `least` and its number in `most`."""
    for name, limit in least.items():
        if getattr(args, name) < limit:
            raise HiganError(f"--{name} is {getattr(args, name)}; expected {limit} or more")
    for name, limit in (most or {}).items():
        if getattr(args, name) > limit:
            raise HiganError(f"--{name} is {getattr(args, name)}; expected {limit} at most")


def require_file_names(args: argparse.Namespace, *names: str) -> None:
    """Raise HiganError unless every named argument is a file name without a folder, and --html_name ends in .html."""
    for name in names:
        if not getattr(args, name) or Path(getattr(args, name)).name != getattr(args, name):
            raise HiganError(f"--{name} is {getattr(args, name)!r}; expected a file name without a folder")
    if Path(args.html_name).suffix not in (".html", ".htm"):
        raise HiganError(f"--html_name is {args.html_name!r}; expected a name that ends in .html")
