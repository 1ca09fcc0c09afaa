"""Kill the scripts at random moments, as real processes, and look at what they leave behind.

    python tests/robustness/kills.py [COUNT] [--seed N] [--work FOLDER]

COUNT (default 100) signals, SIGKILL, SIGTERM and SIGINT in turn, are spread over the five scripts on the embedded
model, train_boundary.py also with --jobs=2. After each, nothing that is not whole may stand under a final name, and
SIGTERM and SIGINT have to be answered in one line; after one to five of them the same command must end well, with the
bytes of an undisturbed run and without strays. A line is printed for each; the status is 1 if one of them went wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "robustness")]

from bad_days import (  # noqa: E402
    ARGUMENTS,
    LIMIT,
    SIGNALS,
    catches,
    check_ending,
    check_interrupted,
    digests,
    write_workplace,
)

MORE = {"synthesize": ("-N", "272")}  # three blocks
RUNS = (*ARGUMENTS, "train_boundary --jobs=2")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class Script:
    """A script as its user starts it, in a folder of its own; `run` is its name, with further options."""

    def __init__(self, run: str, folder: Path) -> None:
        self.folder = folder
        self.name, *options = run.split()
        command = [
            sys.executable, str(ROOT / f"{self.name}.py"), *ARGUMENTS[self.name], *MORE.get(self.name, ()), *options
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> tuple[int, str]:
        """Wait for its end and that of its processes; return its exit status and what they said."""
        try:
            said = self.process.communicate(timeout=LIMIT)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.name} hangs in {self.folder}") from None
        return self.process.returncode, said

    def wait_for_charge(self) -> None:
        """Wait until it answers signals itself: before that, the interpreter starts, and a signal just ends it."""
        while self.process.poll() is None and not catches(self.process.pid, SIGNALS[1]):
            time.sleep(0.001)


def undisturbed(run: str, template: Path, folder: Path) -> float:
    """Let a script run without trouble, and return the seconds from when it answers signals to its end."""
    shutil.copytree(template, folder)
    script = Script(run, folder)
    script.wait_for_charge()
    begun = time.monotonic()
    status, said = script.end()
    if status or said:
        raise SystemExit(f"{run} ends with {status} even without trouble: {said}")
    return time.monotonic() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell ignores for this program, the scripts would
    choice = random.Random(args.seed)
    kept = args.work is not None
    work = args.work or Path(tempfile.mkdtemp(prefix="kills-"))
    template = work / "template"
    write_workplace(template)
    before = digests(template)
    seconds = {run: undisturbed(run, template, work / run) for run in RUNS}
    right = {run: digests(work / run) for run in RUNS}
    counts: Counter[str] = Counter()
    kills = chain = 0
    while kills < args.count:
        if chain > 5 * args.count:
            raise SystemExit("signals come too late or are not answered")
        run = RUNS[chain % len(RUNS)]
        folder = work / f"chain{chain}"
        chain += 1
        shutil.copytree(template, folder)
        left = choice.randint(1, 5)
        while True:
            number = SIGNALS[kills % len(SIGNALS)]
            moment = choice.uniform(0, 0.95) * seconds[run]
            script = Script(run, folder)
            script.wait_for_charge()
            begun = time.monotonic()
            if left and kills < args.count:
                try:
                    script.process.wait(moment)
                except subprocess.TimeoutExpired:
                    script.process.send_signal(number)
            try:
                status, said = script.end()
                if status == 0:
                    seconds[run] = min(seconds[run], time.monotonic() - begun)  # the machine may be less busy by now
                    verdict = "finished" if not said and digests(folder) == right[run] else f"WRONG bytes; {said}"
                else:
                    kills, left = kills + 1, left - 1
                    verdict = "stopped"
                    check_ending(script.name, status, said, number)
                    check_interrupted(folder, script.name, before, work / run)
            except Exception as error:
                verdict = f"WRONG: {error}"
            counts[f"{run} {verdict.split()[0]}"] += 1
            stopped = f"{number.name} after {moment:.2f} of {seconds[run]:.2f} s" if status else "undisturbed"
            print(f"{kills:4d} {run:23s} {stopped:36s} {verdict}", flush=True)
            if "WRONG" in verdict:
                kept = True
                break
            if status == 0:
                shutil.rmtree(folder)
                break
    for key in sorted(counts):
        print(f"{counts[key]:4d} {key}")
    wrong = sum(count for key, count in counts.items() if "WRONG" in key)
    print(f"{kills} kills, {wrong} wrong (seed {args.seed}){f'; files in {work}' if kept else ''}")
    if not kept:
        shutil.rmtree(work)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
