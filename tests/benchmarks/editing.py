"""Speed of editing and of the pages, and their size.

    python tests/benchmarks/editing.py [NAME ...]

first: seconds of simple_manipulate.py on the embedded model, from start to page (the second of two runs). page: seconds
to write 100 samples x 11 steps, without synthesis, at 64x64 and 256x256, and megabytes of the page. open: seconds until
the 256x256 page has shown its first pictures in Chromium. shared: 11 steps at layers 12-13 of a 256x256 StyleGAN with
random weights, in images' worth of time, beside the same pictures from scratch. Processor seconds stand in brackets.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SAMPLES, STEPS = 100, 11
WIDTHS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call on the clock and on the processors."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def rooms(size: int, steps: int) -> np.ndarray:
    """Return pictures with the detail of rooms, uint8 [8, steps, size, size, 3]: renders whose lights go up."""
    import torch

    sys.path.insert(0, str(ROOT / "models" / "stylegan2_rooms"))
    import scenes

    factors = scenes.sample_factors(8, seed=0)
    rows = [
        scenes.render(factors | {"indoor_lighting": torch.full((8,), float(level))}, size)
        for level in np.linspace(-1, 1, steps)
    ]
    return torch.stack(rows, dim=1).permute(0, 1, 3, 4, 2).contiguous().numpy()


def write_samples(path: Path, size: int) -> tuple[float, float]:
    """Write the page of 100 samples at 11 steps; return how long it took."""
    from higan.report import step_headings, write_manipulation_page

    pictures = rooms(size, STEPS)
    headings, origin = step_headings(np.linspace(-3, 3, STEPS))

    def rows() -> Iterator[np.ndarray]:
        for sample in range(SAMPLES):  # no two alike
            yield np.roll(pictures[sample % 8], sample // 8 * size // 13, axis=2)

    return timed(lambda: write_manipulation_page(path, rows(), headings, num=SAMPLES, title="lights", origin=origin))


def first() -> None:
    """Time the first command of the README."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "simple_manipulate.py"), "stylegan2_rooms", "indoor_lighting"]
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            seconds = time.perf_counter() - begun
        print(f"first   simple_manipulate.py stylegan2_rooms indoor_lighting: {seconds:.1f} s")


def page() -> None:
    """Time and weigh pages."""
    with tempfile.TemporaryDirectory() as folder:
        for size in (64, 256):
            path = Path(folder) / f"{size}.html"
            seconds, processor = write_samples(path, size)
            print(
                f"page    {SAMPLES} samples x {STEPS} steps at {size}x{size}: {seconds:.1f} s ({processor:.1f}), "
                f"{path.stat().st_size / 1e6:.1f} MB"
            )


def open_() -> None:
    """Time how long Chromium takes to show a large page."""
    from playwright.sync_api import sync_playwright

    chromium = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        write_samples(path, 256)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (390, 1280):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            begun = time.perf_counter()
            tab.goto(path.as_uri(), wait_until="commit")
            tab.locator("canvas").first.wait_for()
            tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            print(f"open    256x256 page at {width} px: {time.perf_counter() - begun:.1f} s to its first pictures")
            tab.close()
        browser.close()


def shared() -> None:
    """Time 11 steps that share their first layers against the same from scratch."""
    import torch

    from higan.devices import keep_freed_memory
    from higan.directions.move import manipulate
    from higan.editing.edits import synthesize_steps
    from higan.generators import Generator
    from higan.generators.codes import Codes
    from higan.generators.stylegan import StyleGAN

    keep_freed_memory()
    torch.manual_seed(0)
    generator = Generator(StyleGAN(256, WIDTHS), "random")
    codes = Codes(generator, num=1).follow()["wp"]
    moved = manipulate(codes, np.eye(1, 512, dtype=np.float32), np.linspace(-3, 3, STEPS), "12-13")
    calls: dict[str, Callable[[], object]] = {
        "one image": lambda: generator.synthesize(codes),
        f"{STEPS} steps": lambda: list(synthesize_steps(generator, moved)),
        "from scratch": lambda: [generator.synthesize(moved[:, step]) for step in range(STEPS)],
    }
    times = {name: min(timed(call) for _ in range(3)) for name, call in calls.items()}
    image = times["one image"]
    for name, (seconds, processor) in times.items():
        worth = f"{seconds / image[0]:.1f} ({processor / image[1]:.1f}) images' worth"
        print(f"shared  {name}: {seconds:.2f} s ({processor:.2f}), {worth}")


def main() -> None:
    """Run what is named, or everything."""
    benchmarks = {"first": first, "page": page, "open": open_, "shared": shared}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(benchmarks))
    names = parser.parse_args().names or list(benchmarks)
    if unknown := set(names) - set(benchmarks):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected {', '.join(benchmarks)}")
    for name in names:
        benchmarks[name]()


if __name__ == "__main__":
    main()
