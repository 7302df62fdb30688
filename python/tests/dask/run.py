"""Runs Dask's own tests, which ship with it, with every scheduler that they name replaced by ours.

`run.py --record` notes which tests go through Dask's own `processes` and pass: those are required of ours. Others
cannot pass out of process at all, as they store into an array of their own process or count in a closure.
`run.py` runs them through dagmar and compares; `run.py --slice 8` runs a few modules that stand for all.
"""

import argparse
import collections
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIRED = HERE / "required.txt"
# How the list says that all cases of a test are required.
ALL = "[*]"
# Modules that test Dask's own schedulers, call none, or want what is not here.
SKIPPED = (
    "test_distributed", "test_http", "test_s3", "test_cupy_", "test_threaded", "test_multiprocessing", "test_local",
    "test_system", "test_tokenize", "test_order", "test_config", "test_utils", "test_imports", "test_cli",
    "test_docs", "test_spark_compat", "test_rewrite", "test_dot", "test_sizeof",
)
# How pytest ends if it ran all tests: they passed, some failed, there were none.
ENDED = (0, 1, 5)
# Some of each kind, the quick ones first.
SLICE = (
    "array/tests/test_atop.py", "diagnostics/tests/test_progress.py", "tests/test_callbacks.py",
    "bag/tests/test_random.py", "dataframe/dask_expr/tests/test_datetime.py", "tests/test_delayed.py",
    "array/tests/test_reshape.py", "dataframe/dask_expr/tests/test_indexing.py", "array/tests/test_overlap.py",
    "tests/test_base.py", "array/tests/test_slicing.py", "array/tests/test_array_core.py", "bag/tests/test_bag.py",
    "dataframe/dask_expr/tests/test_concat.py", "dataframe/io/tests/test_csv.py",
)


def main():
    options = parse()
    # So that a module's processes are ended when this one is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    modules = sorted(filter(partial(chosen, options), all_modules()), key=partial(place, options))
    scheduler = "processes" if options.record else options.scheduler
    results = read_results(options.results)
    for module in modules:
        if options.resume and module in results.get(scheduler, {}):
            continue
        result = run_module(module, scheduler, options)
        results.setdefault(scheduler, {})[module] = result
        write_results(options.results, results)
        print(in_a_line(module, scheduler, result), flush=True)
    own = {module: results[scheduler][module] for module in modules}
    if options.record:
        # Modules that were cut short say nothing.
        whole = {module: required_of(result) for module, result in own.items() if result["code"] in ENDED}
        write_required({**read_required(), **whole})
        return 0
    missed = compare(own, read_required())
    tell_times(results, modules)
    return 1 if missed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="parts of the names of modules, as `array/tests/test_slicing`")
    parser.add_argument("--scheduler", choices=("dagmar", "processes", "sync"), default="dagmar")
    parser.add_argument("--record", action="store_true", help="note what passes under `processes` as required")
    parser.add_argument("--resume", action="store_true", help="skip modules whose results are there")
    parser.add_argument("--slice", type=int, metavar="N", help="only the first N of the modules that stand for all")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a module may take")
    parser.add_argument("--test-limit", type=float, default=60, help="seconds that a test may take")
    parser.add_argument("--results", type=Path, default=Path("results.json"))
    return parser.parse_args()


def site():
    import dask

    return Path(dask.__file__).resolve().parent.parent


def all_modules():
    paths = sorted((site() / "dask").rglob("tests/test_*.py"))
    return [str(path.relative_to(site())) for path in paths if not path.name.startswith(SKIPPED)]


def chosen(options, module):
    if options.slice is not None:
        return module.removeprefix("dask/") in SLICE[:options.slice]
    return not options.modules or any(part in module for part in options.modules)


def place(options, module):
    """Modules run in the order in which they are named."""
    return next((place for place, part in enumerate(options.modules) if part in module), 0)


