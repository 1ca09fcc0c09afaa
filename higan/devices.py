"""The device and the number format that a network computes in, and memory."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from higan.errors import HiganError

if TYPE_CHECKING:
    import torch

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4

Result = TypeVar("Result")

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # PyTorch's names


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: "auto" (a GPU when there is one), "cpu", "cuda" or "cuda:N".

    Raises
    ------
    HiganError
        The name is no device of PyTorch's, or this machine does not have it.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HiganError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise HiganError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise HiganError(f"device {name!r} is not there: {count} CUDA devices found; use --device cpu")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called `name` ("fp32", "bf16", or "fp16" on CUDA only) for activations on `device`.

    On CUDA "fp32" also keeps PyTorch from convolving in TF32, whose rounding is a thousand times that of float32.
    """
    import torch

    if name not in PRECISIONS:
        raise HiganError(f"unknown precision {name!r}; expected one of {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type != "cuda":
        raise HiganError(f"precision fp16 needs a CUDA device, found {device.type}; use bf16 or fp32")
    if name == "fp32" and device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    dtype: torch.dtype = getattr(torch, PRECISIONS[name])
    return dtype


def within_memory(call: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """Call `call` with `size`, `size` / 2, ... until memory suffices; return its result and the size.

    Raises
    ------
    HiganError
        Memory does not suffice for a size of 1.
    """
    while True:
        try:
            return call(size), size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise HiganError(
                    "memory does not suffice for one image at a time; free some, or try --precision bf16 or --device "
                    "cpu, then run the same command again"
                ) from None
        size //= 2  # not above: until the error is gone, its traceback keeps the tensors alive


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` says that a GPU or a CPU lacked memory for a tensor."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return any(sign in str(error) for sign in signs)


def require_memory(size: float, what: str) -> None:
    """Raise a HiganError that begins with `what` unless `size` bytes of memory are free."""
    free = free_memory()
    if size > free:
        raise HiganError(f"{what} need {size / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free; ask for fewer")


def free_memory() -> float:
    """Return how many bytes of memory a program can get; infinity if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf


def keep_freed_memory() -> None:
    """Let the C allocator keep freed blocks instead of returning them to the system after every layer.

    Fresh pages have to be zeroed by the kernel; with glibc's defaults that costs more than the arithmetic of an
    activation layer on a CPU. Elsewhere than on glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(M_TOP_PAD, 256 * 2**20)
