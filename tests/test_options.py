"""What the command lines share."""

from __future__ import annotations

from argparse import Namespace

import pytest

from higan.commands.options import ArgumentParser, require_file_names, require_range
from higan.errors import HiganError


def test_a_command_line_that_cannot_be_parsed() -> None:
    with pytest.raises(HiganError, match=r"unrecognized arguments: --wrong; --help lists the arguments"):
        ArgumentParser("What it does.").parse_args(["--wrong"])


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
