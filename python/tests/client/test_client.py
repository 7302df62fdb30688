"""The client against a live run on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import dagmar

np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("runs"))
    with dagmar.Client(threads_per_worker=2) as client:
        yield client
    os.chdir(before)


def inc(number):
    return number + 1


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)
    return 1


def raises(why):
    raise ValueError(why)


class Point:
    def __init__(self, x):
        self.x = x


def test_a_call_gives_what_its_function_returns(client):
    assert client.submit(inc, 1).result() == 2
    assert client.submit(lambda: {"a": (1, None, [2.5])}).result() == {"a": (1, None, [2.5])}


def test_futures_stand_for_outputs_wherever_they_are(client):
    one, two = client.map(inc, [0, 1])
    assert client.submit(inc, one).result() == 2
    assert client.submit(lambda first, rest: (first, rest), [one, {"x": two}], rest=(one, one)).result() == (
        [1, {"x": 2}], (1, 1),
    )


def test_data_is_scattered_once_for_all_who_take_it(client):
    table = client.scatter({"a": list(range(1000)), "b": inc})
    assert client.submit(len, table["a"]).result() == 1000
    assert client.gather(client.scatter([1, "two"])) == [1, "two"] and client.scatter([]) == []
    one = client.scatter(np.arange(10))
    assert one.key.startswith("scatter") and client.gather([client.submit(np.sum, one), client.submit(np.max, one)]) == [45, 9]


def test_a_future_is_cancelled_by_itself(client, tmp_path):
    holding = client.submit(wait_for, tmp_path / "go")
    waiting = client.submit(inc, holding)
    waiting.cancel()
    with pytest.raises(dagmar.Cancelled):
        waiting.result(timeout=60)
    assert waiting.cancelled()
    (tmp_path / "go").touch()
    assert holding.result() == 1


def test_many_calls_keep_their_order(client):
    assert client.gather(client.map(inc, range(3000))) == list(range(1, 3001))
    assert client.gather({"a": client.submit(inc, 1), "b": [client.submit(inc, 2)]}) == {"a": 2, "b": [3]}


def test_an_exception_is_raised_as_it_was_raised_there(client):
    failed = client.submit(raises, "no such number")
    with pytest.raises(ValueError, match="no such number") as caught:
        failed.result()
    assert "in raises" in str(caught.value.__cause__)
    after = client.submit(inc, failed)
    with pytest.raises(ValueError, match="no such number"):
        after.result()
    assert isinstance(failed.exception(), ValueError) and failed.status == "error"


def test_what_is_defined_in_the_main_program_is_sent_along(client):
    local = type("Local", (), {"twice": lambda self: 2 * self.x})

    def make(x):
        value = local()
        value.x = x
        return value

    assert client.submit(lambda value: value.twice(), client.submit(make, 4)).result() == 8
    assert client.submit(lambda point: point.x, Point(3)).result() == 3


def test_a_large_array_stays_where_it_was_made(client):
    made = client.submit(np.ones, 20_000_000)
    assert client.submit(lambda array: float(array.sum()), made).result() == 20_000_000.0
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        assert client.submit(lambda array: float(array[-1]), made).result() == 1.0
        times.append(time.perf_counter() - begin)
    # 160 MB cannot be copied in that time.
    assert min(times) < 0.02, times
    assert made.result().nbytes == 160_000_000


def test_what_a_task_does_to_its_input_is_seen_by_nobody_else(client):
    def spoil(array):
        array += 1
        return float(array.sum())

    for length in (100, 100_000):
        zeros = client.submit(np.zeros, length)
        for _ in range(3):
            try:
                assert client.submit(spoil, zeros).result() == length
            except ValueError as error:
                assert "read-only" in str(error)
        assert float(zeros.result().sum()) == 0.0


def test_an_output_that_cannot_leave_its_process_says_so(client):
    def locks():
        return [threading.Lock() for _ in range(5000)]

    made = client.submit(locks)
    with pytest.raises(TypeError, match="pickle"):
        made.result()
    assert client.submit(inc, 1).result() == 2


def test_a_process_that_is_killed_costs_its_call_a_try(client):
    pid = client.submit(os.getpid).result()
    kept = client.submit(np.arange, 100_000)
    kept.exception()

    def die_once(path, array):
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return int(array[7])

    path = os.path.abspath(f"died-{pid}")
    assert client.submit(die_once, path, kept).result(timeout=60) == 7


def test_a_call_that_kills_its_process_each_time_fails(client):
    with pytest.raises(dagmar.TaskFailed, match="signal 11"):
        client.submit(lambda: os.kill(os.getpid(), signal.SIGSEGV)).result(timeout=60)


def template():
    """The process that this one was forked by, if that was forked by another one for the libraries it has imported."""
    with open(f"/proc/{os.getppid()}/stat") as stat:
        above = stat.read().rpartition(")")[2].split()[1]
    with open(f"/proc/{above}/cmdline") as words:
        return os.getppid() if "import json, socket, sys" in words.read() else None


def test_a_process_whose_template_is_gone_is_ended_too(client, tmp_path):
    client.submit(np.ones, 1).result()
    until = time.monotonic() + 60
    while client.submit(template).result(timeout=60) is None:
        assert time.monotonic() < until, "no process is forked by one that has imported numpy"
        with pytest.raises(dagmar.TaskFailed):
            # The next one is forked anew.
            client.submit(os._exit, 3).result(timeout=60)

    def hang(path):
        os.kill(template(), signal.SIGKILL)
        path.write_text(str(os.getpid()))
        time.sleep(600)

    began = time.monotonic()
    with pytest.raises(dagmar.TimedOut):
        client.submit(hang, tmp_path / "pid", timeout=1).result(timeout=60)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.kill(int((tmp_path / "pid").read_text()), 0)
            time.sleep(0.01)


def test_an_output_that_nobody_holds_is_let_go(client):
    futures = client.map(np.ones, [1_000_000] * 4)
    client.gather(client.map(lambda array: None, futures))
    del futures
    assert client.submit(inc, 1).result() == 2


def test_what_asks_for_too_much_is_refused(client):
    with pytest.raises(dagmar.TaskFailed, match="more than any worker has"):
        client.submit(inc, 1, cpus=10_000).result()
    assert client.submit(inc, 1, cpus=2).result() == 2


def test_a_run_that_ends_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = dagmar.Client(threads_per_worker=1)
    slow = client.submit(time.sleep, 600)
    client._runtime.process.send_signal(signal.SIGKILL)
    with pytest.raises(dagmar.Disconnected):
        slow.result(timeout=60)
    with pytest.raises(dagmar.Disconnected):
        client.submit(inc, 1)


def test_a_callback_that_fails_concerns_nobody_else(client, caplog):
    called = []
    slow = client.submit(time.sleep, 0.3)
    slow.add_done_callback(lambda _: 1 / 0)
    slow.add_done_callback(called.append)
    assert slow.result(10) is None and client.submit(abs, -3).result(10) == 3
    assert called == [slow] and "ZeroDivisionError" in caplog.text


def test_calls_work_where_their_client_does(client, tmp_path, monkeypatch):
    before = os.getcwd()
    assert client.submit(os.getcwd).result() == before
    monkeypatch.chdir(tmp_path)
    made = client.submit(os.chdir, "/")
    assert client.gather(client.map(lambda _: os.getcwd(), range(3))) == [str(tmp_path)] * 3 and made.result() is None
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert client.submit(abs, -1).result() == 1


def test_what_distributed_takes_besides_is_left_away_or_refused(client):
    assert client.submit(abs, -1, pure=False).result() == 1
    assert client.gather(client.map(lambda x, pure=None: pure, [1], pure=True)) == [True]
    assert client.gather(client.map(lambda x: x, [1], pure=True)) == [1]
    with pytest.raises(TypeError, match="tasks have no option `workers`"):
        client.submit(abs, -1, workers=["a"])


def test_a_traceback_names_the_file_of_a_function_of_the_main_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import dagmar\ndef boom():\n    raise ValueError\ndagmar.Client(1, 1).submit(boom).result()\n")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and f'File "{program}", line 3, in boom' in done.stderr
