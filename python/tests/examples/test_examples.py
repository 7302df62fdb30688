"""The examples do what they say, by themselves and as clients of a run, alone and under mpirun."""

import collections
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "python"


RUN = (os.environ.get("DAGMAR", "dagmar"), "run", "--quiet")
COMMANDS = {"alone": (sys.executable,), "run": RUN, "mpirun": ("mpirun", "-n", "3", *RUN)}


@pytest.fixture(params=COMMANDS)
def run(request, tmp_path):
    """Runs an example, and gives what it prints in lines."""
    command = COMMANDS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no `{command[0]}`")

    def run(name, *arguments, needs=()):
        for module in needs:
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"{name} needs {module}")
        words = [str(EXAMPLES / name), *([] if request.param == "alone" else ["--"]), *map(str, arguments)]
        done = subprocess.run([*command, *words], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def primes_below(limit):
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number::number] = bytes(len(range(number * number, limit, number)))
    return sum(sieve)


def test_map_reduce(run):
    assert run("map_reduce.py", 20_000) == [f"{primes_below(20_000)} primes below 20000"]


def test_word_count(run):
    files = [ROOT / "LICENSE-APACHE", ROOT / "LICENSE-MIT"]
    counts = collections.Counter(word for file in files for word in re.findall(r"[a-z]+", file.read_text().lower()))
    expected = sorted(((count, word) for word, count in counts.items()), reverse=True)[:5]
    lines = run("word_count.py", *files, needs=["dask"])
    assert [(int(count), word) for count, word in map(str.split, lines)] == expected


def test_array_statistics(run):
    lines = run("array_statistics.py", 40, needs=["dask", "numpy"])
    # 5000 rows: columns differ by 999 / 2 on average, and each has the deviation of 0, 1, ... 4999.
    deviation = ((5000**2 - 1) / 12) ** 0.5
    assert lines == [f"40 MB, mean {4999 / 2 + 999 / 2:.1f}, deviation within columns {deviation:.2f}"]


def test_group_by(run):
    lines = run("group_by.py", "table", needs=["dask", "pandas", "pyarrow"])
    sums = [sum(number % 1000 for number in range(shop, 400_000, 5)) for shop in range(5)]
    assert lines == [f"shop {shop}: {total / 100:12.2f} in all, {total / 80_000 / 100:.3f} each"
                     for shop, total in enumerate(sums)]


def test_grid_search(run):
    lines = run("grid_search.py", needs=["joblib", "sklearn"])
    assert lines == ["{'C': 10, 'gamma': 0.001} is right in 0.9761 of all cases"]


def test_monte_carlo(run):
    (line,) = run("monte_carlo.py", 0.004)
    pi, error, batches = re.fullmatch(r"pi is ([\d.]+) \+- ([\d.]+), by (\d+) of 400 batches", line).groups()
    assert abs(float(pi) - 3.14159) < 5 * float(error) and float(error) <= 0.004 and int(batches) < 20


def test_file_targets(run, tmp_path):
    run("file_targets.py", "files")
    (tmp_path / "files" / "part-3").unlink()
    (tmp_path / "files" / "total").unlink()
    assert run("file_targets.py", "files") == ["1 parts were missing; the total is 1225"]
    assert run("file_targets.py", "files") == ["0 parts were missing; the total is 1225"]
