"""Programs that are measured: dagmar as users start it, and what it is compared with."""

import json
import os
import shutil
import subprocess
import tempfile
import time

# A run that takes longer hangs.
SECONDS_MAX = 300
CORES = os.cpu_count()


class Wrong(Exception):
    """A program failed or its result is not right."""


def run(command, folder=None, environment=None):
    """Runs a command to its end: its standard output, wall seconds, user + system seconds.

    The CPU time is that of the process and all that it waited for: under mpirun, every local rank.
    """
    guarded = ["timeout", "-k", "5", str(SECONDS_MAX), *map(str, command)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = subprocess.Popen(
            guarded, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            shown = " ".join(map(str, command))
            tail = err.read().decode(errors="replace")[-1000:]
            raise Wrong(f"`{shown}` exited with {child.returncode}\n{tail}")
        return out.read().decode(), wall, usage.ru_utime + usage.ru_stime


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


def mpirun(ranks):
    return ["mpirun", "-n", ranks] if ranks > 1 else []


class Places:
    """Where the programs are, and where graphs and runs go."""

    def __init__(self, dagmar, programs, folder, python):
        self.dagmar, self.programs, self.folder, self.python = dagmar, programs, folder, python

    def made(self, shape, width, steps, *more):
        """A graph that `dagmar graph make` makes."""
        path = self.folder / ("-".join(map(str, [shape, width, steps, *more])) + ".dagmar")
        if not path.exists():
            size = ["--width", width, "--steps", steps, *more, "--out", path]
            run([self.dagmar, "graph", "make", shape, *size], self.folder)
        return path

    def written(self, name, text):
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path


class Dagmar:
    """`dagmar run`, alone (`ranks` 1) or under mpirun with `ranks - 1` workers."""

    def __init__(self, places, ranks):
        self.places, self.ranks = places, ranks
        # Graphs whose values were right.
        self.checked = set()
        self.name = f"mpirun -n {ranks} dagmar run" if ranks > 1 else "dagmar run"

    def run(self, graph, tasks, expected=None):
        """Runs a graph; all of its `tasks` must finish. Wall and CPU seconds, and `inside`: from the first
        task that could start to the last that ended. The values in `expected`, by key, are looked at in
        a run of their own, once: whoever asks for values runs only what these need."""
        if expected:
            self.check(graph, expected)
        told, wall, cpu = self.start(graph)
        report = told["report"]
        if report["tasks"]["finished"] != tasks:
            raise Wrong(f"{self.name} {graph.name}: {report['tasks']['finished']} of {tasks} tasks finished")
        figures = {"inside": report["elapsed_s"], "moved": report["moved_bytes"]}
        return {"wall": wall, "cpu": cpu, "groups": report["slowest_groups"], **figures}

    def check(self, graph, expected):
        if graph in self.checked:
            return
        told, _, _ = self.start(graph, *expected)
        values = {output["key"]: output["value"] for output in told["outputs"]}
        for key, value in expected.items():
            if values.get(key, "nothing") != value:
                raise Wrong(f"{self.name} {graph.name}: {key} is {values.get(key)}, not {value}")
        self.checked.add(graph)

    def start(self, *words):
        into = self.places.folder / "run"
        command = [*mpirun(self.ranks), self.places.dagmar, "run", *words, "--into", into]
        try:
            out, wall, cpu = run([*command, "--output", "json", "--quiet"], self.places.folder)
        finally:
            shutil.rmtree(into, ignore_errors=True)
        told = last_json(out)
        if told["failures"]:
            raise Wrong(f"{self.name}: {told['failures'][0]}")
        return told, wall, cpu

    def net(self, graph, tasks, expected=None):
        """The same without start-up, which is that of a graph of one task, measured just before."""
        empty = self.run(self.places.made("trivial", 1, 1), 1)
        full = self.run(graph, tasks, expected)
        full["net"] = max(full["wall"] - empty["wall"], 1e-9)
        full["net_cpu"] = max(full["cpu"] - empty["cpu"], 0)
        return full


class Program:
    """A C program that times its own loop, without its start-up, and checks its own results."""

    def __init__(self, name, command, environment=None):
        self.name, self.command, self.environment = name, command, environment

    def run(self, *flags):
        out, wall, cpu = run([*self.command, *flags, "--rounds", 1], None, self.environment)
        return {**last_json(out), "wall": wall, "cpu": cpu}


def farm(places, ranks, *flags):
    words = " ".join(map(str, flags))
    name = f"mpirun -n {ranks} mpi_farm {words}".strip()
    return Program(name, [*mpirun(ranks), places.programs / "mpi_farm", *flags])


def spawn_loop(places, parallel):
    name = f"spawn_loop, {parallel} at a time"
    return Program(name, [places.programs / "spawn_loop", "--parallel", parallel])


def omp(places, program, *flags):
    name = " ".join(map(str, [program, *flags]))
    return Program(name, [places.programs / program, *flags], {"OMP_NUM_THREADS": str(CORES)})


class Contest:
    """One case: entries that are measured by turns, and what each is held against."""

    def __init__(self, case, unit, higher_is_better=False):
        self.case, self.unit, self.higher = case, unit, higher_is_better
        self.entries = []

    def enter(self, name, measure, against=None, bar=None, most=None, also=None, beside=()):
        """`measure` gives a dictionary with the `figure` of a round, in the contest's unit. `against` is
        the name of the entry that it is compared with, `bar` the worst ratio that is still good, `most`
        the worst figure, `also` another entry that it may be no worse than. `beside` has several `against`, each with
        its `bar`, and gives a row for each."""
        held = [{"against": against, "bar": bar, "most": most, "also": also}]
        held = [{**held[0], "against": other, "bar": ratio} for other, ratio in beside] or held
        self.entries.append({"name": name, "measure": measure, "held": held})
        return self

    def play(self, rounds):
        """The rows of each entry. Every other round goes the other way round; ratios are taken within
        a round, and medians are shown."""
        figures = {entry["name"]: [] for entry in self.entries}
        for number in range(rounds):
            for entry in self.entries if number % 2 == 0 else reversed(self.entries):
                figures[entry["name"]].append(entry["measure"]())
        return [self.row({**entry, **held}, figures) for entry in self.entries for held in entry["held"]]

    def row(self, entry, figures):
        mine = [one["figure"] for one in figures[entry["name"]]]
        row = {
            "case": self.case, "program": entry["name"], "unit": self.unit, "figure": median(mine),
            "figure_min": min(mine), "figure_max": max(mine), "rounds": len(mine),
        }
        for name in figures[entry["name"]][0]:
            if name != "figure":
                row[name] = median([one[name] for one in figures[entry["name"]]])
        verdicts = []
        bars = []
        if entry["against"]:
            others = [one["figure"] for one in figures[entry["against"]]]
            row.update(reference=entry["against"], ratio=median([a / b for a, b in zip(mine, others)]))
            if entry["bar"]:
                bars.append(("at least " if self.higher else "at most ") + f"{entry['bar']} x")
                verdicts.append(row["ratio"] >= entry["bar"] if self.higher else row["ratio"] <= entry["bar"])
        if entry["most"]:
            bars.append(f"at most {entry['most']} {self.unit}")
            verdicts.append(row["figure"] <= entry["most"])
        if entry["also"]:
            others = [one["figure"] for one in figures[entry["also"]]]
            row["second_ratio"] = median([a / b for a, b in zip(mine, others)])
            bars.append(f"no worse than {entry['also']}")
            verdicts.append(row["second_ratio"] <= 1)
        if verdicts:
            row["bar"] = ", ".join(bars)
            row["verdict"] = "pass" if all(verdicts) else "short"
        return row


def median(numbers):
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
