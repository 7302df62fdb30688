"""`concurrent.futures` by way of dagmar."""

import concurrent.futures
import functools
import itertools
import logging
import os
import pickle
import threading
import time
import uuid
import weakref
from collections import deque
from concurrent.futures import InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from queue import Empty, SimpleQueue

from . import calls
from .child import Input, pickle_any, pickle_apart
from .client import BLOCK_CALLS, Client, Inputs, futures_in
from .connection import State, Submission
from .failure import Killed, TaskFailed
from .local import is_given

# A block of calls is full at this size: each process gets the whole of it.
BLOCK_BYTES = 256 * 1024
# Calls that are sent together at most.
BATCH_CALLS = 4096
# Calls are sent ahead for about so long. What is sent counts as running, and cannot be cancelled any more.
AHEAD_S = 0.1
# There, a piece in so many is missing before more is sent.
PIECES = 4
# How fast calls end is judged anew at least this often.
JUDGE_S = 0.2
# Words that are heard in one go.
WORDS_MAX = 1000
# Outputs are released within this time, unless something else is said before.
FLUSH_S = 0.2

CLOSE, CANCEL, BREAK, WAKE = (object() for _ in range(4))

# Of all executors of this process.
_senders = weakref.WeakSet()
_is_exiting = False


class Broken(TaskFailed, BrokenProcessPool):
    """The process of a call ended before the call did, or what was sent cannot be read at the other end."""


class Executor(concurrent.futures.Executor):
    """Does calls in processes of a run: one of its own on this machine, a client's, or the one that this script was
    started by, of which it keeps at most `max_workers` slots busy.

    A call that kills its process fails alone. What is printed goes where this process prints, if the run is its own.
    """

    def __init__(self, max_workers=None, *, client=None, initializer=None, initargs=()):
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None:
            if not callable(initializer):
                raise TypeError("initializer must be a callable")
            initializer = pickle_any((initializer, tuple(initargs)))
        self._is_own = client is None
        if client is None:
            threads = None if is_given() else max_workers
            client = Client(threads_per_worker=threads, set_as_default=False)
        self._client = client
        self._max_workers = min(max_workers or client.slots, client.slots)
        setup = calls.Setup(uuid.uuid4().hex, initializer)
        most = self._max_workers if self._max_workers < client.slots else None
        self._sender = Sender(client._connection, setup, client.close if self._is_own else None, most)
        # Whoever lets go of an executor has what it was given done all the same.
        weakref.finalize(self, self._sender.abandon).atexit = False

    @property
    def is_local(self):
        """True if calls are done on this machine."""
        return self._client._runtime.is_local

    @property
    def is_usable(self):
        """False once it takes nothing more: it was shut down, or its run is over."""
        return self._sender._refusal is None and self._client._connection.lost is None

    @property
    def _broken(self):
        return self._sender.why_broken

    def submit(self, fn, /, *args, **kwargs):
        future = concurrent.futures.Future()
        self._sender.put(Item(future, fn, args, kwargs))
        return future

    submit.__doc__ = concurrent.futures.Executor.submit.__doc__

    def map(self, fn, *iterables, timeout=None, chunksize=1, **kwargs):
        """What `map` gives, of calls that are done side by side; so many elements in one call as `chunksize` says."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **kwargs)
        chunks = super().map(calls.Chunk(fn), in_chunks(zip(*iterables), chunksize), timeout=timeout, **kwargs)
        return one_by_one(chunks)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._sender.close(cancel_futures)
        if wait:
            self._sender.join()

    shutdown.__doc__ = concurrent.futures.Executor.shutdown.__doc__

    def terminate_workers(self):
        """Ends the executor's own run at once: what is not done fails."""
        if not (self._is_own and self.is_local):
            raise RuntimeError("the run is not the executor's own")
        self._sender.close(cancel_futures=True)
        self._client._runtime.process.terminate()
        self._sender.join()

    kill_workers = terminate_workers


