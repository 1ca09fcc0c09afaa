"""The first step of the method: codes, styles, images and scores of many samples, streamed into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from higan.errors import HiganError
from higan.generators import Generator
from higan.generators.codes import Codes
from higan.generators.generator import NotFiniteError
from higan.generators.network import per_layer
from higan.logs import progress
from higan.predictors import Predictor
from higan.runs.ranks import Ranks
from higan.runs.run import Array, Run
from higan.runs.stop import StopFlag

BLOCK_BATCHES = 16  # what a kill costs at most
MAPPING_BATCH = 1024
# A CPU's kernels round differently in batches of different sizes, so that there the networks always see this many
# samples, the same ones together: a sample's bytes then do not depend on its batch. It costs no speed.
GROUP = 8


class Synthesis:
    """What is computed for every sample, and in which order.

    Parameters
    ----------
    generator
        Makes the codes and images.
    num
        How many samples; with `codes_path` their number decides.
    seed
        Sample i is z row i of this seed.
    predictor
        Scores the images; None: no scores.
    codes_path, space
        A file of codes, and their latent space, as `Codes` takes them; without it they are drawn from `seed`, in z, and
        `space` is the last that is written.
    batch_size
        Samples at a time, rounded up to a multiple of `GROUP`; 0: as the device's memory allows.
    images, styles, wp
        Write the images, the style of every layer, wp (which follows from w).

    Raises
    ------
    HiganError
        The model lacks the space, styles or w+, or the file holds no codes of it.
    """

    def __init__(
        self,
        generator: Generator,
        num: int,
        seed: int = 0,
        predictor: Predictor | None = None,
        space: str | None = None,
        codes_path: Path | None = None,
        batch_size: int = 0,
        images: bool = False,
        styles: bool = False,
        wp: bool = False,
    ) -> None:
        if (styles or wp) and not generator.has_layers:
            raise HiganError(f"{generator.name} ({generator.family}) has neither styles nor w+; leave them out")
        self.generator, self.predictor = generator, predictor
        self.source = Codes(generator, num, seed, codes_path, space)
        self.space, self.num, self.codes_sha256 = self.source.space, self.source.num, self.source.sha256
        self.images, self.styles, self.wp = images, styles, wp or per_layer(space or self.space)
        self.renders = images or predictor is not None
        automatic = generator.batch_size if self.renders else MAPPING_BATCH
        self.batch_size = -(-(batch_size or automatic) // GROUP) * GROUP
        if batch_size and generator.device.type == "cuda":
            generator.batch_size = self.batch_size

    @property
    def block_size(self) -> int:
        """Rows per block of the run."""
        return self.batch_size * BLOCK_BATCHES

    def arrays(self) -> dict[str, Array]:
        """Return the files of the run: {name: what a row is}."""
        first = self.compute(0, 1, render=False)
        arrays = {
            f"{name}.npy": Array(tuple(row.shape[1:]), np.dtype(str(row.dtype).removeprefix("torch.")))
            for name, row in first.items()
        }
        for group, names in self.predictor.names.items() if self.predictor else ():
            arrays[f"{group}.npy"] = Array((), np.dtype([(name, "<f4") for name in names]))
        return arrays

    def codes(self, start: int, stop: int) -> dict[str, Tensor]:
        """Return the codes of samples `start` to `stop` in every space that is written, by space."""
        generator, codes = self.generator, self.source.rows(start, stop)
        written = [space for space in generator.spaces if self.wp or not per_layer(space)]
        return generator.follow(codes, self.space, self.source.labels(start, stop), until=written[-1])

    def compute(self, start: int, stop: int, render: bool = True) -> dict[str, Tensor]:
        """Return what there is of samples `start` to `stop`: {file name without .npy, or "images": [N, ...]}."""
        results = self.codes(start, stop)
        entry = self.entry(results) if self.styles or (render and self.renders) else None
        if entry is not None and self.styles:
            results |= {f"style{layer:02d}": style for layer, style in enumerate(self.generator.styles(entry))}
        if entry is not None and render and self.renders:
            results |= self.render(entry)
        if (labels := self.source.labels(start, stop)) is not None:
            results["labels"] = labels
        return results

    def pictures(self, num: int) -> Iterator[np.ndarray]:
        """Yield the images of the first `num` samples, uint8 [H, W, C]; raise NotFiniteError if one is not finite."""
        for start in range(0, num, self.generator.batch_size):
            codes = self.entry(self.codes(start, min(start + self.generator.batch_size, num)))
            try:
                images = self.generator.synthesize(codes, self.generator.entry)
            except NotFiniteError as error:
                raise error.after(start) from None
            yield from images.cpu().numpy()

    def entry(self, codes: dict[str, Tensor]) -> Tensor:
        """Return what synthesis starts from, wp (PGGAN: z), of what `codes` returns."""
        space, values = list(codes.items())[-1]
        return self.generator.to_entry(values, space)

    def render(self, codes: Tensor) -> dict[str, Tensor]:
        """Return "images" of wp (PGGAN: z), the scores of each group, and "finite", whether the image was."""
        num = len(codes)
        codes = torch.cat([codes, codes[-1:].expand(-num % GROUP, *codes.shape[1:])])
        size = GROUP if self.generator.device.type == "cpu" else len(codes)
        parts = [self.render_group(group) for group in codes.split(size)]
        return {name: torch.cat([part[name] for part in parts])[:num] for name in parts[0]}

    def render_group(self, codes: Tensor) -> dict[str, Tensor]:
        """Return what `render` does, of codes that the networks see at once."""
        finite: list[Tensor] = []
        images = self.generator.synthesize(codes, self.generator.entry, finite=finite)
        results = {"finite": torch.cat(finite)} | ({"images": images} if self.images else {})
        return results | (self.predictor.predict(images) if self.predictor is not None else {})

    def write(self, run: Run, start: int, results: dict[str, np.ndarray]) -> None:
        """Hand what `compute` returned of the samples from `start` on to the run; raise HiganError if it is NaN."""
        for name, values in results.items():
            if name != "images":
                self.require_finite(name, start, values)
        for name, values in results.items():
            if name == "images":
                run.write_images(start, values)
            elif name != "finite":
                run.write(f"{name}.npy", start, values)

    def require_finite(self, name: str, start: int, values: np.ndarray) -> None:
        """Raise HiganError if `values` [N, ...] of the samples from `start` on are NaN or infinite, or say so."""
        if self.predictor is not None and name in self.predictor.names:
            self.predictor.require_finite(name, values, start)
            return
        finite = values if name == "finite" else np.isfinite(values)
        if not finite.all():
            row = start + int(np.argwhere(~finite)[0, 0])
            if name == "finite":
                raise NotFiniteError(self.generator.name, row)
            raise HiganError(f"{self.generator.name} gives NaN or infinity in {name} of sample {row}; check its files")


def synthesize(synthesis: Synthesis, run: Run, blocks: list[int], ranks: Ranks) -> None:
    """Compute `blocks` of a run, shared among the ranks, with progress shown by rank 0.

    Parameters
    ----------
    blocks
        From `Run.begin`, the same in every rank.

    Raises
    ------
    HiganError
        The disk is full, or another rank has died. What was done counts; the same call goes on.
    KeyboardInterrupt
        Ctrl-C; the block under way was finished first.
    """
    total = sum(len(run.rows(block)) for block in blocks)
    options = {"disable": True} if ranks.rank else {}
    with StopFlag() as flag, progress(total=run.num, initial=run.num - total, unit="img", **options) as bar:
        collect: Callable[[], dict[str, np.ndarray]] | None = None
        shown = 0
        while not flag.stopped and (number := ranks.next()) < len(blocks):
            rows, begun = run.undone(blocks[number], synthesis.batch_size), 0
            for start in range(rows.start, rows.stop, synthesis.batch_size):
                end = min(start + synthesis.batch_size, rows.stop)
                following = to_host(synthesis.compute(start, end))
                if collect is not None:
                    synthesis.write(run, begun, collect())
                collect, begun = following, start
                # the other ranks are taken to be as far in their blocks as this one
                reached = max(0, number - ranks.size + 1) * run.block_size + (end - rows.start) * ranks.size
                bar.update(max(0, min(reached, total) - shown))
                shown = max(shown, min(reached, total))
                if flag.stopped and not bar.postfix:
                    bar.set_postfix_str("stopping after this block, or at once if asked again")
            if collect is not None:
                synthesis.write(run, begun, collect())
                collect = None
            run.finish(blocks[number])
        run.drain()


def to_host(tensors: dict[str, Tensor]) -> Callable[[], dict[str, np.ndarray]]:
    """Start copying tensors to the CPU and return what waits for the copies, so that a GPU never waits for the disk."""
    device = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
    if device is None:
        return lambda: {name: tensor.numpy() for name, tensor in tensors.items()}
    copies = {}
    for name, tensor in tensors.items():
        copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))  # the current device, whose stream is the default, may be another

    def collect() -> dict[str, np.ndarray]:
        event.synchronize()
        return {name: copy.numpy() for name, copy in copies.items()}

    return collect
