"""Tasks that submit tasks: functions that return delayed calls."""

import operator
import os
import subprocess

import pytest

import dagmar
from dagmar import delayed


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("runs"))
    with dagmar.Client(2, threads_per_worker=1) as client:
        yield client
    os.chdir(before)


@delayed
def fibonacci(n):
    return n if n < 2 else delayed(operator.add)(fibonacci(n - 1), fibonacci(n - 2))


def halves(path, values):
    with open(path, "a") as file:
        file.write("called\n")
    middle = len(values) // 2
    return delayed(sum)(values) if middle == 0 else delayed(sum)([halves_of(path, values[:middle]), sum(values[middle:])])


halves_of = delayed(halves)


def test_a_task_becomes_what_it_returns(client):
    assert fibonacci(10).compute(client=client) == 55
    assert client.submit(lambda: fibonacci(7)).result() == 13
    assert client.submit(abs, client.submit(lambda: fibonacci(6))).result() == 8


def test_without_a_run_it_is_the_same():
    assert fibonacci(10).compute(scheduler="sync") == 55


def test_a_value_is_that(client):
    assert client.submit(lambda: delayed([1, 2])).result() == [1, 2]
    assert client.submit(lambda: delayed([delayed(abs)(-1), 2])).result() == [1, 2]


def test_its_options_are_those_of_the_calls(client, tmp_path):
    cores = delayed(lambda: len(os.sched_getaffinity(0)) > 0, cpus=1, retries=1)
    assert client.submit(lambda: delayed(all)([cores(), cores()])).result() is True
    with pytest.raises(dagmar.TaskFailed, match="asks for more than any worker has"):
        client.submit(lambda: delayed(abs, cpus=10_000)(1)).result()


def test_much_is_submitted_at_once(client):
    many = 2000
    assert client.submit(lambda: delayed(sum)([delayed(abs)(-n) for n in range(many)])).result() == sum(range(many))
    large = b"x" * 300_000
    assert client.submit(lambda: delayed(len)(delayed(operator.add)(large, large))).result() == 600_000


def test_it_is_called_once(client, tmp_path):
    path = str(tmp_path / "calls")
    assert halves_of(path, list(range(64))).compute(client=client) == sum(range(64))
    assert len(open(path).readlines()) == 7


def test_what_fails_there_is_raised(client):
    with pytest.raises(ZeroDivisionError):
        client.submit(lambda: delayed(operator.add)(1, delayed(operator.truediv)(1, 0))).result()


def test_a_function_of_a_graph_file_does_so_too(tmp_path):
    (tmp_path / "work.py").write_text(
        "from dagmar import delayed\n"
        "def squares(n):\n    return delayed(sum)([delayed(square)(i) for i in range(n)])\n"
        "def square(i):\n    return i * i\n")
    (tmp_path / "graph.toml").write_text(
        "[tasks.squares]\npython = 'work.py:squares'\nargs = [10]\n"
        "[tasks.more]\ncall = 'add'\nargs = ['@squares', 1]\n")
    done = subprocess.run([os.environ.get("DAGMAR", "dagmar"), "run", "graph.toml", "more"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "286"), done.stderr
