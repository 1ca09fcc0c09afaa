"""What a step says while it works: its log, on standard output and in a file, and its progress bar."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from higan.errors import HiganError, printable, silence
from higan.files import disk_error

if TYPE_CHECKING:
    from tqdm import tqdm


def open_log(folder: Path | None = None, name: str = "log.txt", quiet: bool = False) -> logging.Logger:
    """Return the logger "higan": standard output and, once there is a `folder`, the end of its file `name`.

    Parameters
    ----------
    quiet
        Say warnings only, and write no file: for all ranks but the first.

    Raises
    ------
    HiganError
        The file cannot be written; or, later, while it is.
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


def progress(**options: Any) -> tqdm[Any]:
    """Return a progress bar of tqdm's `options` on a terminal's standard error, by a clock that is never set back."""
    from tqdm import tqdm

    bar = tqdm(**{"disable": not sys.stderr.isatty()} | options)
    bar._time = time.monotonic  # tqdm's own stands still until a clock that was set back has caught up
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar


def check_log(folder: Path, name: str) -> Path:
    """Return the path of a log in `folder`; raise HiganError unless it is, or can become, a regular file there."""
    path = folder / name
    if path.name != name or path.suffix in (".npy", ".json"):
        raise HiganError(f"the log's name is {name!r}; expected a file name without a folder, such as log.txt")
    if path.exists() and not path.is_file():
        raise HiganError(f"cannot write the log {path}: it is no regular file; remove it")
    return path


class LineFormatter(logging.Formatter):
    """Makes every message one printable line, whatever names it has in it."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class LogFile(logging.FileHandler):
    """A log that cannot be written any more ends the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise HiganError for what the disk did."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise disk_error(Path(self.baseFilename).parent, error) from None
        super().handleError(record)


class LogStream(logging.StreamHandler):
    """The run goes on without a terminal or a pipe that is gone."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let what was not written, and what comes, go nowhere."""
        if isinstance(sys.exc_info()[1], OSError):
            silence(self.stream)
        else:
            super().handleError(record)
