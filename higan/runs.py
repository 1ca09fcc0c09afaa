"""An output folder on disk: settings, streamed arrays, what is done, resume.

`run.json` says what made the arrays beside it; while a run goes on, `blocks/` holds one empty file per finished block.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from higan.errors import Handlers, HiganError, Stopped, handle_stops, printable

if TYPE_CHECKING:
    from tqdm import tqdm

FORMAT = 1
RECORD = {"complete": bool, "settings": dict, "num": int, "block_size": int, "arrays": dict, "versions": dict}
RUN_FILE, BLOCK_FOLDER, IMAGE_FOLDER, LOCK_FILE, TEMPORARY = "run.json", "blocks", "images", ".lock", ".tmp"
SMALL_FILE = 2**24  # bytes; descriptions, lists and the like are a thousandth of it
HEADER_BYTES = 2**20  # of an .npy file; numpy's own limit is too near to 365 named fields
CHECK_ROWS = 4096
IMAGE_FORMATS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95},
    "png": {"format": "PNG", "compress_level": 3},
    "webp": {"format": "WEBP", "quality": 90, "method": 2},
}
BYTES_PER_PIXEL = {"jpg": 0.8, "png": 2.3, "webp": 0.6}  # upper estimates, from noisy pictures
IMAGES_WAITING = 512
FREE_RESERVE = 2**26


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a file that is either whole or not there: temporary file in the same folder, flushed, renamed.

    Raises
    ------
    HiganError
        The disk is full, or the folder cannot be written or is gone.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException as error:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _disk_error(path.parent, error) from None
        raise


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array as a plain .npy file that is either whole or not there."""
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array), allow_pickle=False)
    write_atomic(path, content.getvalue())


def encode_image(image: np.ndarray, image_format: str) -> bytes:
    """Return an image, uint8 [H, W, 3], as a file of `image_format`, one of `IMAGE_FORMATS`."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, **IMAGE_FORMATS[image_format])
    return content.getvalue()


@contextmanager
def output_folder(path: str | Path, others: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Hold the folder `path`, made if need be, and the folders `others` for this process, without what a kill left.

    Raises
    ------
    HiganError
        One of them cannot be written, another process holds it, or at the end it is no longer there.
    """
    folder = _open_folder(Path(path))
    locks: list[Lock] = []
    with ExitStack() as stack:
        places = {Path(other).resolve(): Path(other) for other in others} | {folder.resolve(): folder}
        for place in places.values():
            lock = Lock(_open_folder(place))
            stack.callback(lock.release)
            _remove_strays(place)
            locks.append(lock)
        yield folder
        for lock in locks:
            if not lock.holds():
                raise HiganError(f"the folder {lock.folder} was removed or replaced; run the same command again")


def open_log(folder: Path | None = None, name: str = "log.txt", quiet: bool = False) -> logging.Logger:
    """Return the logger "higan": standard output and, once there is a `folder`, the end of its file `name`."""
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


def is_file(path: str | Path) -> bool:
    """Whether `path` is a regular file; a name that no file can have is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file to read; pipes and devices, which need not end, are an OSError like what is not there."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is no regular file")
    return path.open("rb")


def read_small(path: str | Path) -> bytes:
    """Return the content of a regular file; OSError unless it can be read and has at most `SMALL_FILE` bytes."""
    with open_file(path) as file:
        content = file.read(SMALL_FILE + 1)
    if len(content) > SMALL_FILE:
        raise OSError(errno.EFBIG, f"it has more than {_size(SMALL_FILE)}")
    return content


class LogFile(logging.FileHandler):
    """A log that cannot be written any more ends the run."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise HiganError for what the disk did."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise _disk_error(Path(self.baseFilename).parent, error) from None
        super().handleError(record)


