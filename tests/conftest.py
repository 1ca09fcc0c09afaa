from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from support.browser import browser, visit

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as in a rank of its own, before PyTorch is imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process for each core already, and for what it starts


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give the handlers of signals back that a script leaves changed, since it is to end with its process."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in usual.items():  # a shell ignores some behind, a script that a module's fixture ran others
        signal.signal(number, handler)
    yield
    for number, handler in usual.items():
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: a pipeline that starts last would leave one core without work."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


__all__ = ["browser", "visit"]  # fixtures of every test of pages
