"""Speed on one GPU, in Markdown: what `bash tests/gpu.sh` writes into docs/numbers.md.

    python tests/benchmarks/gpu.py [NAME ...]
    python tests/benchmarks/gpu.py --device cpu --tiny      the same in small, where there is no GPU

generators: images/s of every family by batch size and precision, compiled and not. samples: 256x256 images with scores
of the scene predictor (random weights), projected to 500,000. rescoring, inversion: rates on the same model.
processes: synthesize.py as one process and as two on the same card.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from synthesis import write_model, write_places  # noqa: E402

import higan  # noqa: E402
from higan.devices import choose_device  # noqa: E402

CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}


@dataclass
class Task:
    """What is measured: a model, its predictor, where, and how much of it."""

    model: str
    predictor: str
    device: str
    tiny: bool

    def synthesize(self, num: int, folder: Path, *launcher: str) -> float:
        """Return the seconds that synthesize.py takes for `num` samples with scores."""
        command = [sys.executable, *launcher, str(ROOT / "synthesize.py"), self.model, "-N", str(num)]
        command += ["--generate_prediction", f"--predictor_name={self.predictor}", f"--device={self.device}"]
        begun = time.monotonic()
        subprocess.run([*command, "-o", str(folder)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return time.monotonic() - begun

    def generator(self) -> higan.Generator:
        """Return the model on the device."""
        return higan.load_generator(self.model, device=self.device)


def generators(task: Task, folder: Path) -> None:
    """Print the table of generators.py."""
    wanted = ["--batch", "1", "8", "32", "128", "--precision", "fp32", "tf32", "bf16", "fp16"]
    if task.tiny:
        wanted = ["--family", "pggan", "--batch", "1", "--precision", "fp32", "--seconds", "0.1"]
    for compiled in [[]] if task.tiny else [[], ["--compile"]]:
        command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "generators.py"), "--device", task.device]
        done = subprocess.run([*command, *wanted, *compiled], check=True, stdout=subprocess.PIPE, text=True)
        print(f"{' '.join(['generators.py', *wanted, *compiled])}:\n\n```\n{done.stdout.strip()}\n```\n")


def samples(task: Task, folder: Path) -> None:
    """Print images/s of step 1, without what it takes to start."""
    num = 16 if task.tiny else 20_000
    seconds = task.synthesize(8 + num, folder / "whole") - task.synthesize(8, folder / "start")
    print(f"Step 1 with scores: {num / seconds:.1f} images/s, 500,000 in {500_000 / num * seconds / 60:.1f} minutes.\n")


def rescoring(task: Task, folder: Path) -> None:
    """Print how long re-scoring takes."""
    generator, predictor = task.generator(), higan.load_predictor(task.predictor, task.device)
    num, boundaries = (2, 2) if task.tiny else (256, 10)
    directions = higan.find_directions(generator, "random", boundaries)
    begun = time.monotonic()
    higan.rescore(generator, predictor, directions, num=num, layerwise=True)
    seconds = time.monotonic() - begun
    moves = boundaries * (generator.num_layers + 2) * num  # all layers, each, and the chosen ones
    print(f"Re-scoring of {boundaries} boundaries, layer by layer, on {num} samples: {seconds:.1f} s, "
          f"{moves / seconds:.0f} moved samples/s.\n")  # fmt: skip


def inversion(task: Task, folder: Path) -> None:
    """Print how long inversion takes."""
    generator = task.generator()
    num, steps = (1, 10) if task.tiny else (32, 100)
    pictures = generator.synthesize(generator.sample(num, seed=0), "z").cpu().numpy()
    begun = time.monotonic()
    higan.invert(generator, pictures, steps=steps, starts=1)
    seconds = time.monotonic() - begun
    print(f"Inversion of {num} pictures in {steps} steps: {seconds:.1f} s, {num * steps / seconds:.0f} steps/s.\n")


def processes(task: Task, folder: Path) -> None:
    """Print how two processes on one device compare with one."""
    num = 16 if task.tiny else 8_000
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    for words, launcher in (("One process", ()), ("Two processes", two)):
        start = task.synthesize(16, folder / f"start{len(launcher)}", *launcher)
        whole = task.synthesize(16 + num, folder / f"whole{len(launcher)}", *launcher)
        print(f"{words} on the card: {num / (whole - start):.1f} images/s.\n")


def main() -> None:
    """Measure what is asked for."""
    parts = {part.__name__: part for part in (generators, samples, rescoring, inversion, processes)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--device", default="cuda:0", help="(default: cuda:0)")
    parser.add_argument("--tiny", action="store_true", help="on the embedded model, with a few samples")
    args = parser.parse_args()
    device = choose_device(args.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "a CPU"
    print(f"# Numbers of {card}\n\n`bash tests/gpu.sh`, torch {torch.__version__}.\n")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        task = Task("stylegan2_rooms", "rooms", args.device, args.tiny)
        if not args.tiny:
            write_places(folder)
            os.environ["HIGAN_MODELS"] = place
            task = Task(str(write_model(folder, 256, channels=CHANNELS)), "scene", args.device, args.tiny)
        for name in args.names or parts:
            print(f"## {name.capitalize()}\n", flush=True)
            parts[name](task, folder / name)


if __name__ == "__main__":
    main()
