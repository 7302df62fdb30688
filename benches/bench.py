"""Whole runs of dagmar beside the reference programs, by turns. Called by scripts/bench.

A round runs each program of a case once, one after the other, so that what else the machine does
falls on all of them alike; ratios are taken within a round and their median is shown. Results are
checked in every round: a run that gives a wrong value, or not all of its tasks, ends everything.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cases
import matmul
import metg
import peers
import python
from programs import Places, Wrong

CASES = {
    "noop": cases.noop, "chain": cases.chain, "shapes": cases.shapes, "commands": cases.commands,
    "payload": cases.payload, "matmul": matmul.contests, "metg": metg.usual, "metg-all": metg.everything, "peers": peers.contests,
    "python": python.contests, "python-mpi": python.under_mpirun,
}
# These take long, need the network, or OpenBLAS.
ON_REQUEST = ["matmul", "metg-all", "peers", "python", "python-mpi"]
COLUMNS = ["program", "figure", "unit", "spread", "x reference", "bar", ""]


def told(row):
    spread = f"{row['figure_min']:.4g}..{row['figure_max']:.4g}"
    ratio = f"{row['ratio']:.3g}" if "ratio" in row else ""
    return [row["program"], f"{row['figure']:.4g}", row["unit"], spread, ratio, row.get("bar", ""), row.get("verdict", "")]


def print_table(table):
    lines = [COLUMNS, *map(told, table)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]

    def show(line):
        words = [word.ljust(width) if place in (0, 2, 5) else word.rjust(width)
                 for place, (word, width) in enumerate(zip(line, widths))]
        print("  ".join(words).rstrip())

    case = None
    for row in table:
        if row["case"] != case:
            case = row["case"]
            print(f"\n{case}")
            show(COLUMNS)
        show(told(row))
        if "reference" in row:
            print(f"    beside {row['reference']}")


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
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="what the cases `python` and `python-mpi` are run with")
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
        places = Places(given.dagmar.resolve(), given.programs.resolve(), Path(folder), given.python.absolute())
        for name in given.names or [name for name in CASES if name not in ON_REQUEST]:
            for contest in CASES[name](places, given.small):
                table.extend(contest.play(1 if given.small else given.rounds))
                print(f"{contest.case}: results are right", file=sys.stderr)
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
