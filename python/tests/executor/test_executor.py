"""What `dagmar.Executor` does beyond what CPython's tests ask, which `conformance.py` runs."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, wait
from concurrent.futures.process import BrokenProcessPool

import pytest

import dagmar

if sys.version_info < (3, 9):
    pytest.skip("Python 3.9 or later is needed", allow_module_level=True)


@pytest.fixture
def executor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with dagmar.Executor(2) as executor:
        yield executor


def run_script(text, tmp_path, seconds=60):
    return subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=seconds)


def kill_oneself(number):
    os.kill(os.getpid(), number)


def crash_with(data):
    kill_oneself(signal.SIGSEGV)


def double(value):
    return 2 * value


class Refusing:
    def __reduce__(self):
        raise KeyError("not me")


def test_many_small_calls(executor):
    assert list(executor.map(double, range(3000))) == [2 * value for value in range(3000)]
    assert list(executor.map(double, range(3000), chunksize=100)) == [2 * value for value in range(3000)]


@pytest.mark.parametrize("function, argument", [(os._exit, 3), (kill_oneself, signal.SIGKILL), (kill_oneself, 11)])
def test_a_crash_fails_its_own_call_only(executor, function, argument):
    before = [executor.submit(double, value) for value in range(20)]
    crash = executor.submit(function, argument)
    after = [executor.submit(double, value) for value in range(20)]
    with pytest.raises(BrokenProcessPool):
        crash.result(30)
    assert [future.result(30) for future in before + after] == [2 * value for value in range(20)] * 2
    assert executor.submit(double, 4).result(30) == 8


def test_crashes_with_large_arguments(executor):
    """What CPython's `test_crash_big_data` asks."""
    futures = [executor.submit(crash_with, b"x" * (1 << 20)) for _ in range(10)]
    for future in futures:
        with pytest.raises(BrokenProcessPool):
            future.result(60)


def test_what_cannot_be_pickled_fails_alone(executor):
    good, bad = executor.submit(double, 1), executor.submit(double, Refusing())
    function = executor.submit(Refusing().__reduce__)
    with pytest.raises(KeyError):
        bad.result(30)
    assert function.exception(30) is not None
    assert good.result(30) == 2
    assert executor.submit(double, 2).result(30) == 4


def test_an_exception_tells_where_it_was_raised(executor):
    error = executor.submit(int, "x").exception(30)
    assert type(error) is ValueError
    assert "Traceback" in str(error.__cause__)


def test_outputs_of_the_client_are_arguments(executor):
    future = executor._client.submit(double, 21)
    assert executor.submit(double, future).result(30) == 84
    assert executor.submit(sum, [future, future]).result(30) == 84
    assert executor.submit(pow, 2, exp=executor._client.submit(double, 2)).result(30) == 16
    with dagmar.Client(1, 1) as other:
        with pytest.raises(ValueError, match="another client"):
            executor.submit(double, other.submit(double, 1)).result(30)


def test_a_failed_output_as_an_argument(executor):
    bad = executor._client.submit(int, "x")
    with pytest.raises(ValueError):
        executor.submit(double, bad).result(30)


def test_what_waits_can_be_cancelled(executor):
    futures = [executor.submit(time.sleep, 0.2) for _ in range(20)]
    time.sleep(0.1)
    assert futures[-1].cancel()
    assert not futures[0].cancel()
    with pytest.raises(CancelledError):
        futures[-1].result(30)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)


def test_a_shutdown_right_after_a_cancel(tmp_path, monkeypatch):
    """What CPython's `test_hang_gh94440` asks."""
    monkeypatch.chdir(tmp_path)
    executor = dagmar.Executor(1)
    executor.submit(int).result(30)
    executor.submit(int).cancel()
    executor.shutdown(wait=False)
    executor._sender._thread.join(30)
    assert not executor._sender._thread.is_alive()


def test_a_lost_run_fails_what_is_pending(executor):
    futures = [executor.submit(time.sleep, 60) for _ in range(20)]
    time.sleep(0.3)
    executor._client._runtime.process.kill()
    for future in futures:
        assert isinstance(future.exception(30), BrokenExecutor)
    with pytest.raises(BrokenExecutor):
        while True:
            executor.submit(double, 1).result(30)


def test_workers_are_terminated_at_once(executor):
    futures = [executor.submit(time.sleep, 60) for _ in range(5)]
    time.sleep(0.3)
    begun = time.monotonic()
    executor.terminate_workers()
    assert time.monotonic() - begun < 20
    assert all(future.done() for future in futures)


