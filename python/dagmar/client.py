"""The client: what a script or a notebook talks to a live run with."""

import atexit
import logging
import operator
import os
import threading
import types
import uuid
import weakref

from . import graphs, watching
from .child import Input, pickle_any, pickle_apart
from .connection import CANCELLED, FAILED, PENDING, State, Submission
from .local import find_runtime
from .options import take_options

# Calls that are pickled into one block at most.
BLOCK_CALLS = 256

# Those that are made, the newest last: whoever names none means that one.
_clients = []
_making = threading.Lock()


class Future:
    """A task that was submitted. Its output stays where it was made until it is asked for."""

    # How Dask knows the outputs of others' tasks in its graphs.
    __dask_future__ = True

    def __init__(self, client, state, key):
        self._client, self._state, self.key = client, state, key
        state.holders += 1
        self._release = weakref.finalize(self, client._connection.release, state)
        self._release.atexit = False

    @property
    def status(self):
        return ("pending", "finished", "error", "cancelled")[self._state.status]

    def done(self):
        return self._state.status != PENDING

    def cancelled(self):
        return self._state.status == CANCELLED

    def result(self, timeout=None):
        """The output, or the exception that there is instead."""
        (value,) = self._client._values([self._state], timeout)
        return value

    def exception(self, timeout=None):
        if not self._client._connection.wait_for([self._state], has_ended, timeout):
            raise TimeoutError(f"`{self.key}` has not ended within {timeout} s")
        if self._state.status == CANCELLED:
            raise self._state.error
        return self._state.error

    def add_done_callback(self, call):
        """Calls this with the future once it has ended, from the thread that listens."""
        state = self._state
        with _making:
            if type(state.on_end) is not Ends:
                state.on_end = Ends(state.on_end)
            ends = state.on_end
        ends.calls.append(lambda: call(self))
        if self.done():
            ends()

    def cancel(self):
        """The task is not done if it has not begun, unless others need it."""
        self._client.cancel([self])

    def release(self):
        """Holds the output no longer."""
        self._release()

    def __await__(self):
        import asyncio

        return asyncio.to_thread(self.result).__await__()

    def __dask_tokenize__(self):
        return "dagmar.Future", self._client._token, self._state.number

    def __repr__(self):
        return f"<Future {self.key}: {self.status}>"

    def __reduce__(self):
        raise TypeError("a future stands for an output of this client's run: only `submit` and `map` take it, by itself or "
                        "in a list, tuple, set or dict")


class Ends:
    """What is called once a task has ended, each just once."""

    __slots__ = ("calls",)

    def __init__(self, before=None):
        self.calls = [before] if before is not None else []

    def __call__(self):
        while self.calls:
            try:
                call = self.calls.pop(0)
            except IndexError:
                return
            try:
                call()
            except Exception:
                logging.getLogger("dagmar").exception("a callback of a future failed")


def pickle_callable(function):
    """The pickle of a function. Raises `TypeError` if it can only be sent by its content, and nothing here can do that."""
    why = None
    try:
        pickled = pickle_any(function)
    except Exception as error:
        why = error
    if (why is not None or getattr(function, "__module__", None) == "__main__") and not has_cloudpickle():
        name = getattr(function, "__qualname__", repr(function))
        text = f"`{name}` has no name in a module, and to send it takes the package `cloudpickle`"
        raise TypeError(text) from why
    if why is not None:
        raise why
    return pickled


def has_cloudpickle():
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        return False
    return True


def has_ended(state):
    return state.status != PENDING


def is_settled(state):
    return state.value is not None or state.status in (FAILED, CANCELLED)


