"""Change one line of the project at a time, in a copy of it, and see that the tests notice.

    python tests/mutations.py              # every mutation below
    python tests/mutations.py psi clamp    # those whose name holds one of the words

Prints which test caught which mutation. Exit status 1: a mutation survived its tests. Status 2: a line to be changed is
not there exactly once, or the tests do not run or do not pass without a mutation.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("higan", "tests", "pyproject.toml", *(path.name for path in ROOT.glob("*.py")))
LINKED = ("models", "boundaries")
PYTEST_FAILED = 1
SECONDS = 300

GOLDEN = "test_golden_generators.py::test_paper_networks"
FORMATS = "test_checkpoints.py::test_formats_agree_exactly"
REFERENCE_SCORES = "test_rescoring.py::test_the_reference_s_scores"
REFERENCE_BOUNDARIES = "test_training.py::test_the_reference_s_samples_and_directions"


@dataclass(frozen=True)
class Mutation:
    """In `function`, of whichever file of higan/, the text `old` becomes `new`; one of `tests` has to fail.

    Attributes
    ----------
    function
        Its name, with its class's or its file's if need be ("Run.begin", "tensorflow.apply_rule"); "" for none.
    old
        Stands there exactly once in all files.
    tests
        A file of tests, wherever it lies, and a test of it: "test_run.py::test_name".
    """

    name: str
    function: str
    old: str
    new: str
    tests: str


MUTATIONS = [
    Mutation(
        "the sign of an edit",
        "manipulate",
        "moved = origin[:, None] + shifts.to(origin)[None]",
        "moved = origin[:, None] - shifts.to(origin)[None]",
        "test_edits.py",
    ),
    Mutation(
        "the middle group of layers begins one layer later",
        "",
        '"upper": (3, 6)',
        '"upper": (4, 6)',
        "test_edits.py",
    ),
    Mutation(
        "a w edit at layers is not scaled by psi",
        "move_codes",
        "strength = generator.strength(boundary.space) if keep_pace else None",
        "strength = None",
        "test_edits.py",
    ),
    Mutation(
        "z read from a file is not scaled to the sphere",
        "Codes.rows",
        "self.generator.normalize(torch.from_numpy(self.values(start, stop)), self.space)",
        "torch.from_numpy(self.values(start, stop))",
        "test_synthesize.py::test_codes_come_back",
    ),
    Mutation(
        "z is not drawn on the sphere",
        "sample_sphere",
        "normal *= math.sqrt(dim) / np.linalg.norm(normal, axis=1, keepdims=True)",
        "normal *= 1",
        "test_generator.py::test_sample_depends_on_seed_and_row_alone",
    ),
    Mutation(
        "psi off by one layer",
        "Generator.psi",
        "psi[: self.truncation_layers] = self.truncation_psi",
        "psi[: self.truncation_layers + 1] = self.truncation_psi",
        "test_generator.py::test_spaces_agree",
    ),
    Mutation(
        "StyleGAN3's signal is not clamped",
        "Layer._activate",
        "fine = fine.clamp(-self.clamp, self.clamp)",
        "fine = fine.clamp(-9, 9)",
        "test_stylegan3.py::test_reference_numbers[sg3t_r16_c3]",
    ),
    Mutation(
        "StyleGAN3's input is not scaled by its magnitude",
        "Layer._weights",
        "squares = kernel.square().sum(dim=(2, 3)).t() / scale.square()",
        "squares = kernel.square().sum(dim=(2, 3)).t()",
        "test_stylegan3.py::test_reference_numbers[sg3t_r32]",
    ),
    Mutation(
        "a transform of StyleGAN3's on the wrong side",
        "FourierFeatures.forward",
        "placed = turn @ move @ self.transform.double()",
        "placed = self.transform.double() @ turn @ move",
        "test_stylegan3.py::test_reference_numbers[sg3t_r32]",
    ),
    Mutation(
        "StyleGAN3's critical layers have radial filters",
        "StyleGAN3.__init__",
        "radial and index < critical",
        "radial",
        "test_stylegan3.py::test_reference_numbers[sg3r_r32]",
    ),
    Mutation(
        "a tile of StyleGAN3's begins a row late",
        "Layer._weights",
        "fine = slice(first * self.down,",
        "fine = slice(first * self.down + 1,",
        "test_stylegan3.py::test_reference_numbers[sg3t_r32]",
    ),
    Mutation(
        "what is transparent lies on black",
        "on_white",
        "255 * (1 - opacity)",
        "0 * (1 - opacity)",
        "test_images.py::test_predictors_see_rgb",
    ),
    Mutation(
        "truncation towards 0 instead of the average",
        "truncate",
        "average + (w - average) * psi",
        "w * psi",
        f"{GOLDEN}[stylegan_tiny16]",
    ),
    Mutation(
        "grey levels are not rounded",
        "to_uint8",
        "images.mul(127.5).add_(128)",
        "images.mul(127.5).add_(127.5)",
        f"{GOLDEN}[pggan_tiny16]",
    ),
    Mutation(
        "no demodulation",
        "ModulatedConv.forward",
        "demodulation = (style.square() @ squares + EPSILON).rsqrt() * GAIN",
        "demodulation = torch.full_like(style @ squares, GAIN)",
        f"{GOLDEN}[stylegan2_tiny16]",
    ),
    Mutation(
        "no noise in StyleGAN2",
        "ModulatedConv._scaled",
        "return (noise * (self.noise_strength * GAIN)).to(dtype)",
        "return (noise * 0).to(dtype)",
        f"{GOLDEN}[stylegan2_tiny16]",
    ),
    Mutation(
        "no noise in StyleGAN",
        "Layer.forward",
        "torch.addcmul(x, noise, strength)",
        "torch.addcmul(x, noise, strength * 0)",
        f"{GOLDEN}[stylegan_tiny16]",
    ),
    Mutation(
        "fused and plain upsampling swapped",
        "conv_kernel",
        'top, left = (y, x) if up == "fused"',
        'top, left = (y, x) if up == "nearest"',
        f"{GOLDEN}[pggan_tiny16]",
    ),
    Mutation(
        "a TensorFlow pickle's first network instead of its third",
        "walk",
        "range(min(len(value), MAX_ITEMS))[::-1]",
        "range(min(len(value), MAX_ITEMS))",
        FORMATS,
    ),
    Mutation(
        "a TensorFlow convolution with input and output swapped",
        "tensorflow.apply_rule",
        "return tensor.permute(3, 2, 0, 1).contiguous()",
        "return tensor.permute(2, 3, 0, 1).contiguous()",
        FORMATS,
    ),
    Mutation(
        "the 1 that the reference adds to StyleGAN2's styles is left out",
        "genforce.convert_tensors",
        'tensor + 1 if rule == "plus one" else tensor',
        "tensor",
        f"{GOLDEN}[stylegan2_tiny16]",
    ),
    Mutation(
        "rosinality's up-sampling kernels are not mirrored",
        "rosinality.reshape",
        "return tensor[0].flip(2, 3) if up else tensor[0]",
        "return tensor[0]",
        "test_rosinality.py::test_weights_are_those_of_the_rule",
    ),
    Mutation(
        "the network as training left it is taken in place of its average",
        "find_networks",
        "{True: 0, None: 1, False: 2}",
        "{True: 2, None: 1, False: 0}",
        "test_wrappings.py::test_wrappings",
    ),
    Mutation(
        "the clamp that only the layers tell is not read",
        "nvlabs.arguments_of",
        '{"conv_clamp": clamps.pop()} if clamps else {}',
        "{}",
        "test_wrappings.py::test_the_stylegan2_of_the_stylegan3_program",
    ),
    Mutation(
        "what runs code elsewhere is not refused",
        "Unpickler.find",
        'if RUNS_CODE.fullmatch(f"{module}.{name}"):',
        'if not RUNS_CODE.fullmatch(f"{module}.{name}") and not module:',
        "test_bad_files.py::test_what_runs_code_elsewhere_beside_a_network",
    ),
    Mutation(
        "the scene predictor resizes after the conversion to float",
        "load_places",
        'resize = resize or ("device" if device.type == "cuda" else "pillow")',
        'resize = resize or "device"',
        "test_places.py::test_scores_equal_the_reference",
    ),
    Mutation(
        "the scene predictor keeps the classifier's negative weights",
        "read_network",
        "network.fc.weight.clamp_(min=0)",
        "network.fc.weight.clamp_(min=-9)",
        "test_places.py::test_scores_equal_the_reference",
    ),
    Mutation(
        "the boundary is not normalised",
        "fit_hyperplane",
        "return normal / norm, offset / norm",
        "return normal, offset",
        REFERENCE_BOUNDARIES,
    ),
    Mutation(
        "training and validation taken from the other end",
        "select_samples",
        "train = positive[: sizes[0]], negative[: sizes[1]]",
        "train = positive[-sizes[0] :], negative[-sizes[1] :]",
        REFERENCE_BOUNDARIES,
    ),
    Mutation(
        "the boundary points to the low scores",
        "fit_newton",
        "signs = np.where(labels, 1, -1)",
        "signs = np.where(labels, -1, 1)",
        REFERENCE_BOUNDARIES,
    ),
    Mutation(
        "conditioning takes nothing away",
        "condition",
        "rest = row - along @ np.linalg.lstsq(basis.T @ along, basis.T @ row, rcond=None)[0]",
        "rest = row",
        "test_conditioning.py",
    ),
    Mutation(
        "a signal ends the block under way",
        "StopFlag.__enter__",
        "self.before[number] = signal.signal(number, self._stop)",
        "self.before[number] = signal.getsignal(number)",
        "test_stop.py",
    ),
    Mutation(
        "a signal that C code makes another error of is that error",
        "run_script",
        "stops.append(number)",
        "stops.clear()",
        "test_scripts.py::test_a_signal_of_which_c_code_makes_another_error_is_one_line",
    ),
    Mutation(
        "a second process may work in a folder that another one holds",
        "Lock.__init__",
        "self.lock.acquire()",
        "self.lock.acquire",
        "test_run.py::test_lock_refuses_a_second_process",
    ),
    Mutation(
        "delta without the clamp",
        "clamp",
        "np.maximum(rise, 0)",
        "rise",
        REFERENCE_SCORES,
    ),
    Mutation(
        "the w boundary that is re-scored is not scaled by psi",
        "make_step",
        "direction = strength.double()[:, None] * direction",
        "direction = torch.ones(generator.num_layers, 1) * direction",
        REFERENCE_SCORES,
    ),
    Mutation(
        "re-scoring moves the layers above as well",
        "Step.apply",
        " moved[:, layer] += self.step[layer]",
        " moved[:, layer:] += self.step[layer:]",
        "test_rescoring.py::test_scores_are_those_of_a_full_synthesis",
    ),
    Mutation(
        "a total effect is twice too large",
        "total_effects",
        "effects = means / (2 * variance[:, None])",
        "effects = means / variance[:, None]",
        "test_rescoring.py::test_layer_swap_gives_total_effects",
    ),
    Mutation(
        "layers are verified where the interval holds the limit",
        "judge",
        "if low > limit:",
        "if high > limit:",
        "test_rescoring.py::test_what_an_interval_says",
    ),
]


def main() -> int:
    """Try the mutations that the command line chooses; return the exit status."""
    words = sys.argv[1:]
    chosen = [mutation for mutation in MUTATIONS if not words or any(word in mutation.name for word in words)]
    wrong = [problem for mutation in MUTATIONS if (problem := find_problem(mutation))]
    if wrong or not chosen:
        print("\n".join(wrong) or f"no mutation is called {' or '.join(words)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        status, output = run_tests(sorted({mutation.tests for mutation in chosen}), Path(folder) / "unchanged")
        if status != 0:
            print(f"without a mutation the tests end with status {status}:\n{output[-3000:]}", file=sys.stderr)
            return 2
        places = [Path(folder) / str(number) for number in range(len(chosen))]
        worst = 0
        for mutation, (caught, status) in zip(chosen, pool.map(try_mutation, chosen, places), strict=True):
            print(f"{mutation.name:72} {caught}", flush=True)
            worst = max(worst, status)
    return worst


def find_problem(mutation: Mutation) -> str:
    """Return what is wrong with a mutation as the project stands, "" if nothing is."""
    counts = {path: occurrences(mutation, path) for path in sorted((ROOT / "higan").rglob("*.py"))}
    if sum(counts.values()) != 1:
        found = ", ".join(f"{path.relative_to(ROOT)} ({count})" for path, count in counts.items() if count) or "no file"
        return f"{mutation.name}: {found} holds it in {mutation.function!r}; expected once: {mutation.old}"
    return "" if test_path(mutation.tests) else f"{mutation.name}: no file, or several, of tests/ for {mutation.tests}"


def occurrences(mutation: Mutation, path: Path) -> int:
    """Return how often a file holds the text to be changed within the function."""
    text = path.read_text(encoding="utf-8")
    if mutation.old not in text or not mutation.function:
        return text.count(mutation.old)
    found = functions(ast.parse(text), f".{path.stem}.")
    parts = [ast.get_source_segment(text, node) or "" for name, node in found if name.endswith(f".{mutation.function}")]
    return sum(part.count(mutation.old) for part in parts)


def functions(tree: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield the functions and methods of a tree with their names, as in `within` + "Run.begin"."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{within}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{within}{node.name}.")


def test_path(tests: str) -> str:
    """Return tests with the path of their file, as pytest takes them; "" if the file is not there exactly once."""
    name, *test = tests.split("::")
    found = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob(name)]
    return "::".join([*found, *test]) if len(found) == 1 else ""


def try_mutation(mutation: Mutation, folder: Path) -> tuple[str, int]:
    """Return the test that caught a mutation, and the status that the script ends with: 0, or 1 if none did."""
    status, output = run_tests([mutation.tests], folder, mutation)
    if status == 0:
        return f"SURVIVED {mutation.tests}", 1
    found = re.search(r"^FAILED (\S+)", output, re.MULTILINE)
    if status != PYTEST_FAILED or found is None:
        return f"BROKEN, pytest's status {status}: {output[-1000:]}", 2
    return found[1], 0


def run_tests(tests: list[str], folder: Path, mutation: Mutation | None = None) -> tuple[int, str]:
    """Run tests on a copy of the project in `folder`, mutated if asked; return pytest's status and output."""
    folder.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    if mutation is not None:
        (path,) = (path for path in (folder / "higan").rglob("*.py") if occurrences(mutation, path))
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    options = ["-n0", "-x", "-p", "no:cacheprovider", "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, *map(test_path, tests)]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return -1, f"not done after {SECONDS} s"
    finally:
        shutil.rmtree(folder)
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
