"""What the command lines share."""

from __future__ import annotations

import importlib
import re
from argparse import Namespace

import pytest

from higan.commands.options import ArgumentParser, require_file_names, require_range
from higan.errors import HiganError


def test_a_command_line_that_cannot_be_parsed() -> None:
    with pytest.raises(HiganError, match=r"unrecognized arguments: --wrong; --help lists the arguments"):
        ArgumentParser("What it does.").parse_args(["--wrong"])


STEPS = {
    "synthesize": ["model", "samples", "output", "scores", "page"],
    "train_boundary": ["samples", "direction", "model, for gradient and steps", "test", "output"],
    "rescore": ["model", "scores", "output", "samples", "rescoring"],
    "manipulate": ["model", "samples", "output", "edit", "page", "video"],
    "simple_manipulate": ["model", "samples", "picture", "output", "edit"],
    "inversion": ["model", "inversion", "output"],
    "explorer": ["model", "explorer", "scores", "output"],
}


@pytest.mark.parametrize("name", STEPS)
def test_help_has_its_options_under_headings(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"higan.commands.{name}").parse_args()
    manual = capsys.readouterr().out
    headings = re.findall(r"^(\w[\w, ]*):$", manual, re.MULTILINE)
    assert headings[-2 - len(STEPS[name]) :] == ["positional arguments", "options", *STEPS[name]]
    general = manual.split("\noptions:\n")[1].split("\n\n")[0]
    assert general.strip() == "-h, --help            show this help message and exit"


@pytest.mark.parametrize(
    "line",
    [
        "--names a b data scores -n 1 --flag",
        "--names a b -n 1 --flag -- data scores",
        "--flag -n 1 --others a b --names a b data scores",
        "--names a b data -n 1 --flag scores",
        "--flag data scores -n 1 --names a b",
        "data -n 1 --names a b scores --flag",
        "-n1 --na a b data scores --flag",
        "data scores --flag -n 1 --names=a --others a b --names a b",
        "--others a b --flag -n 1 --names a b data scores",
    ],
)
def test_an_option_of_several_values_leaves_positionals_their_own(line: str) -> None:
    parser = ArgumentParser("What it does.")
    for positional in ("data", "scores"):
        parser.add_argument(positional)
    for several in ("--names", "--others"):
        parser.add_argument(several, nargs="+")
    parser.add_argument("-n", type=int)
    parser.add_argument("--flag", action="store_true")
    args = parser.parse_args(line.split())
    assert (args.data, args.scores, args.names, args.n, args.flag) == ("data", "scores", ["a", "b"], 1, True)
    assert args.others in (None, ["a", "b"])
    with pytest.raises(HiganError, match="data, scores"):
        parser.parse_args(["--names", "a"])


@pytest.mark.parametrize("line", ["a --num 3 b c", "a b --num 3 c", "--num=3 a b c", "a --flag b c --num 3"])
def test_positionals_stand_where_they_like(line: str) -> None:
    parser = ArgumentParser("What it does.")
    parser.add_argument("model")
    parser.add_argument("lists", nargs="*")
    parser.add_argument("--num", type=int)
    parser.add_argument("--flag", action="store_true")
    args = parser.parse_args(line.split())
    assert (args.model, args.lists, args.num) == ("a", ["b", "c"], 3)


def test_a_number_that_may_be_left_out_is_no_file() -> None:
    parser = ArgumentParser("What it does.")
    parser.add_argument("data")
    parser.add_argument("--turn", type=float, nargs="?", const=10.0)
    for line, number in (("--turn data", 10), ("--turn 5 data", 5), ("data --turn", 10), ("data --turn -1.5", -1.5)):
        assert vars(parser.parse_args(line.split())) == {"data": "data", "turn": number}


def test_a_positional_that_may_be_left_out() -> None:
    parser = ArgumentParser("What it does.")
    parser.add_argument("model")
    parser.add_argument("list", nargs="?")
    parser.add_argument("--names", nargs="+")
    for line in ("--names a b model list", "model list --names a b"):
        assert vars(parser.parse_args(line.split())) == {"model": "model", "list": "list", "names": ["a", "b"]}
    assert vars(parser.parse_args(["model", "--names", "a", "b"])) == {
        "model": "model",
        "list": None,
        "names": ["a", "b"],
    }


def test_numbers_and_names_that_do_not_fit() -> None:
    args = Namespace(num=3, viz_size=4000, html_name="a.txt", logfile_name="b/c.txt")
    require_range(args, {"num": 3})
    with pytest.raises(HiganError, match="--num is 3; expected 4 or more"):
        require_range(args, {"num": 4})
    with pytest.raises(HiganError, match="--viz_size is 4000; expected 2048 at most"):
        require_range(args, {"num": 3}, {"viz_size": 2048})
    with pytest.raises(HiganError, match=r"--html_name is 'a.txt'; expected a name that ends in .html"):
        require_file_names(args, "html_name")
    with pytest.raises(HiganError, match=r"--logfile_name is 'b/c.txt'; expected a file name without a folder"):
        require_file_names(args, "html_name", "logfile_name")