def run_module(module, scheduler, options):
    """What became of each test of a module, which has a process group and a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="dask-tests-") as directory:
        report, log = Path(directory, "report.jsonl"), Path(directory, "log")
        Path(directory, "pytest.ini").write_text("[pytest]\nfilterwarnings =\n    ignore::pytest.PytestUnknownMarkWarning\n")
        command = [sys.executable, "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", "-q", "--tb=short",
                   "-c", "pytest.ini", f"--rootdir={site()}", "-m", "not slow and not network",
                   f"--dask-scheduler={scheduler}", f"--dask-report={report}", f"--dask-limit={options.test_limit}",
                   str(site() / module)]
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), environment.get("PYTHONPATH")]))
        start = time.monotonic()
        with open(log, "wb") as out:
            process = subprocess.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, start_new_session=True)
            try:
                code = process.wait(options.limit)
            except subprocess.TimeoutExpired:
                code = "took too long"
            finally:
                end(process)
        tests = {}
        for line in report.read_text().splitlines() if report.exists() else ():
            test = json.loads(line)
            tests[test.pop("test").removeprefix(module + "::")] = test
        result = {"time": round(time.monotonic() - start, 2), "code": code, "tests": tests}
        if code not in ENDED:
            result["log"] = log.read_text(errors="replace")[-3000:]
        return result


def end(process):
    """Ends what is left of a module's processes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def in_a_line(module, scheduler, result):
    counts = collections.Counter(test["outcome"] for test in result["tests"].values())
    through = sum(test["calls"] > 0 for test in result["tests"].values())
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    ended = "" if result["code"] in ENDED else f", ended with {result['code']}"
    return f"{module}: {scheduler}: {told or 'no tests'}, {through} went through, {result['time']:.0f} s{ended}"


# ---------------------------------------------------------------- what is required


def required_of(result):
    """The tests that pass; those of a function as one, if all of its cases do."""
    tests = result["tests"]
    passed = {name for name, test in tests.items() if test["outcome"] == "passed" and test["calls"]}
    failed = {function_of(name) for name in tests if name not in passed}
    return {name if function_of(name) in failed or "[" not in name else function_of(name) + ALL for name in passed}


def function_of(name):
    return name.split("[", 1)[0]


def read_required():
    """The tests that are required, by module."""
    required, module = {}, None
    for line in REQUIRED.read_text().splitlines() if REQUIRED.exists() else ():
        if line.startswith("  "):
            required[module].add(line[2:])
        elif line and not line.startswith("#"):
            module = line
            required[module] = set()
    return required


def write_required(required):
    import dask

    lines = [
        f"# Tests of Dask {dask.__version__} that go through `processes` and pass. Made by `run.py --record`.",
        f"# `{ALL}` stands for all cases of a test.",
    ]
    for module in sorted(required):
        if required[module]:
            lines += [module, *("  " + name for name in sorted(required[module]))]
    REQUIRED.write_text("\n".join(lines) + "\n")


def compare(results, required):
    """Says which required tests did not pass; returns how many."""
    total = missed = 0
    for module, result in results.items():
        cases = {}
        for name in result["tests"]:
            cases.setdefault(function_of(name) + ALL, []).append(name)
        for wanted in sorted(required.get(module, ())):
            for name in cases.get(wanted, [wanted]):
                test = result["tests"].get(name, {"outcome": "not run", "calls": 0})
                total += 1
                if test["outcome"] != "passed" or not test["calls"]:
                    missed += 1
                    why = (test.get("why") or "").strip().splitlines()
                    print(f"MISSED {module}::{name}: {test['outcome']}: {why[-1] if why else ''}")
    print(f"{total - missed} of {total} required tests passed")
    return missed


def tell_times(results, modules):
    """The times of those modules that both ran."""
    both = [module for module in modules if all(module in results.get(name, {}) for name in ("dagmar", "processes"))]
    ours, theirs = (sum(results[name][module]["time"] for module in both) for name in ("dagmar", "processes"))
    if both:
        print(f"{len(both)} modules: dagmar {ours:.0f} s, processes {theirs:.0f} s, ratio {ours / theirs:.2f}")


def read_results(path):
    return json.loads(path.read_text()) if path.exists() else {}


def write_results(path, results):
    before = path.with_suffix(".part")
    before.write_text(json.dumps(results))
    before.replace(path)


if __name__ == "__main__":
    sys.exit(main())
