"""Waiting for several futures of a client."""

import sys
import time
from collections import namedtuple
from queue import Empty, SimpleQueue

from .client import futures_in

FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED = "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"

DoneAndNotDone = namedtuple("DoneAndNotDone", "done not_done")

# Columns of a bar, and how often it is drawn anew.
BAR_COLUMNS = 40
DRAW_EVERY_S = 0.1


def as_completed(futures, timeout=None, with_results=False):
    """Futures as they end, each once; together with their outputs on demand. One that failed then raises."""
    left = set(futures_in(futures))
    told = tell_ends(left)
    total, until = len(left), ends_at(timeout)
    # Nothing here keeps a future that was given.
    while left:
        try:
            future = told.get(timeout=left_until(until))
        except Empty:
            raise TimeoutError(f"{len(left)} (of {total}) futures have not ended") from None
        if future not in left:
            # It said so twice.
            continue
        left.remove(future)
        given = [(future, future.result()) if with_results else future]
        del future
        yield given.pop()


def wait(futures, timeout=None, return_when=ALL_COMPLETED):
    """The futures that have ended, and the others, once all have, or the first, or the first that failed."""
    if return_when not in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
        raise ValueError(f"there is no way to wait named {return_when!r}")
    left = set(futures_in(futures))
    done = {future for future in left if future.done()}
    left -= done
    told, until = tell_ends(left), ends_at(timeout)
    while left and not is_enough(done, return_when):
        try:
            future = told.get(timeout=left_until(until))
        except Empty:
            break
        if future in left:
            left.remove(future)
            done.add(future)
    return DoneAndNotDone(done, left)


def is_enough(done, return_when):
    if return_when == FIRST_COMPLETED:
        return bool(done)
    return return_when == FIRST_EXCEPTION and any(future.status == "error" for future in done)


def progress(futures, file=None):
    """Shows how many futures have ended until all have. It returns them as they were given."""
    file = sys.stderr if file is None else file
    all_futures = list(dict.fromkeys(futures_in(futures)))
    bar = Bar(len(all_futures), file)
    try:
        for future in as_completed(all_futures):
            bar.count(future.status)
    finally:
        bar.end()
    return futures


class Bar:
    """A line that is drawn over and over on a terminal, and once elsewhere."""

    def __init__(self, total, file):
        self._total, self._file = total, file
        self._ended = self._failed = 0
        self._begun = time.monotonic()
        self._is_terminal = file.isatty() if hasattr(file, "isatty") else False
        self._drawn = 0.0

    def count(self, status):
        self._ended += 1
        self._failed += status != "finished"
        now = time.monotonic()
        if self._is_terminal and now - self._drawn >= DRAW_EVERY_S:
            self._drawn = now
            self._draw("\r", "")

    def end(self):
        self._draw("\r" if self._is_terminal else "", "\n")

    def _draw(self, before, after):
        full = BAR_COLUMNS * self._ended // max(self._total, 1)
        failed = f", {self._failed} failed" if self._failed else ""
        taken = time.monotonic() - self._begun
        bar = "#" * full + " " * (BAR_COLUMNS - full)
        self._file.write(f"{before}[{bar}] {self._ended} of {self._total}{failed}, {taken:.1f} s{after}")
        self._file.flush()


def tell_ends(futures):
    """A queue of futures as they end."""
    told = SimpleQueue()
    for future in futures:
        future.add_done_callback(told.put)
    return told


def ends_at(timeout):
    return None if timeout is None else time.monotonic() + timeout


def left_until(until):
    return None if until is None else max(0.0, until - time.monotonic())