class Item:
    """A call, and the future of its output."""

    __slots__ = ("function", "args", "kwargs", "state", "_held")

    def __init__(self, future, function, args, kwargs):
        self.function, self.args, self.kwargs = function, args, kwargs
        # Once it was sent.
        self.state = None
        self._held = [future]

    @property
    def future(self):
        return self._held[0]

    def take_future(self):
        """Its future, which nothing here keeps any longer; none if somebody else has taken it."""
        try:
            return self._held.pop()
        except IndexError:
            return None


class Sender:
    """A thread that sends calls: what has gathered goes together.

    Others only put words into its queue, which may be done anywhere, by the garbage collector too. Futures get
    their outputs from the thread that listens.
    """

    def __init__(self, connection, setup, finish, most=None):
        self.why_broken = None
        self._connection, self._setup, self._finish = connection, setup, finish
        # So many calls run at once at most, and none is sent ahead.
        self._most = most
        self._told = SimpleQueue()
        self._putting = threading.RLock()
        # An exception that whoever wants to submit something gets.
        self._refusal = None
        self._waiting = deque()
        # What was sent and has not ended.
        self._running = {}
        # The states of calls that have ended, and how few must run for the sender to be told so.
        self._ended = deque()
        self._wake_at = -1
        self._is_closing = self._has_released = False
        self._pace = None
        self._thread = threading.Thread(target=self._run, name="dagmar-executor")
        _senders.add(self)
        self._thread.start()

    # ------------------------------------------------------------ from any thread

    def put(self, item):
        with self._putting:
            if self._refusal is not None:
                kind, why = self._refusal
                raise kind(why)
            if _is_exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            self._told.put(item)

    def close(self, cancel_futures=False):
        """Takes nothing more; what was taken is done, or cancelled as far as it can be."""
        with self._putting:
            if self._refusal is None:
                self._refusal = RuntimeError, "cannot schedule new futures after shutdown"
            if cancel_futures:
                self._told.put(CANCEL)
            self._told.put(CLOSE)

    def abandon(self):
        """Nobody is there any more who could put something."""
        self._told.put(CLOSE)

    def join(self):
        # A future's callback may end its executor: it runs in the thread that would be waited for.
        if threading.current_thread() not in (self._thread, self._connection._listener):
            self._thread.join()

    def disown(self):
        """In a forked process, which has neither the threads nor a connection of its own."""
        self._refusal = RuntimeError, "the executor belongs to the process that this one was forked from"
        self._putting = threading.RLock()

    # ------------------------------------------------------------ the thread that sends

    def _run(self):
        try:
            self._pace = Pace(self._connection.slots, self._most)
            while not (self._is_closing and not self._waiting and not self._running):
                self._hear()
                self._send()
        except BaseException as error:
            self._break(error)
        finally:
            self._end()

    def _hear(self):
        """Takes in what has gathered; waits if that is nothing."""
        self._wake_at = self._threshold()
        if not (self._ended and len(self._running) <= self._wake_at):
            try:
                word = self._told.get(timeout=FLUSH_S if self._ended or self._running or self._has_released else None)
                for _ in range(WORDS_MAX):
                    self._take(word)
                    # It is not kept while something else is waited for.
                    word = None
                    word = self._told.get_nowait()
                self._take(word)
            except Empty:
                pass
        self._release_ended()

    def _threshold(self):
        """The number of running calls at which there is something to do."""
        if self._waiting:
            ahead = self._pace.ahead()
            return ahead - max(1, ahead // PIECES)
        return 0 if self._is_closing else -1

    def _take(self, word):
        if word is CLOSE:
            self._is_closing = True
        elif word is CANCEL:
            # What there was room for when it came runs.
            self._send()
            self._cancel_waiting()
        elif word is BREAK:
            self._break(BrokenProcessPool(self.why_broken))
        elif word is not WAKE:
            self._waiting.append(word)

    def _release_ended(self):
        if not self._ended:
            if self._has_released and not self._waiting:
                self._has_released = False
                self._connection.flush()
            return
        while self._ended:
            self._connection.release(self._ended.popleft())
            self._pace.count()
        self._has_released = True

    def _send(self):
        while self._waiting:
            ahead, running = self._pace.ahead(), len(self._running)
            room = min(ahead - running, BATCH_CALLS)
            # What is sent one by one costs most.
            if room <= 0 or (room < len(self._waiting) and running > ahead - max(1, ahead // PIECES)):
                return
            batch = Batch(self._setup)
            while self._waiting and room > 0:
                item = self._waiting.popleft()
                if item.future.set_running_or_notify_cancel() and self._add(batch, item):
                    room -= 1
            item = None
            if batch.items:
                self._submit(batch)

    def _add(self, batch, item):
        function, args, kwargs = item.function, item.args, item.kwargs
        item.function = item.args = item.kwargs = None
        try:
            batch.add(item, function, args, kwargs, self._connection)
        except BaseException as error:
            fail(item.take_future(), error)
            return False
        return True

    def _submit(self, batch):
        submission = batch.finish()
        if not self._running:
            self._pace.begin()
        for item in batch.items:
            self._running[item] = None
            item.state.on_end = item.state.on_value = functools.partial(self._hear_of, item)
        try:
            self._connection.submit(submission, range(len(batch.items)))
        except BaseException as error:
            for item in batch.items:
                future = item.take_future()
                if future is not None:
                    fail(future, error)
                self._running.pop(item, None)
            if self._connection.lost is not None:
                self._break(self._connection.lost)

    def _cancel_waiting(self):
        while self._waiting:
            future = self._waiting.popleft().future
            if future.cancel():
                future.set_running_or_notify_cancel()

    def _break(self, error):
        """Nothing can be done any more."""
        kind = BrokenProcessPool if isinstance(error, concurrent.futures.BrokenExecutor) else RuntimeError
        with self._putting:
            self.why_broken = self.why_broken or str(error)
            self._refusal = kind, self.why_broken
        while self._waiting:
            future = self._waiting.popleft().take_future()
            if future.set_running_or_notify_cancel():
                fail(future, error)

    def _end(self):
        with self._putting:
            if self._refusal is None:
                self._refusal = RuntimeError, "the executor is gone"
        try:
            while True:
                word = self._told.get_nowait()
                if isinstance(word, Item):
                    self._take(word)
        except Empty:
            pass
        if self._waiting:
            self._break(BrokenProcessPool(self.why_broken or "the executor is gone"))
        try:
            self._release_ended()
            self._connection.flush()
            if self._finish is not None:
                self._finish()
        except (OSError, concurrent.futures.BrokenExecutor):
            # The run is gone already.
            pass

    # ------------------------------------------------------------ the thread that listens

    def _hear_of(self, item):
        state = item.state
        if state.error is None and state.value is None:
            # It has finished; its output is on the way.
            return
        future = item.take_future()
        if future is None:
            return
        state.on_end = state.on_value = None
        if type(state.error) is calls.BrokenSetup and self.why_broken is None:
            logging.getLogger("concurrent.futures").critical("Exception in initializer:\n%s", state.error)
            why = "the initializer failed, so this executor cannot be used"
            with self._putting:
                # Whoever sees that it is broken is refused from then on.
                self._refusal, self.why_broken = (BrokenProcessPool, why), why
            self._told.put(BREAK)
        held = [future]
        # Whoever gets the output may look who else has it.
        del future
        settle(held.pop(), state)
        state.value = None
        self._ended.append(state)
        self._running.pop(item, None)
        if len(self._running) <= self._wake_at:
            self._wake_at = -1
            self._told.put(WAKE)


class Pace:
    """How many calls are sent ahead: as many as end within some time, and one besides those that run; no more than
    `most`, if that is a number."""

    def __init__(self, slots, most=None):
        self._slots, self._most = slots, most
        self._ahead = slots + 1
        self._ended = self._since = 0

    def begin(self):
        """The first call is sent after a pause."""
        self._ended, self._since = 0, time.monotonic()

    def count(self):
        self._ended += 1

    def ahead(self):
        taken = time.monotonic() - self._since
        if 2 * self._ended >= self._ahead or taken > JUDGE_S:
            self._ahead = self._slots + 1 + int(self._ended / max(taken, 1e-6) * AHEAD_S)
            self.begin()
        return self._ahead if self._most is None else min(self._ahead, self._most)


class Batch:
    """Calls that are sent together, in blocks. The function of many calls is pickled once for each block."""

    def __init__(self, setup):
        self.items = []
        self._submission = Submission()
        self._option = self._submission.options_number({})
        self._setup = setup
        # By their addresses, with the functions themselves, so that nothing else comes to lie there.
        self._pickled = {}
        self._begin_block()

    def _begin_block(self):
        self._functions, self._calls, self._bytes = {}, [], 0

    def add(self, item, function, args, kwargs, connection):
        known = self._pickled.get(id(function))
        if known is None:
            name = getattr(function, "__name__", type(function).__name__)
            pickled = pickle.dumps(calls.Call(pickle_any(function), self._setup), 5)
            known = self._pickled[id(function)] = function, pickled, self._submission.name_number(str(name))
        _, pickled, name = known
        arguments, inputs, numbers = pickle_arguments(args, kwargs, connection)
        which, _ = self._functions.setdefault(id(function), (len(self._functions), pickled))
        call = pickle.dumps((which, (arguments, *inputs), {}), 5)
        item.state = State()
        block = len(self._submission.blocks)
        self._submission.add(name, block, len(self._calls), self._option, numbers, item.state)
        self.items.append(item)
        self._calls.append(call)
        self._bytes += len(call)
        if len(self._calls) >= BLOCK_CALLS or self._bytes >= BLOCK_BYTES:
            self._end_block()

    def _end_block(self):
        functions = [pickled for _, pickled in self._functions.values()]
        self._submission.add_block(pickle_apart(functions, self._calls))
        self._begin_block()

    def finish(self):
        if self._calls:
            self._end_block()
        self._pickled.clear()
        return self._submission


def pickle_arguments(args, kwargs, connection):
    """The pickle of arguments, what stands for the outputs among them, and the numbers of those."""
    try:
        return pickle_any((args, kwargs)), (), ()
    except BaseException:
        # A future cannot be pickled. That there is one is so rare that it is only looked for now.
        futures = list(futures_in((args, kwargs)))
        if not futures:
            raise
    if any(future._client._connection is not connection for future in futures):
        raise ValueError("a future of another client is among the arguments")
    inputs = Inputs()
    args = [inputs.replace(arg) for arg in args]
    kwargs = {name: inputs.replace(arg) for name, arg in kwargs.items()}
    numbers = inputs.numbers
    return pickle_any((args, kwargs)), map(Input, range(len(numbers))), numbers


def settle(future, state):
    """Gives a future what a task has ended with."""
    error = state.error
    if error is None:
        try:
            future.set_result(state.load())
        except InvalidStateError:
            pass
        except BaseException as why:
            error = Broken(f"the output cannot be read here: {calls.in_a_line(why)}")
            error.__cause__ = why
    elif isinstance(error, (Killed, calls.BrokenCall, calls.BrokenSetup)):
        cause, error = error.__cause__, Broken(str(error))
        error.__cause__ = cause
    if error is not None:
        fail(future, error)


def fail(future, error):
    try:
        future.set_exception(error)
    except InvalidStateError:
        # It has ended otherwise.
        pass


def in_chunks(elements, size):
    while chunk := list(itertools.islice(elements, size)):
        yield chunk


def one_by_one(chunks):
    """The elements of lists, none of which is kept once it was given."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


def _finish_all():
    """At the end of the interpreter: what was submitted is done before."""
    global _is_exiting
    _is_exiting = True
    senders = list(_senders)
    for sender in senders:
        sender.close()
    for sender in senders:
        sender.join()


def _disown_all():
    for sender in _senders:
        sender.disown()


threading._register_atexit(_finish_all)
os.register_at_fork(after_in_child=_disown_all)