class LogStream(logging.StreamHandler[Any]):
    """The run goes on without a terminal or a pipe that is gone."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let what was not written, and what comes, go nowhere."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
            return
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stream.fileno())


def progress(**options: Any) -> tqdm[Any]:
    """Return a progress bar of tqdm's `options` on a terminal's standard error, by a clock that is never set back."""
    from tqdm import tqdm

    bar = tqdm(**{"disable": not sys.stderr.isatty()} | options)
    bar._time = time.monotonic  # tqdm's own stands still until a clock that was set back has caught up
    bar.start_t = bar.last_print_t = time.monotonic()
    return bar


def read_array(path: str | Path) -> np.ndarray:
    """Return the array in an .npy file, memory-mapped, read only.

    Raises
    ------
    HiganError
        The file is missing, truncated, not .npy, holds Python objects, or belongs to a run that is not finished.
    """
    path = Path(path)
    if not is_file(path):
        raise HiganError(f"there is no file {path}; expected an .npy array")
    run = read_run(path.parent)
    if run and path.name in run["arrays"] and not run["complete"]:
        raise HiganError(f"{path} is not finished; run the command that started it again, it goes on where it stopped")
    return _map_array(path)


def read_run(folder: str | Path) -> dict[str, Any] | None:
    """Return the content of `folder`/run.json, None if there is none; raise HiganError if it is not of a run."""
    path = Path(folder) / RUN_FILE
    try:
        content = json.loads(read_small(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise HiganError(f"cannot read {path} ({error}); delete it or choose another folder") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise HiganError(f"{path} is not the record of a run of this version; choose another --output_dir")
    for key, kind in RECORD.items():
        if type(content.get(key)) is not kind:
            raise HiganError(
                f"{path}: {key} is {str(content.get(key))[:60]!r}; expected a run's own record: delete it or choose "
                "another folder"
            )
    return content


@dataclass
class Array:
    """One array of a run: what a row is."""

    row: tuple[int, ...]
    dtype: np.dtype

    def bytes(self, rows: int) -> int:
        """Return the size of `rows` rows."""
        return rows * int(np.prod(self.row, dtype=np.int64)) * self.dtype.itemsize

    def describe(self, rows: int) -> str:
        """Return type and shape in words, as in "float32 [2000, 512]"."""
        kind = ", ".join(self.dtype.names) if self.dtype.names else str(self.dtype)
        return f"{kind} {[rows, *self.row]}"


class Run:
    """Arrays (and images) of `num` rows that are written block by block and survive being killed.

    Row i lies at its place in the file of final size from the start. A block counts once its bytes are flushed and its
    mark is renamed into place. Writing of images, flushing and marking go on behind the computation.

    Parameters
    ----------
    folder
        Made if it is not there.
    settings
        Everything that decides what the bytes are; plain values. A folder whose settings differ is refused.
    arrays
        {file name: Array}.
    num, block_size
        Rows in all, and rows per block.
    image_format, resolution
        For `write_images`; None: no images.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        arrays: Mapping[str, Array],
        num: int,
        block_size: int,
        image_format: str | None = None,
        resolution: int = 0,
    ) -> None:
        self.folder, self.num, self.block_size = Path(folder), num, block_size
        self.arrays = dict(arrays)
        self.image_format, self.resolution = image_format, resolution
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "complete": False,
            "settings": json.loads(json.dumps(dict(settings))),
            "num": num,
            "block_size": block_size,
            "arrays": {name: array.describe(num) for name, array in self.arrays.items()},
            "versions": versions(),
        }
        self.lock: Lock | None = None
        self.files: dict[str, int] = {}
        self.offsets: dict[str, int] = {}
        self.encoders = ThreadPoolExecutor(max_workers=max(2, min(8, (os.cpu_count() or 1) // 2)))
        self.finisher = ThreadPoolExecutor(max_workers=1)
        self.waiting = threading.Semaphore(IMAGES_WAITING)
        self.images: list[Future[None]] = []
        self.unfinished: list[Future[None]] = []

    def begin(self, overwrite: bool = False) -> list[int]:
        """Lock the folder, create the files or find those of the same run, and return the blocks still to do.

        Raises
        ------
        HiganError
            The folder holds another run or files of the same names (unless `overwrite`), an array was damaged, or
            there is too little free space.
        """
        self.lock = Lock(_open_folder(self.folder))
        for place in (self.folder, self.folder / BLOCK_FOLDER):
            _remove_strays(place)
        if overwrite:
            self._remove()
        try:
            found = read_run(self.folder)
            if found is None:
                self._require_empty()
                self._require_space(range(self.num_blocks))
                write_atomic(self.folder / RUN_FILE, self._dump())
            else:
                self._require_same(found)
            pending = [] if self.record["complete"] else self._pending()
            self._require_space(pending)
            for name, array in self.arrays.items():
                self._create(name, array, may_create=len(pending) == self.num_blocks)
            if not self.record["complete"]:
                (self.folder / BLOCK_FOLDER).mkdir(exist_ok=True)
            if self.image_format:
                (self.folder / IMAGE_FOLDER).mkdir(exist_ok=True)
        except OSError as error:
            raise _disk_error(self.folder, error) from None
        self.lock.share()
        return pending

    def join(self, rank: int) -> None:
        """Take part in a run that rank 0 has begun; nothing to do for rank 0 itself."""
        if rank:
            self.lock = Lock(self.folder, shared=True)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_blocks(self) -> int:
        """Number of blocks; the last may be smaller."""
        return -(-self.num // self.block_size)

    def rows(self, block: int) -> range:
        """Return the rows of a block."""
        return range(block * self.block_size, min((block + 1) * self.block_size, self.num))

    def num_done(self) -> int:
        """Return how many rows lie in finished blocks, those of other processes included."""
        if self.record["complete"]:
            return self.num
        return sum(len(self.rows(block)) for block in range(self.num_blocks) if self._mark(block).exists())

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Write rows of array `name` from row `start` on; `values` are [N, *row], of named scores [N, K]."""
        array = self.arrays[name]
        if name not in self.files:
            path = self.folder / name
            self.offsets[name] = _map_array(path).offset
            self.files[name] = os.open(path, os.O_WRONLY)
        if array.dtype.names is not None:
            values = np.ascontiguousarray(values, np.float32).view(array.dtype)[:, 0]
        data = memoryview(np.ascontiguousarray(values, array.dtype).tobytes())
        place = self.offsets[name] + array.bytes(start)
        try:
            while data:
                written = os.pwrite(self.files[name], data, place)
                data, place = data[written:], place + written
        except OSError as error:
            raise _disk_error(self.folder, error) from None

    def write_images(self, start: int, images: np.ndarray) -> None:
        """Encode and write uint8 images [N, H, W, 3] as images `start`, start + 1, ... in the background."""
        for index, image in enumerate(images, start):
            self.waiting.acquire()
            future = self.encoders.submit(self._write_image, index, image)
            future.add_done_callback(lambda _: self.waiting.release())
            self.images.append(future)

    def finish(self, block: int) -> None:
        """Flush and mark a block whose rows were all written, in the background; report what went wrong before."""
        images, self.images = self.images, []
        self.unfinished.append(self.finisher.submit(self._finish, block, images))
        while len(self.unfinished) > 2 or (self.unfinished and self.unfinished[0].done()):
            self.unfinished.pop(0).result()

    def drain(self) -> None:
        """Wait until every finished block is marked."""
        while self.unfinished:
            self.unfinished.pop(0).result()

    def complete(self) -> None:
        """Record that all blocks are done; call once, after every process has drained its own."""
        missing = [block for block in range(self.num_blocks) if not self._mark(block).exists()]
        if missing and not self.record["complete"]:
            raise HiganError(f"{len(missing)} blocks of {self.folder} are missing; run the same command again")
        self.record["complete"] = True
        write_atomic(self.folder / RUN_FILE, self._dump())
        shutil.rmtree(self.folder / BLOCK_FOLDER, ignore_errors=True)

    def close(self) -> None:
        """Stop the background threads and close the files; what is not marked by then is done again another time."""
        self.encoders.shutdown(cancel_futures=True)
        self.finisher.shutdown(cancel_futures=True)
        for file in self.files.values():
            os.close(file)
        self.files.clear()
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _finish(self, block: int, images: Sequence[Future[None]]) -> None:
        try:
            for image in images:
                image.result()
            for file in list(self.files.values()):
                os.fsync(file)
            if images:
                _flush_file_system(self.folder)
            self._mark(block).touch()
        except OSError as error:
            raise _disk_error(self.folder, error) from None

    def _write_image(self, index: int, image: np.ndarray) -> None:
        name = f"{index:06d}.{self.image_format}"
        temporary = self.folder / BLOCK_FOLDER / f".{name}{TEMPORARY}"
        temporary.write_bytes(encode_image(image, self.image_format or "jpg"))
        temporary.replace(self.folder / IMAGE_FOLDER / name)

    def _mark(self, block: int) -> Path:
        return self.folder / BLOCK_FOLDER / f"{block:06d}"

    def _pending(self) -> list[int]:
        return [block for block in range(self.num_blocks) if not self._mark(block).exists()]

    def _dump(self) -> str:
        return json.dumps(self.record, indent=2) + "\n"

    def _create(self, name: str, array: Array, may_create: bool) -> None:
        """Check array `name`, or make it at its full size, filled with zeros that take no space yet."""
        path = self.folder / name
        shape = (self.num, *array.row)
        if path.exists():
            found = _map_array(path)
            if found.shape != shape or found.dtype != array.dtype:
                raise HiganError(
                    f"{path} holds {found.dtype} {list(found.shape)}, not this run's array; --overwrite starts anew"
                )
            return
        if not may_create:
            raise HiganError(f"{path} is gone, though parts of it were done; --overwrite starts anew")
        temporary = path.with_name(f".{name}{TEMPORARY}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that names in other than Latin letters need a recent numpy
            np.lib.format.open_memmap(temporary, "w+", array.dtype, shape)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)

    def _remove(self) -> None:
        """Remove what this run would write and what the record of an earlier run names; nothing else."""
        try:
            earlier = read_run(self.folder) or {"arrays": {}}
        except HiganError:
            earlier = {"arrays": {}}
        try:
            shutil.rmtree(self.folder / BLOCK_FOLDER, ignore_errors=True)  # first: nothing counts as done any more
            for name in {*self.arrays, *earlier["arrays"]}:
                (self.folder / Path(name).name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / IMAGE_FOLDER, ignore_errors=True)
            (self.folder / RUN_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(self.folder, error) from None

    def _require_empty(self) -> None:
        names = [*self.arrays, *([IMAGE_FOLDER] if self.image_format else []), BLOCK_FOLDER]
        for name in names:
            if (self.folder / name).exists():
                raise HiganError(
                    f"{self.folder} has {name} but no {RUN_FILE} that says what made it; choose another --output_dir "
                    "or replace it with --overwrite"
                )

    def _require_same(self, found: dict[str, Any]) -> None:
        differences = _differences(found.get("settings"), self.record["settings"], "")
        differences += _differences(found.get("num"), self.num, "num")
        for key in ("block_size", "arrays"):
            differences = differences or _differences(found.get(key), self.record[key], key)
        if differences:
            shown = "; ".join(differences[:8]) + ("; ..." if len(differences) > 8 else "")
            raise HiganError(
                f"{self.folder} holds another run: {shown}; give the same arguments, another --output_dir, or "
                "--overwrite"
            )
        if changed := _differences(found["versions"], self.record["versions"], ""):
            logging.getLogger("higan").warning("versions differ from when this run began: %s", "; ".join(changed))
        self.record = found

    def _require_space(self, blocks: Sequence[int]) -> None:
        """Raise HiganError unless the rows of `blocks` fit on the disk."""
        rows = sum(len(self.rows(block)) for block in blocks)
        needed = float(sum(array.bytes(rows) for array in self.arrays.values()))
        if self.image_format:
            needed += rows * (2048 + self.resolution**2 * BYTES_PER_PIXEL[self.image_format])
        free = shutil.disk_usage(self.folder).free
        if blocks and needed + FREE_RESERVE > free:
            raise HiganError(
                f"{self.folder} needs about {_size(needed)} and {_size(free)} are free; make room or choose another "
                "--output_dir (--skip_image and no --save_raw_synthesis need less)"
            )


class Lock:
    """The right of one process (or of the ranks of one run) to work in a folder; it ends when the process does."""

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


class Ranks:
    """The processes that share a run (torchrun's), or this one alone.

    Attributes
    ----------
    rank, size, local_rank
        Number of this process, of all processes, and of this process on its machine.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if self.size > 1:
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what a dead rank means is said here, in one line
        self.store: Any = None
        self.taken = 0

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def join(self) -> None:
        """Meet the other processes; they only exchange block numbers, so gloo does for every kind of device."""
        if self.size == 1 or self.store is not None:
            return
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        with dead_ranks_reported():
            store, _, _ = next(iter(rendezvous("env://", self.rank, self.size)))
            group = dist.PrefixStore("group", store)
            dist.init_process_group("gloo", store=group, rank=self.rank, world_size=self.size)
        self.store = dist.PrefixStore("blocks", store)

    def first(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns in rank 0, to every rank; bad input found there ends them all."""
        if self.size == 1:
            return call()
        self.join()
        import torch.distributed as dist

        result: list[Any] = [None, False]
        failure: HiganError | None = None
        if self.rank == 0:
            try:
                result[0] = call()
            except HiganError as error:
                result[1], failure = True, error
        with dead_ranks_reported():
            dist.broadcast_object_list(result)
        if failure is not None:
            raise failure
        if result[1]:
            sys.exit(2)
        return result[0]

    def device(self, name: str) -> str:
        """Return the device of this rank for a device that was asked for: one GPU each where there are GPUs."""
        from higan.devices import choose_device

        if self.size > 1 and name in ("auto", "cuda") and choose_device(name).type == "cuda":
            return f"cuda:{self.local_rank}"
        return str(choose_device(name))

    def next(self) -> int:
        """Return the next number from 0 on that no rank has had."""
        number = self.taken
        if self.store is not None:
            with dead_ranks_reported():
                number = self.store.add("next", 1) - 1
        self.taken = number + 1
        return number

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            with dead_ranks_reported():
                dist.barrier()

    def leave(self) -> None:
        """Part from the other processes."""
        if self.store is not None:
            import torch.distributed as dist

            self.store = None
            dist.destroy_process_group()


@contextmanager
def dead_ranks_reported() -> Iterator[None]:
    """Turn the loss of another rank into a HiganError."""
    try:
        yield
    except RuntimeError:
        raise HiganError("another rank has died; the same command goes on from here") from None


class StopSignal:
    """A context in which SIGINT (Ctrl-C) and SIGTERM only set `received`, so that a block gets done.

    A second Ctrl-C ends it.
    """

    def __init__(self) -> None:
        self.received = 0
        self.before: Handlers = {}

    def __enter__(self) -> StopSignal:
        self.before = handle_stops(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def obey(self) -> None:
        """Raise Stopped if a signal came."""
        if self.received:
            raise Stopped(self.received, "the same command goes on from here")

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise Stopped(number, "the same command goes on from here")
        self.received = number


def versions() -> dict[str, str]:
    """Return the versions of what computes the numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("torch", "numpy", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def earlier_batch_size(folder: str | Path) -> int:
    """Return the batch size of the run in `folder`, 0 if there is none."""
    run = read_run(folder)
    size = run["settings"].get("batch_size") if run else 0
    return size if type(size) is int and size > 0 else 0


def check_codes(path: str | Path, row: Sequence[int], space: str) -> int:
    """Return how many codes lie in an .npy file; raise HiganError unless they are finite floats [N, *row]."""
    codes = read_array(path)
    if codes.dtype.kind != "f" or codes.shape[1:] != tuple(row) or codes.ndim != len(row) + 1 or not len(codes):
        expected = ", ".join(map(str, ("N", *row)))
        raise HiganError(
            f"{path} holds {codes.dtype} {list(codes.shape)}; expected floats [{expected}], codes of space {space}"
        )
    for start in range(0, len(codes), CHECK_ROWS):
        with np.errstate(over="ignore"):
            rows = read_rows(path, start, start + CHECK_ROWS).astype(np.float32)
        finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
        if not finite.all():
            row_of_it = start + int(np.argmin(finite))
            raise HiganError(f"{path}: code {row_of_it} holds NaN or infinity; expected finite numbers")
    return len(codes)


def read_rows(path: str | Path, start: int, stop: int) -> np.ndarray:
    """Return a copy of rows `start` to `stop` of an .npy file; nothing else of it stays in memory."""
    return np.array(_map_array(Path(path))[start:stop])


def read_header(path: str | Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, dtype and the place of the first value of an .npy file; raise HiganError if it is none."""
    with _header_checked(Path(path)), open_file(path) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=HEADER_BYTES)
        return shape, dtype, file.tell()


def _map_array(path: Path) -> np.memmap:
    with _header_checked(path):
        return np.lib.format.open_memmap(path, mode="r", max_header_size=HEADER_BYTES)


@contextmanager
def _header_checked(path: Path) -> Iterator[None]:
    """Turn whatever numpy raises of a file's header into a HiganError, and keep its warnings of old ones back."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise HiganError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the header is an expression that numpy evaluates: its errors are of any kind
        raise HiganError(f"{path} is truncated or not a plain .npy array ({error})") from None


def _differences(old: Any, new: Any, name: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        prefix = f"{name} " if name else ""
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{prefix}{key}")]
    return [] if old == new else [f"{name} was {json.dumps(old)}, now {json.dumps(new)}"]


def _open_folder(folder: Path) -> Path:
    """Return `folder`, made if need be; raise HiganError unless files can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _folder_error(folder, error) from None


def _remove_strays(folder: Path) -> None:
    """Remove the temporary files of a process that was killed; `folder` must be locked."""
    for stray in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            stray.unlink()


def _folder_error(folder: Path, error: OSError) -> HiganError:
    return HiganError(f"cannot write in {folder}: {error.strerror}; choose another --output_dir")


def _disk_error(folder: Path, error: OSError) -> HiganError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HiganError(f"the disk of {folder} is full; make room and run the same command again")
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is gone"
        return HiganError(f"{folder} {what}; once that is mended, run the same command again")
    return HiganError(f"cannot write in {folder}: {error}; once that is mended, run the same command again")


def _flush_file_system(folder: Path) -> None:
    """Flush everything on the file system of `folder`: one call instead of one per image."""
    import ctypes

    handle = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None, use_errno=True).syncfs(handle)
    except (OSError, AttributeError):
        os.sync()
    finally:
        os.close(handle)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
