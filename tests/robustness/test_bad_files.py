"""Bad weight files cost one line: nothing in them runs, and neither time nor memory is lost."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from attack_runner import EVENTS
from bad_files import GADGETS, bad_files, beside, call, network_pickle, safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.golden import GOLDEN

from higan.checkpoints import read_checkpoint
from higan.errors import CheckpointError
from higan.generators import build_network

CORPUS = dict(bad_files(GOLDEN))
REAL = [
    "stylegan2_tiny16.pth",
    "pggan_tiny16_oldformat.pth",
    "tf_pggan_tiny16.pkl",
    "sg2ada_synthetic.pkl",
    "rosinality_snapshot16.pt",
    "biggan_aj_tiny32.pth",
    "psp_tiny16.pt",
    "sg3sg2_r16.pkl",
    "safetensors",
]
STATE = torch.load(GOLDEN / "stylegan2_tiny16.pth", weights_only=True)
SECONDS = 5 if sys.gettrace() is None else 15  # counting the lines that run takes a multiple of the time
MEMORY = 2**30


def test_corpus_is_large() -> None:
    assert len(CORPUS) >= 100
    assert len(GADGETS) >= 30


class Watch:
    """Notes what starts programs or opens connections, through the interpreter's audit events."""

    seen: list[str] | None = None

    @classmethod
    def hook(cls, event: str, _: tuple[object, ...]) -> None:
        if cls.seen is not None and event in EVENTS:
            cls.seen.append(event)


sys.addaudithook(Watch.hook)


@contextmanager
def memory_limit(extra: int) -> Iterator[None]:
    """Let the process map at most `extra` bytes more than it has; what needs more fails (on Linux)."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_memory_limit_holds() -> None:
    if sys.platform == "linux":
        with pytest.raises(MemoryError), memory_limit(MEMORY):
            bytearray(2 * MEMORY)


@pytest.mark.parametrize("name", CORPUS)
def test_bad_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(CORPUS[name])
    monkeypatch.chdir(tmp_path)  # where the canary would appear
    monkeypatch.setattr(Watch, "seen", [])
    begin = time.process_time()
    with pytest.raises(CheckpointError) as error, memory_limit(MEMORY):
        build_network(read_checkpoint(path))
    assert time.process_time() - begin < SECONDS
    assert "MemoryError" not in str(error.value)
    assert "allocate" not in str(error.value)
    assert Watch.seen == []
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600 + len(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["file.pkl"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "empty"),
        ("web page", "web page"),
        ("os.system", "os.system, which runs programs or code.*nothing was run"),
        ("numpy.dtype.__init__", "dtype.__init__"),
        ("weights with NaN", "layers.2.bias holds NaN"),
        ("StyleGAN3", "StyleGAN3"),
        ("optimiser", "optimiser"),
        ("lucidrains", "lucidrains/stylegan2-pytorch: it up-samples bilinearly"),
        ("rosinality with NaN", "mapping.dense.1.bias holds NaN"),
        ("rosinality, an average of another width", r"w_avg is shape \[25\], expected shape \[24\]"),
        ("rosinality, an average of a million layers", "does not fit into its storage of 1 values"),
        ("safetensors with overlapping tensors", "claim more numbers than the file holds"),
        ("os.system beside a network", "os.system, which runs programs or code"),
        ("compressed zip", "compressed"),
        ("classifier", "conv1.weight"),
        ("training checkpoint of a discriminator", "discriminator"),
        ("wrong shape", r"layers.1.bias is shape \[24\], expected shape \[5\]"),
        ("lod 0.5", "lod 0.5"),
        ("new with a changed byte", "checksum"),
        ("one text encoded five thousand times", "memory"),
        ("endless operations", "operations"),
        ("nvlabs cut at 0.5", "too early"),
        ("tensors that overlap", "claim more numbers than the file holds"),
    ],
)
def test_message_says_what_was_found(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(CORPUS[name])
    with pytest.raises(CheckpointError, match=words):
        build_network(read_checkpoint(path))


def test_source_code_in_a_network_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pkl").write_bytes(network_pickle(b"}"))
    with pytest.raises(CheckpointError):
        read_checkpoint("file.pkl")
    assert [file.name for file in tmp_path.iterdir()] == ["file.pkl"]


@pytest.mark.parametrize("gadget", GADGETS, ids=".".join)
def test_what_runs_code_elsewhere_beside_a_network(
    gadget: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is refused or read; nothing of it runs either way."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Watch, "seen", [])
    (tmp_path / "file.pkl").write_bytes(beside(STATE, call(*gadget, protocol=2)[2:-1]))
    try:
        checkpoint = read_checkpoint("file.pkl")
    except CheckpointError as error:
        assert "nothing was run" in str(error)
    else:
        assert gadget[0] not in {"os", "builtins", "subprocess"} or gadget[1] in {"getattr", "bytearray"}
        assert checkpoint.family == "stylegan2"
    assert Watch.seen == []
    assert [file.name for file in tmp_path.iterdir()] == ["file.pkl"]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot be read|a folder without"):
            read_checkpoint(path)


def test_command_line_exits_with_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "file.pth").write_bytes(call("os", "system", f"touch {tmp_path}/trace"))
    command = [sys.executable, "-m", "higan.checkpoints", str(tmp_path / "file.pth")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "os.system" in result.stderr
    assert not (tmp_path / "trace").exists()


def mutated(data: bytes, seed: int, kind: str) -> bytes:
    chooser = random.Random(seed)
    result = bytearray(data)
    for _ in range(chooser.choice((1, 3, 30))):
        # the structure is where the numbers are not: most of it lies near the beginning, in zip files at the end
        limit = chooser.choice((200, 3000, len(result)))
        at = chooser.randrange(min(limit, len(result)))
        at = len(result) - 1 - at if chooser.random() < 0.3 else at
        if kind == "bytes":
            result[at] = chooser.randrange(256)
        elif kind == "delete":
            del result[at : at + chooser.randrange(1, 40)]
        elif kind == "insert":
            result[at:at] = chooser.randbytes(chooser.randrange(1, 40))
        else:
            other = chooser.randrange(len(result))
            result[at : at + 60] = result[other : other + 60]
        if not result:
            break
    return bytes(result)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(REAL), st.integers(0, 2**32), st.sampled_from(["bytes", "delete", "insert", "copy"]))
def test_mutated_files(tmp_path: Path, name: str, seed: int, kind: str) -> None:
    """A damaged file is read with other numbers or refused; nothing else happens."""
    path = tmp_path / "file.pkl"
    path.write_bytes(mutated(safetensors(STATE) if name == "safetensors" else (GOLDEN / name).read_bytes(), seed, kind))
    begin = time.process_time()
    try:
        network = build_network(read_checkpoint(path))
    except CheckpointError as error:
        assert str(path) in str(error) or "does not fit together" in str(error)
    else:
        assert all(value.isfinite().all() for value in network.state_dict().values())
    assert time.process_time() - begin < SECONDS
