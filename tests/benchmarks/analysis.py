"""Speed, memory and agreement of boundary training and re-scoring; prints one line per measurement.

  python tests/benchmarks/analysis.py                   all of it (minutes; 2 GB of disk for the codes and scores)
  python tests/benchmarks/analysis.py solvers rescore   parts: solvers, one, all, rescore

`rescore` takes the embedded model, or a random one of the same layout where its weights are missing.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
GOLDEN = ROOT / "tests" / "golden"
ROWS, WIDTH, NAMES, SIDE = 500_000, 512, 467, 10_000
BLOCK = 10_000


def main() -> None:
    """Run the parts named on the command line, or all."""
    parts = {"solvers": solvers, "one": one, "all": every, "rescore": rescoring}
    for name in sys.argv[1:] or parts:
        parts[name]()


def solvers() -> None:
    """Cosine of every solver's boundary with the reference's."""
    from higan.boundary_training import SOLVERS, train_boundary

    case = json.loads((GOLDEN / "boundary.json").read_text())
    arrays = np.load(GOLDEN / "boundary.npz", allow_pickle=False)
    generator = np.random.default_rng([case["seed"], zlib.crc32(b"boundary_data")])
    data = generator.standard_normal((2000, 64)).astype(np.float32)
    for run in case["runs"]:
        for solver in SOLVERS:
            start = time.perf_counter()
            boundary = train_boundary(
                data,
                arrays["scores"],
                chosen_num_or_ratio=run["chosen_num_or_ratio"],
                split_ratio=run["split_ratio"],
                seed=run["numpy_legacy_seed"],
                solver=solver,
            )
            cosine = float((boundary.direction * arrays[f"run{run['id']}_boundary"]).sum())
            seconds = time.perf_counter() - start
            print(f"solvers: run {run['id']}, {solver:9}: cosine to the reference {cosine:.6f}, {seconds:.2f} s")


def write_samples(folder: Path, rows: int, names: int) -> None:
    """Write w.npy and attribute.npy of scores that a direction explains by 30 to 95 %, block by block."""
    random = np.random.default_rng(0)
    directions = random.standard_normal((WIDTH, names)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    noise = np.linspace(0.2, 1.5, names, dtype=np.float32)
    codes = np.lib.format.open_memmap(folder / "w.npy", "w+", np.float32, (rows, WIDTH))
    fields = [(f"score_{index:03d}", "<f4") for index in range(names)]
    scores = np.lib.format.open_memmap(folder / "attribute.npy", "w+", fields, (rows,))
    table = scores.view(np.float32).reshape(rows, names)
    for start in range(0, rows, BLOCK):
        block = random.standard_normal((BLOCK, WIDTH), dtype=np.float32)
        codes[start : start + BLOCK] = block
        table[start : start + BLOCK] = block @ directions + noise * random.standard_normal((BLOCK, names), np.float32)


def run_script(arguments: list[str]) -> tuple[float, float]:
    """Run train_boundary.py and return its seconds and its largest resident memory in GB, mapped files included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "train_boundary.py"), *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def one() -> None:
    """One name with the defaults, as a process: 20,000 samples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder, 20_000, 20)
        files = [str(folder / "w.npy"), str(folder / "attribute.npy"), "--score_name", "score_010", "-o", str(folder)]
        times = [run_script(files)[0] for _ in range(3)]
        print(f"one: one name, defaults, 20,000 x {WIDTH}: {min(times):.2f} s (median {sorted(times)[1]:.2f} s)")


def every() -> None:
    """All names of 500,000 samples, 10,000 on each side, as a process with two jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_samples(folder, ROWS, NAMES)
        files = [str(folder / "w.npy"), str(folder / "attribute.npy"), "-o", str(folder / "out")]
        seconds, memory = run_script([*files, "--score_name", "all", "-N", str(SIDE), "--jobs", "2"])
        accuracies = [json.loads(path.read_text())["validation_accuracy"] for path in (folder / "out").glob("*.json")]
        print(
            f"all: {len(accuracies)} names, {ROWS:,} x {WIDTH}, {SIDE:,} per side, 2 jobs: {seconds:.1f} s, "
            f"{memory:.2f} GB resident; validation accuracy {min(accuracies):.3f} to {max(accuracies):.3f}"
        )


def rescoring(num: int = 256, count: int = 10) -> None:
    """Layer-wise re-scoring against a synthesis from scratch for every layer, in the same batches."""
    import torch

    from higan.boundaries import Boundary
    from higan.devices import keep_freed_memory
    from higan.editing import manipulate
    from higan.generators import load_generator
    from higan.generators.generator import Generator
    from higan.generators.stylegan2 import StyleGAN2
    from higan.predictors import load_predictor
    from higan.rescoring import predict, rescore

    keep_freed_memory()
    try:
        generator = load_generator("stylegan2_rooms")
    except Exception:  # the model is not there: measure its layout
        torch.manual_seed(0)
        channels = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32}
        generator = Generator(StyleGAN2(64, channels, z_dim=128, w_dim=128, mapping_layers=4), "random")
    predictor = load_predictor("rooms", generator.device)
    random = np.random.default_rng(0)
    names = [name for group in predictor.names.values() for name in group][:count]
    directions = random.standard_normal((count, 1, generator.w_dim)).astype(np.float32)
    boundaries = [
        Boundary(name, direction / np.linalg.norm(direction), "w")
        for name, direction in zip(names, directions, strict=False)
    ]
    wp = generator.to_wp(generator.sample(num, 0), "z")
    batch, psi, last = generator.batch_size, generator.psi().numpy(), generator.num_layers

    def shared() -> list[np.ndarray]:
        return rescore(generator, predictor, boundaries, num).scores

    def scratch() -> list[np.ndarray]:
        found = []
        for boundary in boundaries:
            columns = [wp, manipulate(wp, boundary, [2.0], range(last), psi)[:, 0]]
            columns += [manipulate(wp, boundary, [2.0], [layer], psi)[:, 0] for layer in range(last)]
            scores = [
                np.concatenate([predict(predictor, generator.synthesize(part)) for part in codes.split(batch)])
                for codes in columns
            ]
            found.append(np.stack(scores, axis=1)[..., names.index(boundary.name)])
        return found

    results, seconds = {}, {}
    for name, measure in (("shared", shared), ("from scratch", scratch)):
        start, used = time.perf_counter(), time.process_time()
        results[name] = measure()
        seconds[name] = time.perf_counter() - start, time.process_time() - used
    difference = max(np.abs(a - b).max() for a, b in zip(*results.values(), strict=True))
    (fast, fast_used), (slow, slow_used) = seconds.values()
    print(
        f"rescore: {len(boundaries)} boundaries, {last} layers, {num} samples, batches of {batch}, {generator.device}: "
        f"{fast:.1f} s against {slow:.1f} s from scratch, {slow / fast:.2f} times faster "
        f"(processor time {slow_used / fast_used:.2f} times); largest difference of scores {difference:.1e}"
    )


if __name__ == "__main__":
    main()
