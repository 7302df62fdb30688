"""CPython's own tests of executors, run against `dagmar.Executor` out of the interpreter's package `test`.

Run it with pytest, by itself (`python conformance.py`), or beside rank 0 of a run with five slots or more
(`mpirun -n 3 dagmar run --cpus 3 conformance.py`), which all executors share. CPython has these tests in one file up to 3.11, in a package since
3.12; both will do. Debian's 3.11.2 lacks three that came later (`test_crash_big_data`, `test_hang_gh94440`,
`test_gh105829_...`): ours beside this file and below ask the same.

What reaches into `ProcessPoolExecutor` is answered here, test by test:

- All: `BaseTestCase.setUp` and `tearDown` count threads and processes, which holds for ours as it is. Executors are made
  with `mp_context`, which ours has no use for.
- `test_interpreter_shutdown`, `test_submit_after_interpreter_shutdown`, `test_hang_gh83386`: their scripts import the
  executor from `concurrent.futures`; here from `dagmar`. That they run isolated from `PYTHONPATH` is undone.
- `_fail_on_deadlock`: ends the processes in `_processes`; here the run.
- `test_shutdown_deadlock_pickle`: joins `_executor_manager_thread`; here the thread that sends.
- `test_gh105829_should_not_deadlock_if_wakeup_pipe_full`: holds up the thread and the pipe by which
  `ProcessPoolExecutor` is woken. The test runs as it is, which tells little, and once more with our thread held up
  in the same way.
"""

import os
import sys
import time
import unittest
import unittest.mock
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
if str(PACKAGE) not in sys.path:
    sys.path.insert(0, str(PACKAGE))

try:
    from test import test_concurrent_futures as whole
except ImportError as error:
    why = f"this interpreter comes without CPython's tests of executors: {error}"
    if __name__ == "__main__":
        sys.exit("skipped: " + why)
    raise unittest.SkipTest(why)

if hasattr(whole, "__path__"):
    from test.test_concurrent_futures import executor, test_as_completed, test_deadlock, test_init, test_shutdown
    from test.test_concurrent_futures import test_wait, util
else:
    executor = test_as_completed = test_deadlock = test_init = test_shutdown = test_wait = util = whole

import dagmar
from dagmar.executor import Sender


class Executor(dagmar.Executor):
    """Ours, with what these tests ask of a process pool."""

    def __init__(self, max_workers=None, mp_context=None, **options):
        super().__init__(max_workers, **options)

    @property
    def _executor_manager_thread(self):
        return self._sender._thread


class Mixin(util.ExecutorMixin):
    executor_type = Executor

    def get_context(self):
        return None


class ExecutorTest(Mixin, executor.ExecutorTest, util.BaseTestCase):
    pass


class WaitTest(Mixin, test_wait.WaitTests, util.BaseTestCase):
    pass


class AsCompletedTest(Mixin, test_as_completed.AsCompletedTests, util.BaseTestCase):
    pass


class InitializerTest(Mixin, test_init.InitializerMixin, util.BaseTestCase):
    pass


class FailingInitializerTest(Mixin, test_init.FailingInitializerMixin, util.BaseTestCase):
    pass


class ShutdownTest(Mixin, test_shutdown.ExecutorShutdownTest, util.BaseTestCase):
    def setUp(self):
        super().setUp()
        run = test_shutdown.assert_python_ok
        patched = unittest.mock.patch.object(test_shutdown, "assert_python_ok", lambda *args: run_with_ours(run, *args))
        patched.start()
        self.addCleanup(patched.stop)


def run_with_ours(run, option, script):
    asked = "from concurrent.futures import Executor"
    assert asked in script
    places = [str(PACKAGE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = {name: value for name, value in os.environ.items() if name.startswith("DAGMAR")}
    script = script.replace(asked, "from dagmar import Executor")
    return run(option, script, PYTHONPATH=os.pathsep.join(places), **variables)


class DeadlockTest(Mixin, test_deadlock.ExecutorDeadlockTest, util.BaseTestCase):
    def _fail_on_deadlock(self, executor):
        executor.terminate_workers()
        self.fail("the executor is in a deadlock")

    def test_sender_is_late(self):
        """What `test_gh105829` does, to our own thread."""
        hear = Sender._hear

        def late(sender):
            if sender._pace.is_new:
                sender._pace.is_new = False
                time.sleep(3)
            hear(sender)

        from dagmar.executor import Pace

        with unittest.mock.patch.object(Pace, "is_new", True, create=True), \
                unittest.mock.patch.object(Sender, "_hear", late):
            with self.executor_type(max_workers=2) as executor:
                self.assertEqual(list(executor.map(int, range(100))), list(range(100)))


class ShutdownOfOursTest(Mixin, util.BaseTestCase):
    """What `ProcessPoolShutdownTest` asks of processes, asked of our run, if it is the executor's own."""

    def assert_is_over(self, runtime):
        if runtime.is_local:
            self.assertIsNotNone(runtime.process.poll())

    def test_context_manager_shutdown(self):
        with Executor(5) as executor:
            self.assertEqual(list(executor.map(abs, range(-5, 5))), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])
        self.assert_is_over(executor._client._runtime)

    def test_del_shutdown(self):
        executor = Executor(5)
        results = executor.map(abs, range(-5, 5))
        thread, runtime = executor._sender._thread, executor._client._runtime
        del executor
        util.support.gc_collect()
        thread.join()
        self.assert_is_over(runtime)
        self.assertEqual(list(results), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])

    def test_shutdown_no_wait(self):
        executor = Executor(5)
        results = executor.map(abs, range(-5, 5))
        executor.shutdown(wait=False)
        executor._sender._thread.join()
        self.assert_is_over(executor._client._runtime)
        self.assertEqual(list(results), [5, 4, 3, 2, 1, 0, 1, 2, 3, 4])


def setUpModule():
    set_up = whole.setUpModule if whole is util else util.setup_module
    set_up()


if __name__ == "__main__":
    print("CPython's tests of executors, of", sys.version.split()[0], "from", os.path.dirname(whole.__file__), flush=True)
    # They would print how long each took.
    util.support.verbose = 0
    unittest.main()
