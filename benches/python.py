"""The Python package beside what Python's users have: distributed, multiprocessing, Dask's own schedulers, loky.

`scripts/bench python` installs them into the target directory. Each measurement is a process of its own, which
benches/python_programs.py is; what cannot be imported is left out, with a word. `python-mpi` has it run beside rank 0
of a run under mpirun where it measures ours.
"""

import os
import subprocess
import sys
from pathlib import Path

from programs import CORES, Contest, Wrong, last_json, mpirun, run

PROGRAMS = Path(__file__).with_name("python_programs.py")
PACKAGE = Path(__file__).resolve().parents[1] / "python"
# What each case imports.
NEEDS = {"copy": ["numpy"], "array": ["numpy"], "matmul": ["dask.array"], "transpose": ["dask.array"],
         "grid": ["joblib", "sklearn"], "calls": ["joblib"]}


# Cases of ours whose every worker has a slot for each core of the machine: they are about two slots of one rank.
WIDE = ["array"]
RANKS = 3


class Programs:
    """Measurements of one interpreter, ours with so many ranks."""

    def __init__(self, places, ranks=1):
        self._interpreter, self._folder = places.python, places.folder
        self._dagmar, self._ranks = places.dagmar, ranks
        self._environment = {
            "DAGMAR": str(places.dagmar), "DAGMAR_PYTHON": str(places.python), "PYTHONPATH": str(PACKAGE),
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore",
            # Each task has one core, however it is called.
            **{name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
        }
        self._values = {}
        self._found = {}

    def has(self, *modules):
        missing = [name for name in modules if not self._finds(name)]
        if missing:
            print(f"left out, as `{missing[0]}` cannot be imported by {self._interpreter}", file=sys.stderr)
        return not missing

    def _finds(self, module):
        if module not in self._found:
            done = subprocess.run([self._interpreter, "-c", f"import {module}"], capture_output=True)
            self._found[module] = done.returncode == 0
        return self._found[module]

    def run(self, *words):
        return self._run([self._interpreter, PROGRAMS], words)

    def run_ours(self, case, *words):
        """A program that is, or has, a client of ours: it starts a run by itself, or is started by one."""
        if self._ranks == 1:
            return self.run(case, *words)
        cpus = CORES if case in WIDE else max(1, CORES // (self._ranks - 1))
        begin = [*mpirun(self._ranks), self._dagmar, "run", PROGRAMS, "--quiet", "--cpus", cpus]
        return self._run([*begin, "--"], [case, *words])

    def _run(self, program, words):
        return last_json(run([*program, *words], self._folder, self._environment)[0])

    def measure(self, case, way, *sizes, is_ours=False):
        """A measurement whose value must be what the first of its case and sizes was."""

        def measure():
            told = (self.run_ours if is_ours else self.run)(case, way, *sizes)
            value = told.pop("value")
            first = self._values.setdefault((case, sizes), value)
            if value != first:
                raise Wrong(f"{case}: {way} gives {str(value)[:200]}, not {str(first)[:200]}")
            return told

        return measure


def under_mpirun(places, small):
    for contest in contests(places, small, RANKS):
        contest.case += f", by mpirun -n {RANKS}"
        yield contest


def contests(places, small, ranks=1):
    programs = Programs(places, ranks)
    yield from empty(programs, 200 if small else 10_000)
    yield from python(programs, 20 if small else 200)
    yield from arrays(programs, 10**7 if small else 10**9)
    yield from dask(programs, "matmul", *((256, 64) if small else (4096, 512)))
    yield from dask(programs, "transpose", *((400, 100) if small else (2048, 128)))
    if not small:
        yield from dask(programs, "transpose", 8000, 1000)
    yield from joblib(programs, "grid", "a grid search of scikit-learn, {} fits", *((2, 12) if small else (4, 60)))
    yield from joblib(programs, "calls", "{} calls of abs by joblib", 500 if small else 20_000)


def empty(programs, tasks):
    contest = Contest(f"{tasks} calls that do nothing, by map and gather", "calls/s", higher_is_better=True)
    has_other = programs.has("distributed")
    beside = {"against": "distributed", "bar": 10} if has_other else {}
    contest.enter("dagmar", programs.measure("empty", "dagmar", tasks, is_ours=True), **beside)
    if has_other:
        contest.enter("distributed", programs.measure("empty", "distributed", tasks))
    yield contest


def python(programs, tasks):
    steps = programs.run("calibrate", 0.02)["steps"]
    contest = Contest(f"{tasks} calls of 20 ms of plain Python, on {CORES} cores", "calls/s", higher_is_better=True)
    ours = programs.measure("python", "dagmar", tasks, steps, is_ours=True)
    contest.enter("dagmar", ours, against="multiprocessing.Pool", bar=0.97)
    contest.enter("multiprocessing.Pool", programs.measure("python", "pool", tasks, steps))
    yield contest


def arrays(programs, size):
    if not programs.has(*NEEDS["array"]):
        return
    contest = Contest(f"an array of {size / 1e9:.3g} GB as an argument", "ms")
    contest.enter("in the process that made it", programs.measure("array", "same process", size, is_ours=True), most=5)
    contest.enter("in another, first time", programs.measure("array", "another, first", size, is_ours=True),
                  beside=[("a copy into new memory", 1.2), ("a copy into touched memory", None)])
    contest.enter("in another, again", programs.measure("array", "another, again", size, is_ours=True), most=5)
    contest.enter("a copy into new memory", programs.measure("copy", "new", size))
    contest.enter("a copy into touched memory", programs.measure("copy", "touched", size))
    yield contest


def dask(programs, case, size, side):
    if not programs.has(*NEEDS[case]):
        return
    what = {"matmul": "product of {0} x {0} in {1} products of blocks", "transpose": "(x + x.T).sum() of {0} x {0} in {2} blocks"}
    count = size // side
    contest = Contest("Dask's " + what[case].format(size, count**3, count**2), "s")
    beside = [("threads", 1.3), ("processes", 1)]
    if programs.has("distributed"):
        beside.append(("distributed", 0.333))
    contest.enter("dagmar", programs.measure(case, "dagmar", size, side, is_ours=True), beside=beside)
    for way, _ in beside:
        contest.enter(way, programs.measure(case, way, size, side))
    yield contest


def joblib(programs, case, what, *sizes):
    if not programs.has(*NEEDS[case]):
        return
    contest = Contest(what.format(sizes[-1]), "s")
    contest.enter("dagmar", programs.measure(case, "dagmar", *sizes, is_ours=True), against="loky", bar=1.1)
    contest.enter("loky", programs.measure(case, "loky", *sizes))
    yield contest
