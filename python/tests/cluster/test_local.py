"""Runs on this machine, as clusters."""

import os
import subprocess
import sys

import pytest

import dagmar


@pytest.fixture(autouse=True)
def in_its_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_clients_share_the_run_of_a_cluster():
    with dagmar.LocalCluster(2, 1, memory_limit="1GB", name="shared") as cluster:
        with dagmar.Client(cluster) as client, cluster.get_client() as other:
            one = client.submit(abs, -1)
            assert client.slots == other.slots == 2 and other.submit(abs, one).result() == 1
            assert dagmar.delayed(abs)(-2).compute() == 2
            with pytest.raises(dagmar.TaskFailed, match="more than any worker has"):
                client.submit(abs, -1, memory="2GB").result()
        # A client's end is not the run's.
        assert cluster.get_client().submit(abs, -3).result() == 3
        assert dagmar.Executor(client=cluster.get_client()).is_local
    assert [name.startswith("shared") for name in os.listdir("dagmar-runs")] == [True]


def test_a_cluster_is_scaled_before_its_run_begins():
    with dagmar.LocalCluster(1, 1) as cluster:
        cluster.scale(2)
        assert cluster.get_client().slots == 2 and "n_workers=2" in repr(cluster)
        with pytest.raises(RuntimeError, match="scale before the first client"):
            cluster.scale(3)
        with pytest.raises(NotImplementedError, match="scale before the first client"):
            cluster.adapt(maximum=3)


def test_a_closed_cluster_is_over():
    cluster = dagmar.LocalCluster(1, 1)
    client = cluster.get_client()
    client.shutdown()
    with pytest.raises(dagmar.Disconnected):
        client.submit(abs, -1)
    with pytest.raises(RuntimeError, match="closed"):
        cluster.get_client()
    cluster.close()
    dagmar.LocalCluster().close()


def run_program(text, folder, **options):
    path = folder / "program.py"
    path.write_text(text)
    return subprocess.Popen([sys.executable, str(path)], cwd=folder, text=True, **options)


PRINTING = """
import sys, dagmar
def double(x):
    print("task", x)
    print("to stderr", x, file=sys.stderr, end="")
    return 2 * x
print("begin", flush=True)
with dagmar.Client(1, 2) as client:
    client.gather(client.map(double, range(3)))
with dagmar.Executor(1) as executor:
    list(executor.map(double, range(3, 5)))
print("end")
"""


def test_what_tasks_print_appears_where_the_program_prints(tmp_path):
    with open(tmp_path / "out", "w") as out:
        program = run_program(PRINTING, tmp_path, stdout=out, stderr=subprocess.PIPE)
        errors = program.communicate(timeout=60)[1]
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[0] == "begin" and lines[-1] == "end" and sorted(lines[1:-1]) == [f"task {x}" for x in range(5)]
    assert sorted(errors.split("to stderr ")[1:]) == list("01234")


LEAVING = """
import os, time, dagmar
def wait(path):
    open(path, "w").close()
    time.sleep(100)
def main():
    client = dagmar.Client(1, 2)
    futures = client.map(wait, ["0", "1", "2", "3"])
    while not (os.path.exists("0") and os.path.exists("1")):
        time.sleep(0.01)
    {end}
main()
"""


@pytest.mark.parametrize("end", ["pass", "client.close()", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_what_runs_ends_with_the_program(tmp_path, end):
    program = run_program(LEAVING.format(end=end), tmp_path, stdout=subprocess.PIPE)
    # The run holds the pipe for as long as it lives.
    assert program.communicate(timeout=30)[0] == ""
    assert not (tmp_path / "2").exists()


def test_the_newest_client_is_the_default():
    with dagmar.Client(1, 1) as first:
        assert dagmar.default_client() is first
        with dagmar.Client(n_workers=1, threads_per_worker=1) as second:
            assert dagmar.default_client() is second
        assert dagmar.default_client() is first
        with dagmar.Executor(1):
            assert dagmar.default_client() is first


@pytest.mark.parametrize("options", [{"n_workers": 0}, {"threads_per_worker": "two"}, {"memory_limit": "lots"}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` cannot be"):
        dagmar.LocalCluster(**options)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "tcp://127.0.0.1:8786"])
def test_a_number_of_workers_that_cannot_be_is_refused(workers):
    with pytest.raises(ValueError, match="`n_workers` cannot be"):
        dagmar.Client(workers)
    with pytest.raises(ValueError, match="`threads_per_worker` cannot be"):
        dagmar.Client(1, workers)


def test_a_socket_has_room_in_a_folder_of_a_long_name(tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with dagmar.Client(1, 1) as client:
        assert client.submit(abs, -1).result() == 1
    assert repr(client) == "<Client of a run on this machine: closed>"
