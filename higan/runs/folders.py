"""Output folders: one process, or the ranks of one run, works in a folder at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from higan.errors import HiganError
from higan.files import TEMPORARY

LOCK_FILE = ".lock"


@contextmanager
def output_folder(path: str | Path, others: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Lock the folder `path`, and the folders `others`, for this process; make those that are not there.

    Temporary files that a killed process left in them are removed.

    Raises
    ------
    HiganError
        One of them cannot be written, another process holds it, or at the end it is no longer there.
    """
    folder = open_folder(path)
    places = {Path(other).resolve(): Path(other) for other in others} | {folder.resolve(): folder}
    locks: list[Lock] = []
    with ExitStack() as stack:
        for place in places.values():
            locks.append(stack.enter_context(Lock(open_folder(place))))
            remove_strays(place)
        yield folder
        for lock in locks:
            if not lock.holds():
                raise HiganError(f"the folder {lock.path.parent} was removed or replaced; run the same command again")


class Lock:
    """The right of one process to work in a folder. It ends with the process, however that ends.

    The ranks of one run share the folder. Each has a lock of its own; rank 0 takes its lock only where nobody has one.

    Raises
    ------
    HiganError
        Another process holds the folder, or it cannot be written or locked.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.path = folder / f"{LOCK_FILE}{rank or ''}"
        self.lock = FileLock(self.path, timeout=0)
        try:
            self.lock.acquire()
            self.file = self.path.stat()
            if not rank:
                for other in folder.glob(f"{LOCK_FILE}[1-9]*"):
                    with FileLock(other, timeout=0), suppress(OSError):
                        other.unlink()
        except Timeout:
            self.lock.release()
            raise HiganError(f"another process works in {folder}; wait for it or choose another --output_dir") from None
        except (OSError, NotImplementedError) as error:
            raise _folder_error(folder, error) from None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def holds(self) -> bool:
        """Whether the file that was locked is still the one in the folder."""
        with suppress(OSError):
            return os.path.samestat(self.path.stat(), self.file)
        return False

    def release(self) -> None:
        """Give the folder back and leave nothing in it."""
        if self.holds():
            with suppress(OSError):  # Windows keeps a file that is open: there the lock removes it
                self.path.unlink()
        self.lock.release()


def open_folder(path: str | Path) -> Path:
    """Return the folder `path`, made if need be; raise HiganError unless files can be written in it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _folder_error(folder, error) from None


def remove_strays(folder: Path) -> None:
    """Remove the temporary files of a process that was killed; `folder` must be locked."""
    for stray in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            stray.unlink()


def _folder_error(folder: Path, error: Exception) -> HiganError:
    reason = getattr(error, "strerror", None) or error
    return HiganError(f"cannot write in {folder}: {reason}; choose another --output_dir")
