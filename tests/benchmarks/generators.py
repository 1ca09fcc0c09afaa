"""Images per second of each family at 256x256 (full width, random weights), beside the machine's convolution rate.

    python tests/benchmarks/generators.py                               # every family and precision, batch 1 and 4
    python tests/benchmarks/generators.py --family stylegan2 --batch 4 --precision bf16
    python tests/benchmarks/generators.py --device cuda --batch 1 8 32 128 --precision fp32 tf32 bf16 fp16

The share is that of the rate of a 512 -> 512 3x3 convolution at 32x32, measured just before each line: images per
second times the arithmetic of the cheapest exact form of the network, over that rate. On a machine that does other
work as well, --processor_time with --threads 1 counts the time that the program itself had.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from higan.devices import choose_device, keep_freed_memory
from higan.generators.biggan import BigGAN
from higan.generators.generator import Generator
from higan.generators.network import Network
from higan.generators.pggan import PGGAN
from higan.generators.stylegan import StyleGAN
from higan.generators.stylegan2 import StyleGAN2
from higan.generators.stylegan3 import StyleGAN3

RESOLUTION = 256
SIZES = [4 * 2**block for block in range(7)]
# per image, in the cheapest exact form; of StyleGAN3 the filters are separable where they can be, and skip zeros
GFLOP = {
    "pggan": 29.8,
    "stylegan": 29.8,
    "stylegan2": 90.0,
    "stylegan3-t": 477.2,
    "stylegan3-r": 261.3,
    "biggan-deep": 49.2,
}
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Clock:
    """Measures calls per second.

    Parameters
    ----------
    processor_time
        Count the process's own time, of all its threads, in place of the wall clock's.
    """

    def __init__(self, device: torch.device, processor_time: bool) -> None:
        self.device = device
        self.read = time.process_time if processor_time else time.perf_counter

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.read()

    def rate(self, call: Callable[[], object], seconds: float) -> float:
        """Calls per second: the median of rounds that take about `seconds` in all."""
        call()
        rounds, begin = [], self.now()
        while len(rounds) < 2 or self.now() - begin < seconds:
            start = self.now()
            call()
            rounds.append(self.now() - start)
        return 1 / statistics.median(rounds)


def convolution_rate(clock: Clock, dtype: torch.dtype, num: int) -> float:
    """GFLOP per second of a 512 -> 512 3x3 convolution of `num` images of 32x32."""
    layout, device = torch.channels_last, clock.device
    x = torch.randn(num, 512, 32, 32, device=device).to(dtype, memory_format=layout)
    weight = torch.randn(512, 512, 3, 3, device=device).to(dtype, memory_format=layout)
    per_second = clock.rate(lambda: torch.nn.functional.conv2d(x, weight, padding=1), 1.0)
    return per_second * num * 2 * 512 * 512 * 9 * 32 * 32 / 1e9


def peak_memory(device: torch.device) -> float:
    """MiB that were in use at most: of the process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def make_network(family: str) -> Network:
    """Return the network of a row of `GFLOP`, at full width."""
    if family in ("stylegan3-t", "stylegan3-r"):
        radial = family == "stylegan3-r"
        base, most = (65536, 1024) if radial else (32768, 512)
        cutoffs = [2 * (RESOLUTION / 4) ** min(layer / 12, 1) for layer in range(14)]
        channels = [round(min(base / 2 / cutoff, most)) for cutoff in cutoffs]
        return StyleGAN3(RESOLUTION, channels, kernel=1 if radial else 3, radial=radial)
    if family == "biggan-deep":  # as huggingface publishes it
        channels = [16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1]
        up = [index in (1, 3, 5, 7, 9, 11) for index in range(12)]
        blocks = [(128 * before, 128 * after) for before, after in zip([16, *channels], channels, strict=False)]
        return BigGAN(blocks, up, True, 128, 128, 1000, attention=[8], statistics=51)
    kinds = {"pggan": PGGAN, "stylegan": StyleGAN, "stylegan2": StyleGAN2}
    base = 32768 if family == "stylegan2" else 16384
    return kinds[family](RESOLUTION, {size: min(base // size, 512) for size in SIZES})


@torch.inference_mode()
def measure(args: argparse.Namespace, family: str, precision: str, batch: int) -> str:
    """Return a line of the table; in a process of its own, since its peak memory is the process's."""
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    device, dtype = choose_device(args.device), PRECISIONS[precision]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    network = make_network(family)
    generator = Generator(network, family, device, dtype, class_idx=0 if network.label_dim else None)
    generator.batch_size = batch
    codes = generator.to_entry(generator.sample(batch, seed=0), "z")
    clock = Clock(device, args.processor_time)
    conv = convolution_rate(clock, dtype, batch)
    synthesize = torch.compile(generator.synthesize) if args.compile else generator.synthesize
    images = batch * clock.rate(lambda: synthesize(codes, generator.entry), args.seconds)
    share, memory = images * GFLOP[family] / conv, peak_memory(device)
    return f"{family:11} {precision:9} {batch:5}  {images:8.2f}  {conv:12.0f}  {share:5.2f}  {memory:8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=list(GFLOP), default=list(GFLOP), help="(default: all)")
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=["fp32", "bf16"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4], help="images at once (default: 1 4)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: all)")
    parser.add_argument("--processor_time", action="store_true", help="in place of the wall clock's (default: off)")
    parser.add_argument("--compile", action="store_true", help="by torch.compile (default: off)")
    parser.add_argument("--seconds", type=float, default=5, help="per line (default: 5)")
    args = parser.parse_args()
    device, threads = choose_device(args.device), args.threads or torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} CPU threads"
    print(f"{name}, torch {torch.__version__}, {RESOLUTION}x{RESOLUTION}{', compiled' * args.compile}")
    print("family      precision batch  images/s  conv GFLOP/s  share  peak MiB")
    lines = itertools.product([args], args.family, args.precision, args.batch)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        for line in lines:
            print(process.apply(measure, line), flush=True)


if __name__ == "__main__":
    main()
