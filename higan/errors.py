"""Errors that tell a user what was found, what was expected and what to do next."""

from __future__ import annotations

import sys
from collections.abc import Callable


class HiganError(Exception):
    """Bad input: its message is one line that names what was found, what was expected and what to do."""


class CheckpointError(HiganError):
    """A weight file that cannot be read, is not of a supported family, or holds unusable numbers."""


def run_script(main: Callable[[], None]) -> None:
    """Call a script's `main` and exit: 0 when it returns, 2 with one line on bad input, 130 on Ctrl-C."""
    try:
        main()
    except HiganError as error:
        print(f"{sys.argv[0]}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{sys.argv[0]}: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