class Client:
    """A live run on this machine, with as many workers as are asked for; usable as a Dask scheduler."""

    # What Dask asks of a client.
    asynchronous = False

    def __init__(self, cluster=None, threads_per_worker=None, name=None, *, n_workers=None, set_as_default=True):
        """A client of a cluster; without one, of a run of its own with so many workers on this machine (`cluster` may
        be their number), each with so many cores. It is whom `dagmar.compute` and others mean from now on, unless
        `set_as_default` is False."""
        if hasattr(cluster, "lend"):
            self._runtime = cluster.lend()
        else:
            self._runtime = find_runtime(n_workers if cluster is None else cluster, threads_per_worker, name)
        self._connection = self._runtime.connection
        self._persisted = weakref.WeakValueDictionary()
        self._pickled = {}
        # Tells its futures from those of others.
        self._token = uuid.uuid4().hex
        self._is_open = True
        # A process that was forked from this one may not end its run.
        self._pid = os.getpid()
        if set_as_default:
            _clients.append(weakref.ref(self))

    def __repr__(self):
        said = "usable" if self.is_usable else "closed"
        return f"<Client of {self._runtime!r}: {said}>"

    @property
    def is_usable(self):
        """False once it was closed, or its run is over, and in a process that was forked from its own."""
        return self._is_open and self._connection.lost is None and self._pid == os.getpid()

    @property
    def slots(self):
        """How many tasks of one core run at once."""
        return self._connection.slots

    # ------------------------------------------------------------ calls

    def submit(self, function, *args, **kwargs):
        """Has a function called; futures among the arguments stand for their outputs.

        Keyword arguments named as options of tasks are those: `cpus`, `gpus`, `memory` (bytes, or `"2GB"`),
        `retries`, `priority`, `resources`, `timeout` and `expected` (seconds, or `"10m"`), `keep`. A function that
        has arguments of these names gets them by `functools.partial`.
        """
        options = take_options(kwargs, function)
        (future,) = self._call(function, [(args, kwargs)], options)
        return future

    def map(self, function, *iterables, **kwargs):
        """Has a function called for each element; a future for each call. Options are as those of `submit`."""
        options = take_options(kwargs, function)
        return self._call(function, [(args, kwargs) for args in zip(*iterables)], options)

    def scatter(self, data, broadcast=False):
        """Sends data to the run, once for all calls that take it: a future for each element of a list, a tuple or a
        set, for each value of a dict (as a dict), else one. An output goes wherever it is taken, so `broadcast`
        changes nothing."""
        if isinstance(data, dict):
            return dict(zip(data, self.scatter(list(data.values()))))
        is_many = isinstance(data, (list, tuple, set, frozenset))
        calls = [(((item,),), {}) for item in (data if is_many else [data])]
        futures = self._call(operator.itemgetter(0), calls, {}, "scatter")
        return type(data)(futures) if is_many else futures[0]

    def _call(self, function, calls, options, name=None):
        submission = Submission()
        name = submission.name_number(name or getattr(function, "__name__", type(function).__name__))
        option = submission.options_number(options)
        function = self._pickle_function(function)
        states = []
        for start in range(0, len(calls), BLOCK_CALLS):
            block, pickled = len(submission.blocks), []
            for place, (args, kwargs) in enumerate(calls[start:start + BLOCK_CALLS]):
                inputs = Inputs()
                args = [inputs.replace(arg) for arg in args]
                if kwargs:
                    kwargs = {key: inputs.replace(arg) for key, arg in kwargs.items()}
                pickled.append(pickle_any((0, args, kwargs)))
                state = State()
                states.append(state)
                submission.add(name, block, place, option, inputs.numbers, state)
            submission.add_block(pickle_apart([function], pickled))
        self._connection.submit(submission)
        text = submission.names[name]
        return [Future(self, state, f"{text}-{state.number}") for state in states]

    def _pickle_function(self, function):
        """The pickle of a function. If that is its name and no more, it is the same each time."""
        if type(function) not in (types.FunctionType, types.BuiltinFunctionType, type):
            return pickle_callable(function)
        known = self._pickled.get(function)
        if known is None:
            known = pickle_callable(function)
            if b"cloudpickle" in known:
                # What it refers to may change until the next call.
                return known
            if len(self._pickled) > 100:
                self._pickled.clear()
            self._pickled[function] = known
        return known

    def gather(self, futures, timeout=None):
        """The outputs of futures, in lists, tuples and dicts as they were given."""
        states = [future._state for future in futures_in(futures)]
        values = dict(zip(map(id, states), self._values(states, timeout)))
        return replace(futures, lambda future: values[id(future._state)])

    def _values(self, states, timeout=None):
        self._connection.fetch(states)
        if not self._connection.wait_for(states, is_settled, timeout):
            raise TimeoutError(f"not all outputs were there within {timeout} s")
        for state in states:
            if state.error is not None:
                raise state.error
        return [state.load() for state in states]

    def cancel(self, futures):
        """Tasks that have not begun are not done, unless others need them."""
        futures = list(futures_in(futures))
        self._connection.cancel([future._state for future in futures])
        for future in futures:
            future.release()
        self._connection.flush()

    # ------------------------------------------------------------ names

    def publish(self, name, future):
        """Has an output found by a name, also by later clients of the run: it stays until the name is taken back."""
        self._connection.name(name, future._state)

    def unpublish(self, name):
        """Takes a name back. The output stays only as long as futures of it do."""
        self._connection.name(name, None)

    def published(self, name=None):
        """The future of what has this name; without one, all names."""
        if name is None:
            return self._connection.names
        try:
            state = self._connection.named(name)
        except KeyError:
            raise KeyError(f"nothing is published as {name!r}; there is {self.published()}") from None
        return Future(self, state, name)

    # ------------------------------------------------------------ Dask

    def get(self, dsk, keys, **kwargs):
        """Computes keys of a Dask graph: a Dask scheduler."""
        if os.environ.get("DAGMAR_KEY"):
            return compute_here(dsk, keys)
        from dask.callbacks import local_callbacks

        graph = to_graph(dsk)
        with local_callbacks(kwargs.get("callbacks")) as callbacks:
            if callbacks:
                return watching.get(self, graph, keys, callbacks)
        plan = graphs.Plan(graph, list(graphs.flat(keys)), self._persisted, self.slots)
        self._connection.submit(plan.submission, plan.places())
        try:
            return plan.result(keys, self._values)
        finally:
            self._let_go(plan)

    def _let_go(self, plan):
        """Holds no outputs of a graph any longer."""
        for state in plan.states.values():
            self._connection.release(state)
        self._connection.flush()

    def persist(self, collections, optimize_graph=True, **kwargs):
        """Has collections computed, with their outputs left where they were made."""
        from . import computing

        is_one = not isinstance(collections, (list, tuple))
        collections = [collections] if is_one else collections
        if computing.are_own(collections):
            held = computing.persist(*collections, client=self, **kwargs)
            return held[0] if is_one else held
        import dask

        def hold(dsk, keys, **_):
            return self._hold(dsk, keys)

        results = dask.persist(
            *collections, traverse=False, optimize_graph=optimize_graph, scheduler=hold, **kwargs
        )
        return results[0] if is_one else results

    def _hold(self, dsk, keys):
        """Futures of keys of a Dask graph. Those that are held already are not computed again."""
        plan = graphs.Plan(to_graph(dsk), list(graphs.flat(keys)), self._persisted, self.slots, stays=True)
        self._connection.submit(plan.submission)
        futures = dict(plan.earlier)

        def future_of(key):
            target = plan.target(key)
            future = futures.get(target)
            if future is None:
                future = futures[target] = self._persisted[target] = Future(self, plan.states[target], target)
            return future

        return graphs.nested(keys, future_of)

    def compute(self, collections, **kwargs):
        """What `dagmar.compute` gives, by this client."""
        from .computing import compute

        is_one = not isinstance(collections, (list, tuple))
        values = compute(*([collections] if is_one else collections), client=self, **kwargs)
        return values[0] if is_one else values

    # ------------------------------------------------------------ life

    def close(self):
        """Ends the run, if it is the client's own: outputs that were not fetched are gone. That of a cluster or of
        `dagmar.attach` goes on."""
        if self._is_open and self._pid == os.getpid():
            self._is_open = False
            self._runtime.close()

    def shutdown(self):
        """Ends the run, whoever began it."""
        if self._is_open and self._pid == os.getpid():
            self._is_open = False
            self._runtime.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Inputs:
    """Replaces futures among the arguments of a call, and notes them."""

    def __init__(self):
        self.numbers = []
        self._places = {}

    def replace(self, argument):
        kind = type(argument)
        if kind is Future:
            number = argument._state.number
            place = self._places.get(number)
            if place is None:
                place = self._places[number] = len(self.numbers)
                self.numbers.append(-1 - number)
            return Input(place)
        if kind in (list, tuple, set, frozenset):
            return kind(map(self.replace, argument))
        if kind is dict:
            return {name: self.replace(item) for name, item in argument.items()}
        return argument