def test_a_client_that_was_given_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with dagmar.Client(1, 2) as client:
        for _ in range(2):
            with dagmar.Executor(client=client) as executor:
                futures = [executor.submit(double, value) for value in range(50)]
            assert [future.result(0) for future in futures] == [2 * value for value in range(50)]
        assert client.submit(double, 3).result(30) == 6


# What a script does that is started by a run of four slots. Programs that it starts are no clients of that.
GIVEN = """if True:
    import dagmar, os, subprocess, sys, time
    def begin_and_end(_):
        begin = time.monotonic()
        time.sleep(0.05)
        return begin, time.monotonic(), os.getpid()
    with dagmar.Executor(2) as few, dagmar.Executor(9) as many:
        assert (few._max_workers, many._max_workers) == (2, 4)
        times = list(few.map(begin_and_end, range(12)))
        assert max(sum(b <= begin < e for b, e, _ in times) for begin, _, _ in times) == 2
        assert len({process for _, _, process in many.map(begin_and_end, range(24))}) == 4, "all slots have some"
        text = "import dagmar; e = dagmar.Executor(1); print(e._client._runtime.is_local, e.submit(abs, -3).result())"
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.returncode) == ("True 3\\n", 0), done
    print("done")
    """


def test_an_executor_of_a_script_that_a_run_started_is_of_that_run(tmp_path):
    (tmp_path / "script.py").write_text(GIVEN)
    command = [os.environ.get("DAGMAR", "dagmar"), "run", "--quiet", "--workers", "2", "--cpus", "2", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_executor_that_nobody_has_ends_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    executor = dagmar.Executor(1)
    thread, process = executor._sender._thread, executor._client._runtime.process
    future = executor.submit(time.sleep, 0.3)
    del executor
    assert future.result(30) is None
    thread.join(30)
    assert process.poll() is not None


def test_a_callback_may_end_the_executor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    executor, over = dagmar.Executor(1), threading.Event()
    executor.submit(double, 1).add_done_callback(lambda _: (executor.shutdown(), over.set()))
    assert over.wait(30)
    executor._sender._thread.join(30)
    assert not executor._sender._thread.is_alive()


def test_calls_of_a_callback(executor):
    results = []
    executor.submit(double, 1).add_done_callback(
        lambda first: executor.submit(double, first.result()).add_done_callback(lambda second: results.append(second))
    )
    while not results:
        time.sleep(0.01)
    assert results[0].result(0) == 4


def test_asyncio(executor):
    async def go():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, double, value) for value in range(10)))

    assert asyncio.run(go()) == [2 * value for value in range(10)]


def test_the_output_of_a_large_array(executor):
    numpy = pytest.importorskip("numpy")
    array = executor.submit(numpy.ones, (1000, 1000)).result(30)
    assert array.sum() == 1e6
    array[0, 0] = 5


INITIALIZED = """if True:
    import dagmar, functools
    model, calls = None, 0
    def set_up(value):
        global model
        model = value
    def value():
        return model
    def use(x, factor=1):
        return value() * factor + x
    with dagmar.Executor(2, initializer=set_up, initargs=(10,)) as executor:
        print(list(executor.map(use, range(3))), list(executor.map(use, range(3), chunksize=2)),
              executor.submit(functools.partial(use, factor=2), 1).result(), model, calls)
"""


def test_what_an_initializer_sets_is_there_for_functions_of_the_main_program(tmp_path):
    done = run_script(INITIALIZED, tmp_path)
    assert (done.stdout, done.stderr) == ("[10, 11, 12] [10, 11, 12] 21 None 0\n", ""), done


def test_printing_goes_where_the_script_prints(tmp_path):
    done = run_script("import dagmar; dagmar.Executor(1).submit(print, 'apple')", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "apple\n", "")


def test_the_interpreter_ends_with_a_lost_run(tmp_path):
    text = "import dagmar, time; e = dagmar.Executor(1); e.submit(time.sleep, 60); e._client._runtime.process.kill()"
    assert run_script(text, tmp_path).returncode == 0


def test_a_forked_process_may_end(tmp_path):
    text = """if True:
        import dagmar, os, sys
        e = dagmar.Executor(1)
        assert e.submit(abs, -1).result() == 1
        child = os.fork()
        if child == 0:
            try:
                e.submit(abs, -1)
            except RuntimeError:
                sys.exit(7)
            sys.exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert e.submit(abs, -2).result() == 2
        """
    done = run_script(text, tmp_path)
    assert done.returncode == 0, done.stderr


def test_large_arguments(executor):
    data = b"x" * (8 << 20)
    futures = [executor.submit(len, data) for _ in range(8)]
    wait(futures, 60)
    assert [future.result(0) for future in futures] == [8 << 20] * 8
