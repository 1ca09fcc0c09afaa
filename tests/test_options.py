"""What the command lines share."""

from __future__ import annotations

import pytest

from higan.errors import HiganError
from higan.options import ArgumentParser


def test_a_command_line_that_cannot_be_parsed() -> None:
    with pytest.raises(HiganError, match=r"unrecognized arguments: --wrong; --help lists the arguments"):
        ArgumentParser("What it does.").parse_args(["--wrong"])
