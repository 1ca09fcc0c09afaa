"""A run of inversions in its folder: codes and figures block by block, pictures and a page at the end."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from higan.devices import within_memory
from higan.editing.inversion import Features, Inversion, Statistics, invert, remark, sample_statistics
from higan.editing.pictures import Picture, read_picture
from higan.files import digest, encode_image, read_rows, write_atomic
from higan.logs import progress
from higan.report import describe_origin
from higan.report.inversion import PictureRow, write_inversion_page
from higan.runs.run import Array, Run

if TYPE_CHECKING:
    from higan.generators import Generator

FIGURES = ("psnr", "code_percentile", "image_percentile")
MOST_AT_ONCE = 16  # pictures; gradients need about three times the memory of pictures
MOST_ON_PAGE = 500
VIEWS = ("before", "after", "difference")


class InversionRun:
    """Inversions of picture files, resumable.

    Parameters
    ----------
    paths
        The picture files; row i of every array is the i-th of them.
    steps, starts, features, seed
        As `higan.invert`.
    crop
        As `read_picture`.
    batch_size
        Pictures at a time; 0: as many as the generator makes at once, 16 at most.

    Raises
    ------
    HiganError
        A picture cannot be read.
    """

    def __init__(
        self,
        generator: Generator,
        paths: Sequence[Path],
        folder: Path,
        steps: int,
        starts: int,
        crop: str = "center",
        features: tuple[str, Features | None] = ("none", None),
        seed: int = 0,
        batch_size: int = 0,
    ) -> None:
        self.generator, self.paths, self.folder = generator, list(paths), folder
        self.steps, self.starts, self.crop, self.seed = steps, starts, crop, seed
        self.features = features[1]
        self.space = generator.entry
        self.names = unique_names(path.stem for path in paths)
        for path in paths:
            self.read(path)
        settings = {
            "program": "inversion",
            "model_name": generator.name,
            "model_sha256": generator.sha256,
            "class_idx": generator.class_idx,
            "latent_space_type": self.space,
            "pictures_sha256": hashlib.sha256("".join(digest(path) for path in paths).encode()).hexdigest(),
            "crop": crop,
            "steps": steps,
            "starts": starts,
            "features": features[0],
            "seed": seed,
        }
        arrays = {
            f"{self.space}.npy": Array(generator.code_shape(self.space), np.dtype(np.float32)),
            "inversion.npy": Array((), np.dtype([(name, "<f4") for name in FIGURES])),
            "loss.npy": Array((steps,), np.dtype(np.float32)),
        }
        size = batch_size or min(generator.batch_size, MOST_AT_ONCE)
        self.at_once = size
        self.run = Run(folder, settings, arrays, len(self.paths), size)

    def read(self, path: Path) -> Picture:
        """Return a picture as the model takes it."""
        return read_picture(path, self.generator.image_size, self.crop)

    def work(self, blocks: Sequence[int]) -> None:
        """Invert the pictures of `blocks`; what is done stays done."""
        log = logging.getLogger("higan")
        statistics = sample_statistics(self.generator, self.seed) if blocks else None
        for block in blocks:
            rows = self.run.rows(block)
            start = rows.start
            while start < rows.stop:
                result, self.at_once = within_memory(
                    partial(self.invert, range(start, rows.stop), statistics), self.at_once
                )
                figures = np.stack([getattr(result, name) for name in FIGURES], axis=1).astype(np.float32)
                self.run.write(f"{self.space}.npy", start, result.codes.numpy())
                self.run.write("inversion.npy", start, figures)
                self.run.write("loss.npy", start, result.losses.T)
                log.info("pictures %d to %d: %.1f dB on average", start, start + len(figures) - 1, result.psnr.mean())
                start += len(figures)
            self.run.finish(block)
            self.run.drain()  # a block takes minutes: what is done should count at once

    def invert(self, rows: range, statistics: Statistics | None, size: int) -> Inversion:
        """Return the inversion of the first `size` pictures of `rows`."""
        pictures = np.stack([self.read(self.paths[row]).image for row in rows[:size]])
        return invert(
            self.generator,
            pictures,
            self.steps,
            self.starts,
            self.features,
            self.seed,
            statistics,
            lambda steps: progress(iterable=steps, unit="step", leave=False),
        )

    def figures(self) -> NDArray[np.void]:
        """Return the figures of every picture, a structured array [N] with the fields `FIGURES`."""
        return read_rows(self.folder / "inversion.npy", 0, self.run.num)

    def remarks(self) -> list[str]:
        """Return a line for every picture, and what is to be known of it."""
        return [f"{name}: {remark(*row)}" for name, row in zip(self.names, self.figures(), strict=True)]

    def write_views(self, html_name: str) -> Path:
        """Write before, after and difference of every picture, and the page of the first 500; return its path."""
        figures = self.figures()
        shown: list[PictureRow] = []

        def rows() -> Iterator[NDArray[np.uint8]]:
            for index, path in enumerate(self.paths):
                picture = self.read(path)
                code = read_rows(self.folder / f"{self.space}.npy", index, index + 1)
                after = self.generator.synthesize(code, self.space)[0].cpu().numpy()
                views = np.stack([picture.image, after, difference_of(picture.image, after)])
                for word, view in zip(VIEWS, views, strict=True):
                    write_atomic(self.folder / f"{self.names[index]}_{word}.png", encode_image(view, "png"))
                if index < MOST_ON_PAGE:
                    yield views

        for name, row in zip(self.names[:MOST_ON_PAGE], figures, strict=False):
            shown.append(PictureRow(name, f"{row['psnr']:.1f} dB", remark(*row)))
        page = self.folder / html_name
        losses = read_rows(self.folder / "loss.npy", 0, self.run.num)
        write_inversion_page(
            page,
            rows(),
            shown,
            losses=losses.mean(axis=0),
            title=f"{self.generator.name}: inversion",
            summary=f"{self.run.num} picture{'s' if self.run.num != 1 else ''}, found again with "
            f"{figures['psnr'].mean():.1f} dB on average. Edit them with -c {self.folder / f'{self.space}.npy'}.",
            total=self.run.num,
            details={"Steps": str(self.steps), "Crop": self.crop, **describe_origin(self.generator)},
        )
        return page


def difference_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return twice the difference of two pictures around middle grey, uint8 like them."""
    return (127.5 + 2 * (after.astype(np.float32) - before)).clip(0, 255).astype(np.uint8)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names, with _2, _3, ... behind those that came before."""
    found: list[str] = []
    for name in names:
        number, chosen = 1, name
        while chosen in found:
            number += 1
            chosen = f"{name}_{number}"
        found.append(chosen)
    return found
