"""Windows and macOS, as far as they can be had here: nothing that one of them lacks is needed by a step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.model import write_model
from support.scripts import ROOT

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "termios")
NAMES = (
    "os.fchmod", "os.fork", "os.geteuid", "os.mkfifo", "os.posix_fadvise", "os.posix_fallocate", "os.pread",
    "os.preadv", "os.pwrite", "os.sched_getaffinity", "os.sync", "signal.SIGALRM", "signal.SIGKILL", "signal.SIGPIPE",
    "signal.pthread_sigmask", "signal.setitimer",
)  # fmt: skip
# what Python itself, or a library, needs of them is loaded first
PROGRAM = """
import importlib, os, pkgutil, signal, sys, warnings
import numpy, PIL.Image, scipy.optimize, scipy.special, shutil, sklearn.svm, subprocess, tempfile, torch, tqdm.auto
import jinja2, logging.handlers, multiprocessing.connection, torch.distributed
modules, names = eval(sys.argv[1])
for name in modules:
    sys.modules[name] = None
for name in names:
    module, attribute = name.split(".")
    vars(sys.modules[module]).pop(attribute, None)
warnings.simplefilter("ignore")  # filelock's word on a system without locks, which Windows is not
import higan
for module in pkgutil.walk_packages(higan.__path__, "higan."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from higan.commands import synthesize, train_boundary
for command, *arguments in eval(sys.argv[2]):
    sys.argv = [command, *arguments]
    getattr(higan.commands, command).run()
"""


def test_nothing_that_windows_or_macos_lack_is_needed(tmp_path: Path) -> None:
    model = str(write_model(tmp_path))
    commands = [
        ("synthesize", model, "-N", "24", "--save_raw_synthesis", "--generate_prediction", "-o", "made",
         "--predictor_name=support.model:own_predictor"),
        ("train_boundary", "made/w.npy", "made/attribute.npy", "--score_name", "warmth", "-N", "8", "-o", "own"),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", PROGRAM, repr((MODULES, NAMES)), repr(commands)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "own" / "warmth_boundary.npy").exists()
    assert len(list((tmp_path / "made").glob("*.jpg"))) == 24
    assert not list(tmp_path.rglob(".lock*"))
