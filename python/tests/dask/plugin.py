"""A pytest plugin that has Dask's own tests go through one scheduler, whatever scheduler they name.

`python -m pytest -p plugin --dask-scheduler=dagmar --dask-report=report.jsonl <tests>`. The report has a line for
each test: its id, its outcome, how often it went through the scheduler, and its time.
"""

import json
import signal
import threading
import time

import pytest

# Where a test names a scheduler: as a text, or as a function of one of these modules.
NAMES = {
    "sync": ("sync", "synchronous", "single-threaded"),
    "threads": ("threads", "threading"),
    "processes": ("processes", "multiprocessing"),
}


WAY = pytest.StashKey()


class Way:
    """The scheduler that is put to the test, and how often it was called."""

    def __init__(self, get):
        self._get = get
        self.calls = 0

    def named(self, name):
        """A function that stands for the scheduler of this name. Tests tell them apart."""

        def get(dsk, keys, **kwargs):
            self.calls += 1
            return self._get(dsk, keys, **kwargs)

        get.__name__ = get.__qualname__ = name
        return get


def through_dagmar():
    """Ours, with one run for all tests. It is where pytest is: tests remove the directories that they are in."""
    import os

    import dagmar

    home = os.getcwd()

    # Not `dagmar.get` itself, which has `dask.persist` leave outputs where they are: tests look for values.
    def get(dsk, keys, **kwargs):
        here = os.getcwd()
        os.chdir(home)
        try:
            client = dagmar.default_client()
        finally:
            os.chdir(here)
        return client.get(dsk, keys, **kwargs)

    return get


def through_processes():
    """Dask's `processes`, with one pool for all tests: otherwise each call would start its own."""
    import multiprocessing
    import os
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
    from functools import partial

    from dask.multiprocessing import get as get_processes
    from dask.multiprocessing import initialize_worker_process

    pools = []
    os.environ.setdefault("PYTHONHASHSEED", "6640")

    def get(dsk, keys, pool=None, initializer=None, **kwargs):
        if pool is not None or initializer is not None:
            return get_processes(dsk, keys, pool=pool, initializer=initializer, **kwargs)
        if not pools:
            context = multiprocessing.get_context("spawn")
            pools.append(ProcessPoolExecutor(os.cpu_count(), context, partial(initialize_worker_process, None)))
        try:
            return get_processes(dsk, keys, pool=pools[0], **kwargs)
        except BrokenExecutor:
            pools.clear()
            raise

    return get


def direct(way):
    """Has every name of a built-in scheduler, and every function of Dask that is one, go this way."""
    import dask.base
    import dask.local
    import dask.multiprocessing
    import dask.threaded
    from dask.delayed import Delayed

    gets = {name: way.named(name) for name in NAMES}
    for name, texts in NAMES.items():
        for text in texts:
            dask.base.named_schedulers[text] = gets[name]
    dask.get = dask.local.get_sync = gets["sync"]
    dask.threaded.get = gets["threads"]
    dask.multiprocessing.get = gets["processes"]
    # This is loaded already; other collections look their default up by its name when they are loaded.
    Delayed.__dask_scheduler__ = staticmethod(gets["threads"])


class Report:
    """Notes what became of each test, at once: a test may take its whole process along."""

    def __init__(self, way, path):
        self._way = way
        self._file = open(path, "a", buffering=1) if path else None
        self._outcome = self._why = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        calls, start = self._way.calls, time.monotonic()
        self._outcome = self._why = None
        result = yield
        if self._file is not None:
            line = {"test": item.nodeid, "outcome": self._outcome, "calls": self._way.calls - calls,
                    "time": round(time.monotonic() - start, 4)}
            if self._why:
                line["why"] = self._why
            self._file.write(json.dumps(line) + "\n")
        return result

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._outcome, self._why = "failed", str(report.longrepr)[-2000:]
        elif self._outcome != "failed" and report.outcome == "skipped":
            self._outcome = "xfailed" if hasattr(report, "wasxfail") else "skipped"
        elif self._outcome is None:
            self._outcome = "passed"


class Limit:
    """Ends a test that takes too long."""

    def __init__(self, seconds):
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        def over(*_):
            raise TimeoutError(f"the test took longer than {self._seconds} s")

        before = signal.signal(signal.SIGALRM, over)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def pytest_addoption(parser):
    group = parser.getgroup("dask")
    group.addoption("--dask-scheduler", choices=("dagmar", "processes", "sync"), default="dagmar")
    group.addoption("--dask-report", help="where a line for each test is written")
    group.addoption("--dask-limit", type=float, default=60, help="seconds that a test may take")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config):
    """Before Dask's own `conftest.py` loads collections, which look their default schedulers up then."""
    import dask.local

    chosen = early_config.known_args_namespace.dask_scheduler
    get = {"dagmar": through_dagmar, "processes": through_processes, "sync": lambda: dask.local.get_sync}[chosen]()
    early_config.stash[WAY] = way = Way(get)
    direct(way)


def pytest_configure(config):
    report = Report(config.stash[WAY], config.getoption("--dask-report"))
    config.pluginmanager.register(report, "dask-report")
    if threading.current_thread() is threading.main_thread():
        config.pluginmanager.register(Limit(config.getoption("--dask-limit")), "dask-limit")
