"""A run of inversions in its folder: codes and figures block by block, pictures and a page at the end."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from higan.checkpoints import read_checkpoint, write_checkpoint
from higan.devices import require_memory, within_memory
from higan.editing.inversion import (
    FAR,
    TUNE_STEPS,
    Features,
    Inversion,
    Statistics,
    invert,
    noise_images,
    remark,
    sample_statistics,
    tune,
)
from higan.editing.pictures import Picture, read_picture
from higan.errors import CheckpointError, HiganError
from higan.files import digest, encode_image, read_rows, to_rgb, write_array, write_atomic
from higan.generators.network import say_space
from higan.logs import progress
from higan.report import describe_origin
from higan.report.inversion import PictureRow, write_inversion_page
from higan.runs.run import Array, Run

if TYPE_CHECKING:
    from higan.generators import Generator

FIGURES = ("psnr", "code_percentile", "image_percentile")
MOST_AT_ONCE = 16  # pictures; gradients need about three times the memory of pictures
MOST_ON_PAGE = 500
MOST_LINES = 20  # pictures that the log tells one by one
VIEWS = ("before", "after", "difference")
TUNED_FILE = "tuned.npy"
LONGEST_NAME = 200  # bytes; a file's name has 255 at most, and more comes before and behind this one


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
    tuning
        What of the generator is tuned to all pictures once their codes are found, see `higan.editing.inversion.tune`;
        "": nothing. Its weights are written as tuned/NAME.pth, and the figures afterwards as tuned.npy.
    tune_steps
        Steps of that.

    Raises
    ------
    HiganError
        A picture cannot be read, or what is written would take its place.
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
        tuning: str = "",
        tune_steps: int = TUNE_STEPS,
    ) -> None:
        self.generator, self.paths, self.folder = generator, list(paths), folder
        self.steps, self.starts, self.crop, self.seed = steps, starts, crop, seed
        self.features, self.tuning, self.tune_steps = features[1], tuning, tune_steps
        self.tuned_path = Path("tuned", f"{generator.name}.pth")
        self.space = generator.entry
        self.names = unique_names(path.stem for path in paths)
        views = {(folder / f"{name}_{word}.png").resolve() for name in self.names for word in VIEWS}
        if lost := next((path for path in paths if path.resolve() in views), None):
            raise HiganError(f"{lost} would be written over by a picture of this run; choose another --output_dir")
        if tuning not in ("", "weights"):
            noise_images(generator)  # told before the codes are looked for
        for path in progress(iterable=self.paths, desc="reading", unit="picture", leave=False):
            self.read(path)
        settings = {
            "program": "inversion",
            "model_name": generator.name,
            "model_sha256": generator.sha256,
            "truncation_psi": generator.truncation_psi,
            "truncation_layers": generator.truncation_layers,
            "noise": generator.noise,
            "translate": generator.translate,
            "rotate": generator.rotate,
            "class_idx": generator.class_idx,
            "latent_space_type": self.space,
            "pictures_sha256": hashlib.sha256("".join(digest(path) for path in paths).encode()).hexdigest(),
            "crop": crop,
            "steps": steps,
            "starts": starts,
            "features": features[0],
            "seed": seed,
        }
        if tuning:
            settings |= {"tuned": self.tuned_path.as_posix(), "tuning": tuning, "tune_steps": tune_steps}
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
        return read_picture(path, self.generator.image_size, self.crop, channels=self.generator.image_channels)

    def work(self, blocks: Sequence[int]) -> None:
        """Invert the pictures of `blocks`; what is done stays done."""
        log = logging.getLogger("higan")
        drawn = partial(progress, desc="samples", unit="batch", leave=False)
        statistics = (
            sample_statistics(self.generator, self.seed, lambda batches: drawn(iterable=batches)) if blocks else None
        )
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
                start += len(figures)
                log.info("%d of %d found; the last ones: %.1f dB", start, self.run.num, result.psnr.mean())
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

    def tune(self, settings: dict[str, Any], anew: bool) -> None:
        """Tune the generator to the pictures, and write its weights, of these constructor's `settings`.

        Unless `anew`, what an earlier process of the same run has written is taken.
        """
        path, known = self.folder / self.tuned_path, self.folder / TUNED_FILE
        generator = self.generator
        if anew:
            known.unlink(missing_ok=True)
        if known.exists() and path.exists():
            try:
                generator.network.load_state_dict(read_checkpoint(path).state_dict)
            except RuntimeError:
                raise CheckpointError(f"{path} holds other tensors than {generator.name}; remove it") from None
            generator.network.prepare(generator.dtype)
        else:
            height, width = generator.image_size
            require_memory(height * width * generator.image_channels * len(self.paths), f"{len(self.paths)} pictures")
            pictures = np.stack([self.read(place).image for place in self.paths])
            codes = read_rows(self.folder / f"{self.space}.npy", 0, self.run.num)
            found, self.at_once = within_memory(partial(self.tuned, codes, pictures), self.at_once)
            path.parent.mkdir(exist_ok=True)
            state = {name: value.float() for name, value in generator.network.state_dict().items()}
            write_checkpoint(path, generator.family, state, settings, (generator.name, generator.sha256))
            write_array(known, found.astype(np.float32))
        generator.tuned_from, generator.sha256 = (generator.name, generator.sha256), digest(path)

    def tuned(self, codes: NDArray[np.float32], pictures: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
        """Tune the generator to `size` pictures at a time; return how near it comes to each, in dB."""
        steps = partial(progress, unit="step", leave=False)
        return tune(
            self.generator,
            codes,
            pictures,
            self.tuning,
            self.tune_steps,
            self.features,
            size,
            lambda numbers: steps(iterable=numbers),
        )

    def figures(self) -> NDArray[np.void]:
        """Return the figures of every picture, a structured array [N] with the fields `FIGURES`."""
        return read_rows(self.folder / "inversion.npy", 0, self.run.num)

    def psnr(self) -> NDArray[np.floating]:
        """Return how near every picture was found, [N] in dB: with the tuned model, where there is one."""
        return read_rows(self.folder / TUNED_FILE, 0, self.run.num) if self.tuning else self.figures()["psnr"]

    def remarks(self) -> list[str]:
        """Return a line for every picture, and what is to be known of it."""
        found = [f"{name}: {remark(*row)}" for name, row in zip(self.names, self.figures(), strict=True)]
        if not self.tuning:
            return found
        return [f"{line}; {psnr:.1f} dB with the tuned model" for line, psnr in zip(found, self.psnr(), strict=True)]

    def answers(self) -> list[str]:
        """Return the lines that the log ends with: the remarks, or, of many pictures, one line that counts."""
        if self.run.num <= MOST_LINES:
            return self.remarks()
        figures, psnr, path = self.figures(), self.psnr(), self.folder / "inversion.npy"
        far = (figures["image_percentile"] >= FAR) | (figures["code_percentile"] >= FAR)
        return [
            f"{self.run.num} pictures: {psnr.mean():.1f} dB on average, {psnr.min():.1f} to {psnr.max():.1f}; "
            f"{far.sum()} of them outside of what the model draws; {path} has each"
        ]

    def write_views(self, html_name: str) -> Path:
        """Write before, after and difference of every picture, and the page of the first 500; return its path."""
        psnr = self.psnr()
        shown: list[PictureRow] = []

        def rows() -> Iterator[NDArray[np.uint8]]:
            for index, path in enumerate(self.paths):
                picture = self.read(path)
                code = read_rows(self.folder / f"{self.space}.npy", index, index + 1)
                after = self.generator.synthesize(code, self.space)[0].cpu().numpy()
                views = [picture.image, after, difference_of(to_rgb(picture.image), to_rgb(after))]
                for word, view in zip(VIEWS, views, strict=True):
                    write_atomic(self.folder / f"{self.names[index]}_{word}.png", encode_image(view, "png"))
                if index < MOST_ON_PAGE:
                    yield np.stack([to_rgb(view) for view in views])

        for name, near, line in zip(self.names[:MOST_ON_PAGE], psnr, self.remarks(), strict=False):
            shown.append(PictureRow(name, f"{near:.1f} dB", line.removeprefix(f"{name}: ")))
        model = f"the model {self.folder / self.tuned_path}, tuned to them, and " if self.tuning else ""
        page = self.folder / html_name
        losses = read_rows(self.folder / "loss.npy", 0, self.run.num)
        write_inversion_page(
            page,
            rows(),
            shown,
            losses=losses.mean(axis=0),
            title=f"{self.generator.name}: inversion",
            summary=f"Found again with {psnr.mean():.1f} dB{' on average' if self.run.num > 1 else ''}; "
            f"pictures: {self.run.num}. Edits take {model}-c {self.folder / f'{self.space}.npy'}.",
            total=self.run.num,
            details={
                "Codes": f"found in {say_space(self.space)}",
                "Steps": str(self.steps),
                "Crop": self.crop,
                **describe_origin(self.generator),
            },
        )
        return page


def difference_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return twice the difference of two pictures around middle grey, uint8 like them."""
    return (127.5 + 2 * (after.astype(np.float32) - before)).clip(0, 255).astype(np.uint8)


def unique_names(names: Iterable[str]) -> list[str]:
    """Return the names, cut where they are too long, with _2, _3, ... behind those that came before."""
    found: dict[str, int] = {}  # and the last number behind it
    for name in names:
        if len(encoded := os.fsencode(name)) > LONGEST_NAME:
            name = encoded[:LONGEST_NAME].decode(errors="ignore")
        chosen = name
        while chosen in found:
            found[name] += 1
            chosen = f"{name}_{found[name]}"
        found[chosen] = 1
    return list(found)
