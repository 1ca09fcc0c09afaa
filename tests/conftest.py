from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as in a rank of its own, before PyTorch is imported

from support import golden, model, pages, processes, scripts, workplace


def alias(name: str, *sources: ModuleType, **renamed: object) -> None:
    """Let the modules of `tests/support` be imported under their earlier name too, until nothing does."""
    sys.modules[name] = ModuleType(name)
    for source in sources:
        vars(sys.modules[name]).update({key: value for key, value in vars(source).items() if key[0] != "_"})
    vars(sys.modules[name]).update(renamed)


alias("scripts", scripts)
alias("golden_cases", golden)
alias("report_helpers", pages)
alias("editing_helpers", workplace, model)
alias(
    "synthesis_helpers", model, processes, write_tiny_model=model.write_model, make_predictor=model.own_predictor,
    synthesize=lambda *arguments: scripts.run("synthesize", *arguments),
)  # fmt: skip
alias(
    "analysis_helpers", model, scripts, NAMES=model.COLOURS, SETTINGS=model.SMALLER,
    write_model=model.write_smaller_model, make_network=lambda: model.make_generator().network,
)  # fmt: skip


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give the handlers of signals back that a script leaves changed, since it is to end with its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests behind
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
