"""Whole runs of dagmar beside the reference programs, by turns. Called by scripts/bench.

A round runs each program of a case once, one after the other, so that what else the machine does
falls on all of them alike; ratios are taken within a round and their median is shown. Results are
checked in every round: a run that gives a wrong value, or not all of its tasks, ends everything.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RANKS = 3
# A run that takes longer hangs.
SECONDS_MAX = 300
COLUMNS = ["case", "program", "wall s", "cpu s", "us/task", "cpu us/task", "x reference", "spread"]


class Wrong(Exception):
    """A program failed or its result is not right."""


# ---------------------------------------------------------------- one process


def run(command, folder):
    """Runs a command to its end: its standard output, wall seconds, user + system seconds.

    The CPU time is that of the process and all that it waited for: under mpirun, every local rank.
    """
    guarded = ["timeout", "-k", "5", str(SECONDS_MAX), *map(str, command)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = subprocess.Popen(guarded, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder)
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


# ---------------------------------------------------------------- programs


class Dagmar:
    """`dagmar run`, alone or under mpirun."""

    def __init__(self, places, ranks):
        self.places, self.ranks = places, ranks
        self.name = f"mpirun -n {ranks} dagmar run" if ranks > 1 else "dagmar run"
        self.launcher = ["mpirun", "-n", ranks] if ranks > 1 else []

    def measure(self, case):
        return self.measure_graph(case.graph, case.tasks)

    def measure_empty(self):
        """Its start-up: a graph of one task that does nothing."""
        return self.measure_graph(self.places.graph("trivial", 1, 1), 1)

    def measure_graph(self, graph, tasks):
        out, wall, cpu = self.start([graph])
        told = last_json(out)
        finished = told["report"]["tasks"]["finished"]
        if finished != tasks or told["failures"]:
            raise Wrong(f"{self.name} {graph.name}: {finished} of {tasks} tasks finished")
        return {"wall": wall, "cpu": cpu, "inside": told["report"]["elapsed_s"]}

    def values(self, graph, keys):
        told = last_json(self.start([graph, *keys])[0])
        return {output["key"]: output["value"] for output in told["outputs"]}

    def start(self, words):
        into = self.places.folder / "run"
        try:
            command = [*self.launcher, self.places.dagmar, "run", *words, "--into", into, "--output", "json"]
            return run([*command, "--quiet"], self.places.folder)
        finally:
            shutil.rmtree(into, ignore_errors=True)


class Reference:
    """A C program that times its own loop, without its start-up."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def measure(self, case):
        return self.measure_tasks(case.tasks)

    def measure_empty(self):
        return self.measure_tasks(1)

    def measure_tasks(self, tasks):
        out, wall, cpu = run([*self.command, "--tasks", tasks, "--rounds", 1], None)
        return {"wall": wall, "cpu": cpu, "inside": last_json(out)["seconds"]}


# ---------------------------------------------------------------- cases


class Places:
    """Where the programs are and where graphs and runs go."""

    def __init__(self, dagmar, programs, folder):
        self.dagmar, self.programs, self.folder = dagmar, programs, folder

    def graph(self, shape, width, steps):
        path = self.folder / f"{shape}-{width}x{steps}.dagmar"
        if not path.exists():
            size = ["--width", width, "--steps", steps, "--out", path]
            run([self.dagmar, "graph", "make", shape, *size], self.folder)
        return path

    def commands(self, count):
        path = self.folder / f"commands-{count}.toml"
        path.write_text(f'[tasks.true]\neach = {{ number = "1..{count}" }}\nrun = ["/bin/true"]\n')
        return path

    def farm(self, mode):
        command = ["mpirun", "-n", RANKS, self.programs / "mpi_farm", "--mode", mode]
        return Reference(f"mpirun -n {RANKS} mpi_farm ({mode})", command)

    def spawn_loop(self):
        parallel = os.cpu_count()
        command = [self.programs / "spawn_loop", "--parallel", parallel]
        return Reference(f"spawn_loop, {parallel} at a time", command)


class Case:
    """One graph, the program that it is compared with, and what its sinks must be worth."""

    def __init__(self, name, graph, tasks, reference, expected):
        self.name, self.graph, self.tasks = name, graph, tasks
        self.reference, self.expected = reference, expected


