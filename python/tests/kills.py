"""Kills processes of tasks at random while Dask computes, and looks at every result.

`kills.py --kills 200` starts a run of its own; `mpirun -n 3 dagmar run kills.py --kills 200` is beside rank 0 of one. Ends
with 0 once so many were killed and every computation was right, with 1 if one was wrong or took too long.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

# How long a computation may take, which takes a second or two if nothing is killed.
LIMIT_S = 120
# Whether this is beside rank 0 of a run. Its client takes that out of the environment.
IS_GIVEN = "DAGMAR_CLIENT" in os.environ


def main():
    options = parse()
    import dask
    import dask.array
    import dagmar

    def computation():
        blocks = dask.array.random.RandomState(options.seed).random_sample((2000, 2000), chunks=250)
        product = blocks @ blocks.T
        return dask.array.stack([product.sum(), (product + product.T).max(), blocks.std()])

    expected = computation().compute(scheduler="threads").round(6).tolist()
    killer = Killer(options)
    computed = 0
    with dagmar.Client() as client:
        killer.begin()
        while killer.killed < options.kills:
            began = time.monotonic()
            found = client.compute(computation()).round(6).tolist()
            took = time.monotonic() - began
            computed += 1
            if found != expected or took > LIMIT_S:
                killer.stop()
                print(f"WRONG: computation {computed} gave {found}, not {expected}, after {took:.0f} s")
                return 1
        killer.stop()
    print(f"{killer.killed} processes killed in {computed} computations, all of them right")
    return 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=0.3, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Killer:
    """A thread that kills one process of a task after the other."""

    def __init__(self, options):
        self.killed = 0
        self._draw, self._every, self._most = random.Random(options.seed), options.every, options.kills
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self):
        self._thread.start()

    def stop(self):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        while self.killed < self._most and not self._is_over.wait(self._draw.uniform(0, 2 * self._every)):
            found = processes_of_tasks()
            if not found:
                continue
            try:
                os.kill(self._draw.choice(found), signal.SIGKILL)
                self.killed += 1
            except ProcessLookupError:
                pass


def processes_of_tasks():
    """Interpreters of this run but the first below each of its other processes: that is a template, which has forked
    the others."""
    processes = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                processes[int(entry.name)] = int(fields[1]), (entry / "cmdline").read_bytes(), int(fields[19])
            except (OSError, ValueError):
                pass
    run = run_of(processes)
    found = {number for number, (_, words, _) in processes.items()
             if b"import json, socket, sys" in words and run in ancestors(number, processes)}
    below = {}
    for number in sorted(found, key=lambda number: processes[number][2]):
        below.setdefault(processes[number][0], number)
    templates = {number for parent, number in below.items() if parent not in found}
    return sorted(found - templates)


def run_of(processes):
    """The process above all ranks: this one's child, or, beside rank 0, the highest launcher of the run."""
    if not IS_GIVEN:
        return os.getpid()
    names = (b"mpirun", b"mpiexec", b"dagmar")
    above = [number for number in ancestors(os.getpid(), processes)
             if os.path.basename(processes[number][1].split(b"\0")[0]).startswith(names)]
    return above[-1]


def ancestors(number, processes):
    above = []
    while number in processes:
        above.append(number)
        number = processes[number][0]
    return above


if __name__ == "__main__":
    sys.exit(main())
