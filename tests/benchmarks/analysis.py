"""Speed, memory and agreement of boundary training and re-scoring; prints one line per measurement.

  python tests/benchmarks/analysis.py                   all of it (minutes; 2 GB for the codes and scores)
  python tests/benchmarks/analysis.py solvers rescore   parts: solvers, one, all, ridge, rescore

Inputs lie in memory (/dev/shm) where there is room, so that `one` and `all` measure the program and not the disk.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
GOLDEN = ROOT / "tests" / "golden"
ROWS, WIDTH, NAMES, SIDE = 500_000, 512, 467, 10_000
BLOCK = 10_000


def main() -> None:
    """Run the parts named on the command line, or all."""
    parts = {"solvers": solvers, "one": one, "all": every, "ridge": ridge, "rescore": rescoring}
    for name in sys.argv[1:] or parts:
        parts[name]()


def solvers() -> None:
    """Every solver's boundary against the reference's, and its time where the classes overlap more and more."""
    from higan.directions.svm import SOLVERS, fit_hyperplane
    from higan.directions.training import balanced, count_right, train_boundary

    case = json.loads((GOLDEN / "boundary.json").read_text())
    arrays = np.load(GOLDEN / "boundary.npz", allow_pickle=False)
    generator = np.random.default_rng([case["seed"], zlib.crc32(b"boundary_data")])
    data = generator.standard_normal((2000, 64)).astype(np.float32)
    for run in case["runs"]:
        boundaries = {
            solver: train_boundary(
                data,
                arrays["scores"],
                chosen_num_or_ratio=run["chosen_num_or_ratio"],
                split_ratio=run["split_ratio"],
                seed=run["numpy_legacy_seed"],
                solver=solver,
            ).direction
            for solver in SOLVERS
        }
        rows, labels = arrays[f"run{run['id']}_train_index"], arrays[f"run{run['id']}_train_label"]
        for name, machine in rivals(len(rows)).items():
            normal = machine.fit(data[rows] - data[rows].mean(axis=0), labels).coef_
            boundaries[name] = normal / np.linalg.norm(normal)
        reference = arrays[f"run{run['id']}_boundary"]
        cosines = [f"{solver} {float((found * reference).sum()):.6f}" for solver, found in boundaries.items()]
        print(f"solvers: run {run['id']}: cosine to the reference: {', '.join(cosines)}")
    for noise in (0.2, 0.6, 1.0, 1.5):
        data, labels = extreme_samples(noise)
        planes, found = {}, []
        for solver in ("newton", "liblinear"):
            start = time.process_time()
            with threadpool_limits(1):
                planes[solver] = fit_hyperplane(data, labels, solver, 1.0, 0)
            seconds = time.process_time() - start
            accuracy = balanced(count_right([planes[solver]], data[:, None], labels), labels)
            found.append(f"{solver} {seconds:.2f} s, accuracy {accuracy:.4f}")
        for name, machine in rivals(len(data)).items():
            start = time.process_time()
            with threadpool_limits(1):
                machine.fit(data, labels)
            found.append(f"{name} {time.process_time() - start:.2f} s")
        cosine = float(planes["newton"][0] @ planes["liblinear"][0])
        print(f"solvers: {len(data):,} x {WIDTH}, noise {noise}: {'; '.join(found)}; cosine {cosine:.4f}")


def rivals(num: int) -> dict[str, Any]:
    """Return other linear machines of scikit-learn's, for `num` samples, at C = 1."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.svm import LinearSVC

    return {
        "squared hinge": LinearSVC(dual=False),
        "descent": SGDClassifier(alpha=1 / num, max_iter=2000, tol=1e-5, average=True, random_state=0),
    }


