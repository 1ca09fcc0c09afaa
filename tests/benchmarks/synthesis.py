"""Speed and memory of synthesize.py, in processes of its own.

    python tests/benchmarks/synthesis.py [NAME ...]

start: seconds to the help text and to the first line of the log. mapping: 500,000 codes of a 512-wide mapping network,
time and memory. memory: peak memory of short and long runs. rate: the whole step against generator and predictor
alone. places: 256x256 StyleGAN2 and the scene predictor with random weights, on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
ROOMS = "stylegan2_rooms"


def measure(*arguments: object, **environment: str) -> tuple[float, float]:
    """Run synthesize.py and return its seconds and its largest resident set in MB."""
    command = [sys.executable, str(ROOT / "synthesize.py"), *map(str, arguments)]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


def write_model(folder: Path, resolution: int, **settings: object) -> Path:
    """Write a StyleGAN2 with random weights."""
    import torch

    from higan.checkpoints import write_checkpoint
    from higan.generators.stylegan2 import StyleGAN2

    torch.manual_seed(0)
    arguments = {"resolution": resolution, **settings}
    path = folder / f"stylegan2_{resolution}.pth"
    write_checkpoint(path, "stylegan2", StyleGAN2(**arguments).state_dict(), arguments)
    return path


def write_rooms_predictor(folder: Path) -> None:
    """Write a rooms predictor with random weights."""
    from higan.predictors.rooms import FILE, RoomsPredictor, write_rooms

    write_rooms(folder / FILE, RoomsPredictor(24), [f"name{index}" for index in range(24)], {}, {})


def write_places(folder: Path) -> None:
    """Write the scene predictor's files with random weights."""
    import numpy as np
    import torch

    from higan.predictors.places import FILES, WideResNet

    state = {f"module.{key}": value for key, value in WideResNet().state_dict().items()}
    torch.save({"state_dict": state}, folder / FILES[0])
    np.save(folder / FILES[1], np.random.default_rng(0).standard_normal((102, 512)).astype(np.float32))
    (folder / FILES[2]).write_text("".join(f"/c/category{index} {index}\n" for index in range(365)))
    (folder / FILES[3]).write_text("".join(f"attribute {index}\n" for index in range(102)))


def start(folder: Path) -> None:
    """Print the start-up times."""
    script = str(ROOT / "synthesize.py")
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True)
        help_seconds = time.monotonic() - begun
        begun = time.monotonic()
        command = [sys.executable, "-u", script, ROOMS, "-o", str(folder / "run"), "--overwrite"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            if process.stdout is not None:
                process.stdout.readline()
            first = time.monotonic() - begun
            process.communicate()
        print(f"--help {help_seconds:.2f} s (goal 0.5), first log line {first:.2f} s (goal 3), one sample "
              f"{time.monotonic() - begun:.2f} s")  # fmt: skip


def mapping(folder: Path) -> None:
    """Print time and memory of 500,000 codes."""
    model = write_model(folder, 8, channels={4: 8, 8: 8})
    seconds, memory = measure(model, "-N", 500_000, "-o", folder / "run", "--skip_image")
    print(f"500,000 codes: {seconds / 60:.1f} minutes (goal 5), {memory:.0f} MB (goal 1500)")


def memory(folder: Path) -> None:
    """Print the peak memory of short and long runs."""
    model = write_model(folder, 8, channels={4: 8, 8: 8})
    write_rooms_predictor(folder)
    for flags, sizes in (
        (("--skip_image",), (10_000, 100_000, 500_000)),
        (("--generate_prediction", "--predictor_name=rooms"), (2_000, 20_000)),
    ):
        for num in sizes:
            arguments = (model, "-N", num, "-o", folder / f"run{num}{flags[0]}", *flags)
            print(f"{num} {flags[0]}: {measure(*arguments, HIGAN_MODELS=str(folder))[1]:.0f} MB")


def rate(folder: Path) -> None:
    """Print images/s of the whole step and of its parts."""
    import torch

    from higan import load_generator, load_predictor
    from higan.devices import keep_freed_memory
    from higan.synthesis import GROUP

    keep_freed_memory()
    generator, predictor = load_generator(ROOMS), load_predictor("rooms")
    codes = generator.broadcast(generator.map(generator.sample(256, 0)))
    on_gpu = generator.device.type == "cuda"

    def timed(call: Callable[[torch.Tensor], Any], values: torch.Tensor) -> tuple[Any, float]:
        begun = time.monotonic()
        result = call(values)
        if on_gpu:
            torch.cuda.synchronize()
        return result, time.monotonic() - begun

    for _ in range(2):  # the second time everything is warm
        parts = {"generator": 0.0, "predictor": 0.0}
        for group in codes.split(len(codes) if on_gpu else GROUP):
            images, seconds = timed(generator.synthesize, group)
            parts["generator"] += seconds
            parts["predictor"] += timed(predictor.predict, images)[1]
    alone = sum(parts.values()) / len(codes)
    for part, seconds in parts.items():
        print(f"{part} alone: {len(codes) / seconds:.1f} images/s")
    num, flags = 2000, ("--generate_prediction", "--predictor_name=rooms")
    for extra in ((), ("--save_raw_synthesis",)):
        short = measure(ROOMS, "-N", 8, "-o", folder / f"short{len(extra)}", *flags, *extra)[0]
        whole = measure(ROOMS, "-N", num, "-o", folder / f"run{len(extra)}", *flags, *extra)[0]
        speed = num / (whole - short)
        print(f"step {' '.join(extra)}: {speed:.1f} images/s, {speed * alone:.0%} of the parts' rate")


def places(folder: Path) -> None:
    """Print images/s of 256x256 images scored by the scene predictor."""
    import torch

    from higan import load_generator, load_predictor

    write_places(folder)
    os.environ["HIGAN_MODELS"] = str(folder)
    channels = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}
    model = write_model(folder, 256, channels=channels)
    generator, predictor = load_generator(model), load_predictor("scene")
    on_gpu = generator.device.type == "cuda"
    num, batch = (20_000, generator.batch_size) if on_gpu else (32, 8)
    codes = generator.broadcast(generator.map(generator.sample(batch, 0)))
    images = generator.synthesize(codes)
    calls = {"generator": lambda: generator.synthesize(codes), "predictor": lambda: predictor.predict(images)}
    for name, call in calls.items():
        for turn in range(2):
            begun = time.monotonic()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            if turn:
                print(f"{name} alone: {batch / (time.monotonic() - begun):.1f} images/s in batches of {batch}")
    flags = ("--generate_prediction", "--predictor_name=scene", f"--batch_size={batch}")
    short = measure(model, "-N", 8, "-o", folder / "short", *flags)[0]
    whole = measure(model, "-N", num, "-o", folder / "run", *flags)[0]
    speed = num / (whole - short)
    print(f"step: {speed:.1f} images/s, 500,000 in {500_000 / speed / 60:.1f} minutes (goal 10 on one H200)")


def main() -> None:
    """Run the chosen benchmarks."""
    benchmarks = {call.__name__: call for call in (start, mapping, memory, rate, places)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*benchmarks, []], help="default: all but places")
    names = parser.parse_args().names or [name for name in benchmarks if name != "places"]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(f"-- {name}")
            benchmarks[name](Path(folder))


if __name__ == "__main__":
    main()
