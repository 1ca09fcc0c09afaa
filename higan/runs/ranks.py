"""The processes that share one run: which block each computes, on which device, and that none has died."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from higan.errors import HiganError


class Ranks:
    """This process among those that share a run, as torchrun starts them; alone without torchrun.

    A context: at its end the processes part.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    size
        How many processes there are.
    local_rank
        Number of this process on its machine, from 0.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if self.size > 1:
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what a dead rank means is said here, in one line
        self.store: Any = None
        self.taken = self.calls = 0

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *_: object) -> None:
        if self.store is not None:
            import torch.distributed as dist

            self.store = None
            dist.destroy_process_group()

    def join(self) -> None:
        """Meet the other processes. They exchange only numbers of blocks, so gloo serves every kind of device."""
        if self.size == 1 or self.store is not None:
            return
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        with dead_ranks_reported():
            store, _, _ = next(iter(rendezvous("env://", self.rank, self.size)))
            group = dist.PrefixStore("group", store)
            dist.init_process_group("gloo", store=group, rank=self.rank, world_size=self.size)
        self.store = dist.PrefixStore("run", store)

    def first(self, call: Callable[[], Any]) -> Any:
        """Call `call` in rank 0 alone, and return its result (of JSON values) in every rank.

        Where it raises HiganError, rank 0 raises that, and the other ranks exit with status 2.
        """
        if self.size == 1:
            return call()
        self.join()
        self.calls += 1
        key = f"first{self.calls}"
        result: list[Any] = []
        failure: HiganError | None = None
        with dead_ranks_reported():
            if self.rank == 0:
                try:
                    result = [call()]
                except HiganError as error:
                    failure = error
                self.store.set(key, json.dumps(result))
            result = json.loads(self.store.get(key))
        self.wait()  # the store ends with rank 0
        if failure is not None:
            raise failure
        if not result:
            sys.exit(2)
        return result[0]

    def device(self, name: str) -> str:
        """Return the device of this rank: its own GPU if `name` is auto or cuda and there are GPUs, else `name`."""
        from higan.devices import choose_device

        if self.size > 1 and name in ("auto", "cuda") and choose_device(name).type == "cuda":
            return f"cuda:{self.local_rank}"
        return str(choose_device(name))

    def next(self) -> int:
        """Return the smallest number, from 0, that no rank has had yet."""
        number = self.taken
        if self.store is not None:
            with dead_ranks_reported():
                number = self.store.add("next", 1) - 1
        self.taken = number + 1
        return number

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            with dead_ranks_reported():
                dist.barrier()


@contextmanager
def dead_ranks_reported() -> Iterator[None]:
    """Turn the loss of another rank into a HiganError."""
    try:
        yield
    except RuntimeError:
        raise HiganError("another rank has died; the same command goes on from here") from None