def extreme_samples(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the training part of `SIDE` samples of highest and of lowest score among `ROWS`, and their labels.

    The score is the projection on a direction plus noise; the codes that are not chosen need not be drawn.
    """
    random = np.random.default_rng(0)
    direction = random.standard_normal(WIDTH)
    direction /= np.linalg.norm(direction)
    projections = random.standard_normal(ROWS)
    order = np.argsort(projections + noise * random.standard_normal(ROWS))
    num = int(0.7 * SIDE)
    chosen = np.concatenate([random.permutation(order[-SIDE:])[:num], random.permutation(order[:SIDE])[:num]])
    data = random.standard_normal((2 * num, WIDTH))
    data += (projections[chosen] - data @ direction)[:, None] * direction
    return data.astype(np.float32), np.repeat([True, False], num)


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


def work_folder(size: int) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, in memory where `size` bytes leave half of it free."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * size
    return tempfile.TemporaryDirectory(dir=memory if roomy else None)


def run_script(arguments: list[str]) -> tuple[float, float, float]:
    """Run train_boundary.py; return its seconds, and the processor seconds and memory in GB of all its processes.

    The memory is the largest of several sums a second of what is resident: a page that processes share, of a mapped
    file for instance, counts once.
    """
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(ROOT / "train_boundary.py"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, peak / 2**20


def resident(process: int) -> int:
    """Return the resident kB of a process and its descendants, of shared pages the processes' shares."""
    folder = Path(f"/proc/{process}")
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
        children = [int(child) for tasks in folder.glob("task/*/children") for child in tasks.read_text().split()]
    except OSError:  # it has ended
        return 0
    return (int(found[1]) if found else 0) + sum(map(resident, children))


def one() -> None:
    """One name with the defaults, as a process: 20,000 samples."""
    with work_folder(2**26) as name:
        folder = Path(name)
        write_samples(folder, 20_000, 20)
        files = [str(folder / "w.npy"), str(folder / "attribute.npy"), "--score_name", "score_010", "-o", str(folder)]
        runs = [run_script(files)[:2] for _ in range(3)]
        seconds, used = (min(values) for values in zip(*runs, strict=True))
        print(f"one: one name, defaults, 20,000 x {WIDTH}: {seconds:.2f} s (processor time {used:.2f} s)")


def every() -> None:
    """All names of 500,000 samples, 10,000 on each side, as a process with two jobs."""
    with work_folder(4 * ROWS * (WIDTH + NAMES)) as name:
        folder = Path(name)
        start = time.perf_counter()
        write_samples(folder, ROWS, NAMES)
        print(f"all: codes and scores written in {time.perf_counter() - start:.0f} s")
        files = [str(folder / "w.npy"), str(folder / "attribute.npy"), "-o", str(folder / "out")]
        seconds, used, memory = run_script([*files, "--score_name", "all", "-N", str(SIDE), "--jobs", "2"])
        accuracies = [json.loads(path.read_text())["validation_accuracy"] for path in (folder / "out").glob("*.json")]
        print(
            f"all: {len(accuracies)} names, {ROWS:,} x {WIDTH}, {SIDE:,} per side, 2 jobs: {seconds:.1f} s "
            f"(processor time {used:.1f} s, {used / 2:.1f} s on each of two cores), "
            f"{memory:.2f} GB resident; "
            f"validation accuracy {min(accuracies):.3f} to {max(accuracies):.3f}"
        )


def ridge() -> None:
    """All names of 500,000 samples by ridge regression."""
    with work_folder(4 * ROWS * (WIDTH + NAMES)) as name:
        folder = Path(name)
        write_samples(folder, ROWS, NAMES)
        files = [str(folder / "w.npy"), str(folder / "attribute.npy"), "-o", str(folder / "out")]
        seconds, used, memory = run_script([*files, "--score_name", "all", "--solver", "ridge"])
        r2 = [json.loads(path.read_text())["r2"] for path in (folder / "out").glob("*.json")]
        print(
            f"ridge: {len(r2)} names, {ROWS:,} x {WIDTH}: {seconds:.1f} s (processor time {used:.1f} s), "
            f"{memory:.2f} GB resident; R² {min(r2):.3f} to {max(r2):.3f}"
        )


def rescoring(num: int = 256, count: int = 10, turns: int = 2) -> None:
    """Layer-wise re-scoring against a synthesis from scratch for every layer, in turns, so that both meet one load."""
    from higan.devices import keep_freed_memory
    from higan.directions.boundaries import Boundary
    from higan.directions.move import manipulate
    from higan.generators import load_generator
    from higan.predictors import load_predictor
    from higan.rescoring.rescore import rescore

    keep_freed_memory()
    generator = load_generator("stylegan2_rooms")
    predictor = load_predictor("rooms", generator.device)
    names = predictor.names["attribute"][:count]
    directions = np.random.default_rng(0).standard_normal((count, 1, generator.w_dim)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    boundaries = [Boundary(name, direction, "w") for name, direction in zip(names, directions, strict=True)]
    psi, last = generator.psi().numpy(), generator.num_layers

    def shared(z: np.ndarray) -> np.ndarray:
        result = rescore(generator, predictor, boundaries, codes=z)
        return np.stack([direction.scores for direction in result.directions])

    def scratch(z: np.ndarray) -> np.ndarray:
        wp = generator.to_wp(z, "z")
        found = []
        for index, boundary in enumerate(boundaries):
            columns = [wp, manipulate(wp, boundary, [2.0], range(last), psi)[:, 0]]
            columns += [manipulate(wp, boundary, [2.0], [layer], psi)[:, 0] for layer in range(last)]
            scores = [
                np.concatenate(
                    [
                        predictor.predict(generator.synthesize(part))["attribute"][:, index].cpu().numpy()
                        for part in codes.split(generator.batch_size)
                    ]
                )
                for codes in columns
            ]
            found.append(np.stack(scores, axis=1))
        return np.stack(found)

    sides: tuple[Callable[[np.ndarray], np.ndarray], ...] = (shared, scratch)
    spent = np.zeros((len(sides), 2))
    difference = 0.0
    for z in np.array_split(generator.sample(num, 0).numpy(), turns):
        results = []
        for side, measure in enumerate(sides):
            start, used = time.perf_counter(), time.process_time()
            results.append(measure(z))
            spent[side] += time.perf_counter() - start, time.process_time() - used
        difference = max(difference, float(np.abs(results[0] - results[1]).max()))
    (fast, fast_used), (slow, slow_used) = spent
    print(
        f"rescore: {count} boundaries, {last} layers, {num} samples, batches of {generator.batch_size}, "
        f"{generator.device}: {fast:.1f} s against {slow:.1f} s from scratch, {slow / fast:.2f} times faster "
        f"(processor time {slow_used / fast_used:.2f} times); largest difference of scores {difference:.1e}"
    )


if __name__ == "__main__":
    main()
