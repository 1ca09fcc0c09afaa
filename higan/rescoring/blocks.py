"""What a re-scoring has measured so far, kept block by block: killed, the same command goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from higan.files import map_array
from higan.rescoring.measure import Plan, Step, Sums
from higan.runs.run import Array, Run, earlier_batch_size

FOLDER = "measured"  # in the output folder, until the results are written
NAME = "sums.npy"  # a row per block of samples


class Blocks:
    """The folder of a re-scoring that is not finished, with a run of its own for each of its plans.

    Parameters
    ----------
    folder
        The output folder.
    settings
        What decides the numbers, plain values, as a user would want to see it where another run is found.
    overwrite
        Begin anew where the folder holds another run.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool = False) -> None:
        self.folder, self.settings, self.overwrite = folder / FOLDER, dict(settings), overwrite

    @property
    def batch_size(self) -> int:
        """The batch size of what is kept, 0 if there is nothing: other batches may round otherwise."""
        return 0 if self.overwrite else earlier_batch_size(self.folder / "columns")

    def of(self, name: str, plan: Plan, batch_size: int) -> Kept:
        """Return the blocks of a plan.

        Raises HiganError if the folder holds those of another one, or if it cannot be written.
        """
        settings = self.settings | {"batch_size": batch_size, "plan_sha256": digest_of(plan)}
        return Kept(self.folder / name, settings, plan, batch_size, self.overwrite)


class Kept:
    """The sums of a plan's blocks, one row of an array each; a context that closes its files."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], plan: Plan, batch_size: int, overwrite: bool = False
    ) -> None:
        self.plan = plan
        self.blocks = plan.blocks(batch_size)
        width = max(sum(map(np.prod, Sums.shapes(plan, rows).values())) for rows in self.blocks)
        self.run = Run(folder, settings, {NAME: Array((int(width),), np.dtype(np.float64))}, len(self.blocks), 1)
        self.pending = set(self.run.begin(overwrite))

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            self.run.drain()
            if error is None and not self.pending:
                self.run.complete()
        finally:
            self.run.close()

    def read(self, block: int) -> Sums | None:
        """Return what was measured of a block, None if it is not done."""
        if block in self.pending:
            return None
        values = np.array(map_array(self.run.folder / NAME)[block])
        sums = Sums(self.plan, self.blocks[block])
        start = 0
        for array in sums.values.values():
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size
        return sums

    def write(self, block: int, sums: Sums) -> None:
        """Keep a block; float64 holds the float32 scores exactly."""
        row = np.zeros((1, *self.run.arrays[NAME].row))
        found = np.concatenate([array.ravel() for array in sums.values.values()])
        row[0, : len(found)] = found
        self.run.write(NAME, block, row)
        self.run.finish(block)
        self.pending.discard(block)


def digest_of(plan: Plan) -> str:
    """Return the SHA-256 of a plan's samples and moves: the codes, and how they move."""
    value = hashlib.sha256()
    for name, codes in plan.base.items():
        value.update(name.encode() + codes.cpu().numpy().tobytes())
    for move in plan.moves:
        moved, layers = (move.step, move.layers) if isinstance(move, Step) else (move.codes, (move.first,))
        value.update(repr(layers).encode() + moved.cpu().numpy().tobytes())
    return value.hexdigest()
