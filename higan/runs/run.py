"""A run: arrays (and images) that are written block by block into a folder, and go on after a kill.

`run.json` says what made the arrays beside it. Until the run is complete, `blocks/` holds an empty file per finished
block.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from higan import __version__
from higan.errors import HiganError
from higan.files import (
    TEMPORARY,
    disk_error,
    encode_image,
    format_size,
    is_file,
    map_array,
    read_json,
    write_atomic,
)
from higan.runs.folders import Lock, open_folder, remove_strays

FORMAT = 1
RECORD = {"complete": bool, "settings": dict, "num": int, "block_size": int, "arrays": dict, "versions": dict}
RUN_FILE, BLOCK_FOLDER = "run.json", "blocks"
KEPT = "kept"  # in the record of a run that is being extended: where the rows end that its last block had
EARLIER_IMAGE_FOLDER = "images"  # version 0.1 wrote images there, and its records do not say so
BYTES_PER_PIXEL = {"jpg": 0.8, "png": 2.3, "webp": 0.6}  # upper estimates, from noisy pictures
FREE_RESERVE = 2**26


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
    """Arrays (and images) of `num` rows, written block by block; after a kill the same run goes on.

    Files have their final size from the start. A block counts as done once its bytes are flushed and its mark, an empty
    file, is there. Images are written, and blocks flushed and marked, by threads while the computation goes on.

    Parameters
    ----------
    folder
        Made if it is not there.
    settings
        Everything that decides what the bytes are, as JSON values. A folder with other settings is refused.
    arrays
        {file name: Array}.
    num, block_size
        Rows in all, and rows per block.
    image_format, resolution
        What `write_images` writes; None: no images.
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
            "arrays": self._describe(num),
            "versions": versions(),
            "image_folder": "",
        }
        self.lock: Lock | None = None
        self.threads = ThreadPoolExecutor(max_workers=max(2, min(8, (os.cpu_count() or 1) // 2)))  # first in, first out
        self.images: list[Future[None]] = []  # of the block under way
        self.encoding: list[Future[None]] = []  # those that were written last
        self.finishing: Future[None] | None = None

    def begin(self, overwrite: bool = False) -> list[int]:
        """Lock the folder, make the files or find those of the same run, and return the blocks that are not done.

        A run of the same settings and fewer rows goes on to this many; `undone` tells what its last block lacks.

        Raises
        ------
        HiganError
            The folder holds another run or files of the same names (unless `overwrite`), an array was damaged, or
            there is too little free space.
        """
        self.lock = Lock(open_folder(self.folder))
        for place in (self.folder, self.folder / BLOCK_FOLDER):
            remove_strays(place)
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
                if found["num"] < self.num:
                    self._extend(found)
            pending = [] if self.record["complete"] else self._pending()
            self._require_space(pending)
            for name, array in self.arrays.items():
                self._create(name, array, may_create=len(pending) == self.num_blocks and not self.record.get(KEPT))
            if not self.record["complete"]:
                (self.folder / BLOCK_FOLDER).mkdir(exist_ok=True)
            if self.image_format:
                self.image_folder.mkdir(exist_ok=True)
        except OSError as error:
            raise disk_error(self.folder, error) from None
        return pending

    def join(self, rank: int) -> None:
        """Take part, as a rank above 0, in a run that rank 0 has begun."""
        if rank:
            self.lock = Lock(self.folder, rank)
            self.record = read_run(self.folder) or self.record

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def image_folder(self) -> Path:
        """Where images are written: the run's own folder, or, in a run that version 0.1 began, one in it."""
        return self.folder if "image_folder" in self.record else self.folder / EARLIER_IMAGE_FOLDER

    @property
    def num_blocks(self) -> int:
        """Number of blocks; the last may be smaller."""
        return -(-self.num // self.block_size)

    def rows(self, block: int) -> range:
        """Return the rows of a block."""
        return range(block * self.block_size, min((block + 1) * self.block_size, self.num))

    def undone(self, block: int, batch_size: int) -> range:
        """Return the rows of a block without the whole batches that it had before the run was extended."""
        rows, kept = self.rows(block), self.record.get(KEPT, 0)
        if block != kept // self.block_size:
            return rows
        return range(rows.start + (kept - rows.start) // batch_size * batch_size, rows.stop)

    def num_done(self) -> int:
        """Return how many rows lie in finished blocks, those of other processes included."""
        if self.record["complete"]:
            return self.num
        return self.num - sum(len(self.rows(block)) for block in self._pending())

    def write(self, name: str, start: int, values: np.ndarray) -> None:
        """Write rows of array `name` from row `start` on; `values` are [N, *row], of named scores [N, K]."""
        array, path = self.arrays[name], self.folder / name
        if array.dtype.names is not None:
            values = np.ascontiguousarray(values, np.float32).view(array.dtype)[:, 0]
        try:
            with path.open("rb+") as file:  # not through the map: there a full disk ends the process
                file.seek(map_array(path).offset + array.bytes(start))
                file.write(np.ascontiguousarray(values, array.dtype).tobytes())
        except OSError as error:
            raise disk_error(self.folder, error) from None

    def write_images(self, start: int, images: np.ndarray) -> None:
        """Encode and write uint8 images [N, H, W, C] as images `start`, start + 1, ... in the background."""
        wait(self.encoding)  # so that no more than two batches are in memory
        self.encoding = [self.threads.submit(self._write_image, *item) for item in enumerate(images, start)]
        self.images += self.encoding

    def finish(self, block: int) -> None:
        """Flush and mark a block, in the background, once all its rows are written. Raise what went wrong before."""
        self.drain()
        images, self.images = self.images, []
        self.finishing = self.threads.submit(self._finish, block, images)

    def drain(self) -> None:
        """Wait until every finished block is marked."""
        finishing, self.finishing = self.finishing, None
        if finishing is not None:
            finishing.result()

    def complete(self) -> None:
        """Record that all blocks are done; call once, after every process has drained its own."""
        if not self.record["complete"] and (missing := self._pending()):
            raise HiganError(f"{len(missing)} blocks of {self.folder} are missing; run the same command again")
        self.record["complete"] = True
        self.record.pop(KEPT, None)
        write_atomic(self.folder / RUN_FILE, self._dump())
        shutil.rmtree(self.folder / BLOCK_FOLDER, ignore_errors=True)

    def close(self) -> None:
        """Stop the background threads. Blocks without a mark are done again by the next run."""
        self.threads.shutdown(cancel_futures=True)
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _finish(self, block: int, images: Sequence[Future[None]]) -> None:
        try:
            for image in images:
                image.result()
            for name in self.arrays:
                with (self.folder / name).open("rb+") as file:
                    os.fsync(file.fileno())
            if images and hasattr(os, "sync"):
                os.sync()  # one call instead of one per image
            self._mark(block).touch()
        except OSError as error:
            raise disk_error(self.folder, error) from None

    def _write_image(self, index: int, image: np.ndarray) -> None:
        name = f"{index:06d}.{self.image_format}"
        temporary = self.folder / BLOCK_FOLDER / f".{name}{TEMPORARY}"
        temporary.write_bytes(encode_image(image, self.image_format or "jpg"))
        temporary.replace(self.image_folder / name)

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
            found = map_array(path)
            if found.shape != shape or found.dtype != array.dtype:
                raise HiganError(
                    f"{path} holds {found.dtype} {list(found.shape)}, not this run's array; --overwrite starts anew"
                )
            return
        if not may_create:
            raise HiganError(f"{path} is gone, though parts of it were done; --overwrite starts anew")
        self._allocate(path, array).replace(path)

    def _allocate(self, path: Path, array: Array, earlier: Path | None = None) -> Path:
        """Return a temporary file for `path`: an array of full size that begins with the rows of an `earlier` one."""
        temporary = path.with_name(f".{path.name}{TEMPORARY}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that names in other than Latin letters need a recent numpy
            first = np.lib.format.open_memmap(temporary, "w+", array.dtype, (self.num, *array.row)).offset
        with temporary.open("rb+") as file:
            if earlier is not None:
                file.seek(first)
                with earlier.open("rb") as rows:
                    rows.seek(map_array(earlier).offset)
                    shutil.copyfileobj(rows, file, 2**24)
                file.flush()
            os.fsync(file.fileno())
        return temporary

    def _extend(self, found: dict[str, Any]) -> None:
        """Make a run of `found["num"]` rows one of `self.num`: what is done of it stays, whenever this is killed."""
        logging.getLogger("higan").info("the run of %d samples in %s goes on", found["num"], self.folder)
        whole = found["num"] // self.block_size
        self._require_space(range(whole, self.num_blocks))
        (self.folder / BLOCK_FOLDER).mkdir(exist_ok=True)
        if found["complete"]:
            for block in range(whole):
                self._mark(block).touch()
        done = found["complete"] or self._mark(whole).exists()
        kept = found["num"] if done else found.get(KEPT, 0)
        self._mark(whole).unlink(missing_ok=True)  # a smaller block, if there was one
        self.record = found | {"complete": False, KEPT: kept}
        write_atomic(self.folder / RUN_FILE, self._dump())  # nobody is to read what is about to grow
        for name, array in self.arrays.items():
            path = self.folder / name
            if path.exists():
                earlier = map_array(path)
                if (earlier.shape, earlier.dtype) == ((found["num"], *array.row), array.dtype):
                    self._allocate(path, array, path).replace(path)
        self.record |= {"num": self.num, "arrays": self._describe(self.num)}
        write_atomic(self.folder / RUN_FILE, self._dump())

    def _describe(self, num: int) -> dict[str, str]:
        return {name: array.describe(num) for name, array in self.arrays.items()}

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
            for image in images_in(self.folder, earlier):
                image.unlink()
            (self.folder / RUN_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(self.folder, error) from None

    def _require_empty(self) -> None:
        names = [*self.arrays, *([f"{0:06d}.{self.image_format}"] if self.image_format else []), BLOCK_FOLDER]
        for name in names:
            if (self.folder / name).exists():
                raise HiganError(
                    f"{self.folder} has {name} but no {RUN_FILE} that says what made it; choose another --output_dir "
                    "or replace it with --overwrite"
                )

    def _require_same(self, found: dict[str, Any]) -> None:
        differences = _differences(found.get("settings"), self.record["settings"], "")
        if differences or found["num"] > self.num:
            differences += _differences(found["num"], self.num, "num")
        for key, own in (("block_size", self.block_size), ("arrays", self._describe(found["num"]))):
            differences = differences or _differences(found[key], own, key)
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
                f"{self.folder} needs about {format_size(needed)} and {format_size(free)} are free; make room or "
                "choose another --output_dir (--skip_image and no --save_raw_synthesis need less)"
            )


def images_in(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return the images in a run's folder that are of the run with this record."""
    num, image_format = record.get("num", 0), record.get("settings", {}).get("image_format")
    place = folder if "image_folder" in record else folder / EARLIER_IMAGE_FOLDER
    found = place.iterdir() if image_format and place.is_dir() else iter(())
    return [
        path for path in found if path.suffix == f".{image_format}" and path.stem.isdecimal() and int(path.stem) < num
    ]


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
    return map_array(path)


def read_run(folder: str | Path) -> dict[str, Any] | None:
    """Return the content of `folder`/run.json, None if there is none; raise HiganError if it is not of a run."""
    path = Path(folder) / RUN_FILE
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HiganError(f"cannot read {path} ({error}); delete it or choose another folder") from None
    if content.get("format") != FORMAT:
        raise HiganError(f"{path} is not the record of a run of this version; choose another --output_dir")
    for key, kind in (RECORD | ({KEPT: int} if KEPT in content else {})).items():
        if type(content.get(key)) is not kind:
            raise HiganError(
                f"{path}: {key} is {str(content.get(key))[:60]!r}; expected a run's own record: delete it or choose "
                "another folder"
            )
    return content


def versions() -> dict[str, str]:
    """Return the versions of this project and of what computes the numbers."""
    import PIL
    import torch

    return {
        "higan": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def earlier_batch_size(folder: str | Path) -> int:
    """Return the batch size of the run in `folder`, 0 if there is none."""
    run = read_run(folder)
    size = run["settings"].get("batch_size") if run else 0
    return size if type(size) is int and size > 0 else 0


def _differences(old: Any, new: Any, name: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        prefix = f"{name} " if name else ""
        return [line for key in keys for line in _differences(old.get(key), new.get(key), f"{prefix}{key}")]
    return [] if old == new else [f"{name} was {json.dumps(old)}, now {json.dumps(new)}"]
