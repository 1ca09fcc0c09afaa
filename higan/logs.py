"""What a step says while it works: a log, on standard output and in a file, and progress."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from higan.errors import HiganError

if TYPE_CHECKING:
    from tqdm import tqdm

LINE = 1000  # characters of an error; a name may have ten thousand
PROGRESS_SECONDS = 10  # between two lines of progress in a log


def open_log(folder: Path | None = None, name: str = "log.txt", quiet: bool = False) -> logging.Logger:
    """Return the logger "higan", which writes to standard output and, if `folder` is given, to its file `name`.

    Parameters
    ----------
    quiet
        Write warnings only, and no file: for all ranks but the first.

    Raises
    ------
    HiganError
        The file cannot be written, now or later.
    """
    logger = logging.getLogger("higan")
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [LogStream(sys.stdout)]
    if folder is not None and not quiet:
        try:
            handlers.append(LogFile(check_log(folder, name), encoding="utf-8"))
        except OSError as error:
            raise HiganError(f"cannot write the log {folder / name}: {error.strerror or error}") from None
    for handler in handlers:
        handler.setFormatter(LineFormatter("[%(asctime)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    return logger


def log_written(folder: Path, views: Sequence[Path] = (), otherwise: str = "") -> None:
    """Log a script's last line: where everything was written, and how to look at it.

    Parameters
    ----------
    views
        The pages and videos written, the first of which is named.
    otherwise
        What to do where there is none.
    """
    rest = f" ({len(views) - 1} more in the folder)" if len(views) > 1 else ""
    look = f"open {views[0]}{rest}" if views else otherwise
    logging.getLogger("higan").info("written to %s; %s", folder, look)


def program() -> str:
    """Return how this process was started, as a user types it, without the arguments.

    >>> program()  # doctest: +SKIP
    'python -m higan.inversion'
    """
    module = getattr(sys.modules["__main__"], "__spec__", None)  # None for a file, whose path argv[0] is
    if module is not None and module.name.startswith("higan."):
        return f"python -m {module.name.removesuffix('.__main__')}"
    path = Path(sys.argv[0])
    return shlex.join(["python", sys.argv[0]]) if path.suffix == ".py" else path.stem


def command_line() -> str:
    """Return the command line of this process, as a user types it."""
    return f"{program()} {shlex.join(sys.argv[1:])}".strip()


def progress(**options: Any) -> tqdm[Any]:
    """Return a tqdm bar with `options`. Without a terminal or a notebook it writes a line of the log now and then.

    The lines are `PROGRESS_SECONDS` apart. Work that takes less time writes none.
    """
    from tqdm.auto import tqdm

    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        words = "{n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left{postfix}"
        lines = {"file": LogLines(), "bar_format": words, "delay": PROGRESS_SECONDS, "mininterval": PROGRESS_SECONDS}
        options = lines | {"miniters": 1} | options
    return tqdm(**options)


def check_log(folder: Path, name: str) -> Path:
    """Return the path of a log in `folder`; raise HiganError unless it is, or can become, a regular file there."""
    path = folder / name
    if path.name != name or path.suffix in (".npy", ".json"):
        raise HiganError(f"the log's name is {name!r}; expected a file name without a folder, such as log.txt")
    if path.exists() and not path.is_file():
        raise HiganError(f"cannot write the log {path}: it is no regular file; remove it")
    return path


def one_line(text: str) -> str:
    """Return `text` as one line of printable characters; a long one is cut in the middle."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= LINE else f"{text[: LINE * 2 // 3]} [...] {text[-LINE // 4 :]}"


def counted(num: int, noun: str) -> str:
    """Return "1 sample" or "2 samples"."""
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"


def printable(text: str) -> str:
    """Return `text` with control characters, and others that cannot be seen, as backslash escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def silence(stream: TextIO) -> None:
    """Let `stream` write to the null device from now on."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class LineFormatter(logging.Formatter):
    """Makes every message one printable line, whatever names it has in it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class LogLines(io.TextIOBase):
    """A file for tqdm to draw on: each state of its bar becomes a line of the log."""

    def write(self, text: str) -> int:
        if line := text.strip():
            logging.getLogger("higan").info("%s", line)
        return len(text)


class LogFile(logging.FileHandler):
    """A log that cannot be written any more ends the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise HiganError for what the disk did."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            from higan.files import disk_error

            raise disk_error(Path(self.baseFilename).parent, error) from None
        super().handleError(record)


class LogStream(logging.StreamHandler):
    """The run goes on without a terminal or a pipe that is gone."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Write nothing from now on."""
        if isinstance(sys.exc_info()[1], OSError):
            silence(self.stream)
        else:
            super().handleError(record)
