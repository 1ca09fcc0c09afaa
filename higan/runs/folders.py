"""Output folders: made if need be, for one process (or the ranks of one run) at a time, without what a kill left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from higan.errors import HiganError
from higan.files import TEMPORARY

LOCK_FILE = ".lock"


@contextmanager
def output_folder(path: str | Path, others: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Hold the folder `path` and the folders `others` for this process, each as `open_folder` makes it.

    Raises
    ------
    HiganError
        One of them cannot be written, another process holds it, or at the end it is no longer there.
    """
    folder = open_folder(path)
    locks: list[Lock] = []
    with ExitStack() as stack:
        places = {Path(other).resolve(): Path(other) for other in others} | {folder.resolve(): folder}
        for place in places.values():
            lock = Lock(open_folder(place))
            stack.callback(lock.release)
            remove_strays(place)
            locks.append(lock)
        yield folder
        for lock in locks:
            if not lock.holds():
                raise HiganError(f"the folder {lock.folder} was removed or replaced; run the same command again")


class Lock:
    """The right of one process (or of the ranks of one run) to work in a folder; it ends when the process does.

    Parameters
    ----------
    folder
        Must be there.
    shared
        Let other processes in that share it too.

    Raises
    ------
    HiganError
        Another process holds the folder, or it cannot be written or locked.
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        self.folder, self.path = folder, folder / LOCK_FILE
        while True:
            try:
                self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise _folder_error(folder, error) from None
            try:
                self._acquire(shared)
            except BaseException:
                os.close(self.file)
                raise
            if self.holds():
                return
            os.close(self.file)  # its last holder removed it in the meantime

    def share(self) -> None:
        """Let the other ranks of this run in; a process of another run is still refused."""
        self._acquire(shared=True)

    def holds(self) -> bool:
        """Whether the file that was locked is still the one in the folder."""
        try:
            return os.path.samestat(os.fstat(self.file), self.path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Give the folder back; the last one to do so leaves nothing in it."""
        with suppress(HiganError, OSError):
            self._acquire(shared=False)
            if self.holds():
                self.path.unlink()
        os.close(self.file)

    def _acquire(self, shared: bool) -> None:
        import fcntl

        try:
            fcntl.flock(self.file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HiganError(
                f"another process works in {self.folder}; wait for it or choose another --output_dir"
            ) from None
        except OSError as error:
            raise HiganError(f"{self.folder} cannot be locked: {error.strerror}; choose another --output_dir") from None


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


def _folder_error(folder: Path, error: OSError) -> HiganError:
    return HiganError(f"cannot write in {folder}: {error.strerror}; choose another --output_dir")