def noop(places, small):
    for tasks in [1_000, 10_000] if small else [100_000, 1_000_000]:
        graph = places.graph("trivial", tasks, 1)
        # The values of a million tasks are looked at through a few of them.
        expected = {f"task[{index}]": None for index in (0, tasks // 2, tasks - 1)}
        yield Case(f"noop {tasks}", graph, tasks, places.farm("farm"), expected)


def chain(places, small):
    steps = 500 if small else 10_000
    graph = places.graph("chain", 1, steps)
    yield Case(f"chain {steps}", graph, steps, places.farm("chain"), {f"point[{steps - 1},0]": steps})


def tree(places, small):
    leaves = 1 << (8 if small else 15)
    top = f"level_{leaves.bit_length() - 1}[0]"
    graph = places.graph("tree", leaves, 1)
    yield Case(f"tree {leaves} leaves", graph, 2 * leaves - 1, places.farm("farm"), {top: leaves})


def stencil(places, small):
    width, steps = (16, 50) if small else (64, 1000)
    expected = {f"point[{steps - 1},{point}]": value for point, value in enumerate(last_row(width, steps))}
    graph = places.graph("stencil_1d", width, steps)
    yield Case(f"stencil {width} x {steps}", graph, width * steps, places.farm("farm"), expected)


def commands(places, small):
    count = 50 if small else 2_000
    yield Case(f"/bin/true x {count}", places.commands(count), count, places.spawn_loop(), {})


CASES = {"noop": noop, "chain": chain, "tree": tree, "stencil": stencil, "commands": commands}


def last_row(width, steps):
    """What the last points of a stencil are worth, computed without dagmar: the definition stands
    at the top of src/client/formats/make.rs."""

    def first_value(point):
        state = (point * 0x9E37_79B9_7F4A_7C15) % 2**64
        for _ in range(3):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return ((state >> 32) * 1000) >> 32

    row = [first_value(point) for point in range(width)]
    for step in range(1, steps):
        taken = max if step % 2 else min
        row = [taken(row[max(0, point - 1) : point + 2]) for point in range(width)]
    return row


# ---------------------------------------------------------------- rounds


def check_values(case, dagmar):
    if not case.expected:
        return
    values = dagmar.values(case.graph, case.expected)
    if values != case.expected:
        wrong = [key for key, value in case.expected.items() if values.get(key, "nothing") != value]
        key = wrong[0]
        raise Wrong(f"{dagmar.name} {case.name}: {key} is {values.get(key)}, not {case.expected[key]}")


def measure(case, dagmars, rounds):
    """The figures of all rounds by program. Every other round goes the other way round."""
    programs = [*dagmars, case.reference]
    figures = {program.name: [] for program in programs}
    for number in range(rounds):
        for program in programs if number % 2 == 0 else reversed(programs):
            empty = program.measure_empty()
            full = program.measure(case)
            full["start_up"] = empty["wall"]
            full["start_up_cpu"] = empty["cpu"]
            figures[program.name].append(full)
    return figures


def rows(case, figures):
    """One row for each program. The time of dagmar is all but its start-up: reading the graph,
    setting up, running and the report. The reference programs time their loop themselves."""
    reference = figures[case.reference.name]
    for name, rounds in figures.items():
        is_reference = name == case.reference.name
        net = [one["inside"] if is_reference else max(one["wall"] - one["start_up"], 0) for one in rounds]
        cpu = [max(one["cpu"] - one["start_up_cpu"], 0) for one in rounds]
        ratios = [mine / other["inside"] for mine, other in zip(net, reference)]
        wall = [one["wall"] for one in rounds]
        yield {
            "case": case.name,
            "program": name,
            "tasks": case.tasks,
            "rounds": len(rounds),
            "wall_s": statistics.median(wall),
            "cpu_s": statistics.median(one["cpu"] for one in rounds),
            "start_up_s": statistics.median(one["start_up"] for one in rounds),
            "inside_s": statistics.median(one["inside"] for one in rounds),
            "us_per_task": statistics.median(net) / case.tasks * 1e6,
            "cpu_us_per_task": statistics.median(cpu) / case.tasks * 1e6,
            "ratio": statistics.median(ratios),
            "wall_s_min": min(wall),
            "wall_s_max": max(wall),
        }


def slopes(table):
    """Microseconds for each task more, between the two sizes of no-ops."""
    noops = [row for row in table if row["case"].startswith("noop")]
    for program in dict.fromkeys(row["program"] for row in noops):
        small, large = sorted((row for row in noops if row["program"] == program), key=lambda row: row["tasks"])
        more = large["tasks"] - small["tasks"]
        time_of = "inside_s" if "farm" in program else "wall_s"
        yield {
            "case": "noop, each task more",
            "program": program,
            "us_per_task": (large[time_of] - small[time_of]) / more * 1e6,
            "cpu_us_per_task": (large["cpu_s"] - small["cpu_s"]) / more * 1e6,
        }


# ---------------------------------------------------------------- telling


def told(row):
    def number(name, form):
        return format(row[name], form) if name in row else ""

    spread = f"{row['wall_s_min']:.2f}..{row['wall_s_max']:.2f}" if "wall_s_min" in row else ""
    return [
        row["case"],
        row["program"],
        number("wall_s", ".2f"),
        number("cpu_s", ".2f"),
        number("us_per_task", ".2f"),
        number("cpu_us_per_task", ".2f"),
        number("ratio", ".1f"),
        spread,
    ]


def print_table(table):
    lines = [COLUMNS, *map(told, table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    case = None
    for line in lines:
        if line[0] != case and case is not None:
            print()
        case = line[0]
        words = [word.ljust(width) if place < 2 else word.rjust(width)
                 for place, (word, width) in enumerate(zip(line, widths))]
        print("  ".join(words).rstrip())


def keep(table):
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / time.strftime("%Y%m%d-%H%M%S.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


def flags():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="dagmar beside plain C")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"cases: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="check results on small graphs")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout")
    parser.add_argument("--dagmar", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in CASES]
    if unknown:
        parser.error(f"there is no case `{unknown[0]}`: {', '.join(CASES)}")
    if given.rounds < 1:
        parser.error("at least one round is needed")
    return given


def main():
    given = flags()
    table = []
    with tempfile.TemporaryDirectory(prefix="dagmar-bench-") as folder:
        places = Places(given.dagmar.resolve(), given.programs.resolve(), Path(folder))
        dagmars = [Dagmar(places, 1), Dagmar(places, RANKS)]
        for name in given.names or CASES:
            for case in CASES[name](places, given.small):
                for dagmar in dagmars:
                    check_values(case, dagmar)
                print(f"{case.name}: values are right", file=sys.stderr)
                figures = measure(case, dagmars, 1 if given.small else given.rounds)
                table.extend(rows(case, figures))
    table.extend(slopes(table))
    if given.json:
        print("".join(json.dumps(row) + "\n" for row in table), end="")
    elif given.small:
        print("all results are right")
    else:
        print_table(table)
        print(f"\nall figures: {os.path.relpath(keep(table))}")


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"error: {wrong}")
    except KeyboardInterrupt:
        sys.exit(130)