def to_graph(dsk):
    """A Dask graph of nodes, whatever Dask hands over."""
    from dask._task_spec import convert_legacy_graph

    if hasattr(dsk, "__dask_graph__"):
        dsk = dsk.__dask_graph__()
    return convert_legacy_graph(dict(dsk))


def compute_here(dsk, keys):
    """Inside of a task: waiting for others would keep its slot from them."""
    from dask.local import get_sync

    return get_sync(to_graph(dsk), keys)


def futures_in(value):
    if isinstance(value, Future):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from futures_in(item)
    elif isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "__next__"):
        for item in value:
            yield from futures_in(item)


def replace(value, of):
    if isinstance(value, Future):
        return of(value)
    if isinstance(value, dict):
        return {name: replace(item, of) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(replace(item, of) for item in value)
    return value


def default_client():
    """The newest client of this process; if there is none, one is made."""
    with _making:
        while _clients:
            client = _clients[-1]()
            if client is not None and client.is_usable:
                return client
            _clients.pop()
        client = Client()
        atexit.register(client.close)
        return client


def get(dsk, keys, **kwargs):
    """A Dask scheduler: `dask.config.set(scheduler=dagmar.get)`, `x.compute(scheduler=dagmar.get)`."""
    if os.environ.get("DAGMAR_KEY"):
        return compute_here(dsk, keys)
    return default_client().get(dsk, keys, **kwargs)


def persist(collections, **kwargs):
    """`dask.persist` by that scheduler: outputs stay where they were made."""
    if os.environ.get("DAGMAR_KEY"):
        import dask

        return dask.persist(*collections, scheduler="sync", **kwargs)
    return default_client().persist(collections, **kwargs)


# Where Dask looks for it.
get.persist = persist
