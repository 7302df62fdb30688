"""Delayed calls as tasks of a run: what is needed is sent at once."""

import os

from . import calls, graphs
from .child import pickle_any, pickle_apart
from .client import Client, Future, default_client, get, pickle_callable, to_graph
from .connection import State, Submission
from .delaying import NO_OPTIONS, Delayed, Foreign, Held, Value, delayed_name, is_collection, name_of

# A block of calls is full at this size: each process gets the whole of it.
BLOCK_BYTES = 256 * 1024
# Dask's names for: here, one after the other.
HERE = ("sync", "synchronous", "single-threaded")


def compute(*things, client=None, scheduler=None, traverse=True, optimize_graph=True, **kwargs):
    """The outputs of delayed objects and of Dask collections, in a tuple: all is one submission.

    They may stand in lists, tuples, sets and dicts, unless `traverse` is False; all else is given back as it is.
    What a task raised is raised here. `client`, or `scheduler`, is who does it: by default the newest client, which is
    made if there is none. `scheduler="sync"` does it in this process, as is done within a task. Further keyword
    arguments are Dask's, and only for its collections.
    """
    found, things = take_apart(things, traverse)
    wanted = list(found.values())
    if not wanted:
        return things
    client = find_client(client, scheduler)
    order = needed(wanted)
    if not has_foreign(order):
        refuse_all(kwargs)
        values = compute_here(wanted, order) if client is None else compute_there(client, wanted, order)
    elif is_dasks(wanted):
        import dask

        collections = [task._collection for task in wanted]
        values = dask.compute(*collections, traverse=False, optimize_graph=optimize_graph,
                              scheduler=client or "sync", **kwargs)
    else:
        graph, keys = joint_graph(wanted, order, optimize_graph)
        values = client.get(graph, keys, **kwargs) if client is not None else get_here(graph, keys)
    values = dict(zip(found, values))
    return put_together(things, lambda task: values[id(task)])


def persist(*things, client=None, scheduler=None, traverse=True, optimize_graph=True, **kwargs):
    """Delayed objects and Dask collections like these, in a tuple, whose outputs are being made and stay where they
    are. For the arguments see `compute`; what a task raises is raised by `compute` of what depends on it."""
    found, things = take_apart(things, traverse)
    wanted = list(found.values())
    if not wanted:
        return things
    client = find_client(client, scheduler)
    order = needed(wanted)
    if has_foreign(order):
        import dask

        objects = [task._collection if type(task) is Foreign else task for task in wanted]
        if client is None:
            held = dask.persist(*objects, traverse=False, scheduler="sync", optimize_graph=optimize_graph, **kwargs)
        else:
            held = client.persist(objects, optimize_graph, **kwargs)
    else:
        refuse_all(kwargs)
        if client is None:
            held = [Value(value, task.key, nout=task._nout) for value, task in zip(compute_here(wanted, order), wanted)]
        else:
            held = persist_there(client, wanted, order)
    held = dict(zip(found, held))
    return put_together(things, lambda task: held[id(task)])


def find_client(client, scheduler):
    """Who computes; None if that is done here."""
    if scheduler in HERE if isinstance(scheduler, str) else "DAGMAR_KEY" in os.environ:
        return None
    if client is None and scheduler is not get:
        client = getattr(scheduler, "__self__", scheduler)
    if client is None:
        return default_client()
    if not isinstance(client, Client):
        raise ValueError(f"delayed calls cannot be computed by {client!r}: name a client of dagmar, or 'sync'")
    return client


def has_foreign(order):
    """True if there are Dask's collections among these tasks."""
    return any(isinstance(task, Foreign) for task in order)


def is_dasks(wanted):
    """True for what Dask alone can compute at once."""
    if not all(isinstance(task, Foreign) for task in wanted):
        return False
    return len(by_kind([task._collection for task in wanted])) == 1


def are_own(things):
    """True for delayed objects for which Dask is not needed."""
    return all(isinstance(thing, Delayed) for thing in things) and not has_foreign(needed(things))


def refuse_all(kwargs):
    for name in kwargs:
        raise TypeError(f"there is no keyword argument `{name}` for delayed functions, only for Dask's collections")


# ---------------------------------------------------------------- what is given


def take_apart(things, traverse):
    """What there is to compute, by its identity, and the things with Dask's collections as delayed objects."""
    found, foreign = {}, {}

    def take(thing):
        if isinstance(thing, Delayed):
            found[id(thing)] = thing
        elif isinstance(thing, Future):
            thing = Held(thing)
            found[id(thing)] = thing
        elif is_collection(thing):
            thing = foreign.setdefault(id(thing), Foreign(thing))
            found[id(thing)] = thing
        elif traverse:
            kind = type(thing)
            if kind in (list, tuple, set, frozenset):
                return kind(map(take, thing))
            if kind is dict:
                return {take(name): take(value) for name, value in thing.items()}
        return thing

    things = tuple(map(take, things))
    return found, things


def put_together(thing, value_of):
    if isinstance(thing, Delayed):
        return value_of(thing)
    kind = type(thing)
    if kind in (list, tuple, set, frozenset):
        return kind(put_together(item, value_of) for item in thing)
    if kind is dict:
        return {put_together(name, value_of): put_together(value, value_of) for name, value in thing.items()}
    return thing


def needed(wanted):
    """All tasks that these need, and they themselves, each once, in no order that whoever does them may rely on."""
    order, seen, due = [], set(), list(reversed(wanted))
    while due:
        task = due.pop()
        if id(task) not in seen:
            seen.add(id(task))
            order.append(task)
            due.extend(reversed(task._inputs))
    return order


# ---------------------------------------------------------------- by a client


def compute_there(client, wanted, order):
    plan = Plan(client, wanted, order)
    submission = plan.submission
    fetched = [place for place, state in enumerate(submission.states) if state is not None]
    client._connection.submit(submission, fetched)
    try:
        states = list({id(state): state for state in map(plan.state, wanted) if state is not None}.values())
        loaded = dict(zip(map(id, states), client._values(states)))
        return [task._value if type(task) is Value else loaded[id(plan.state(task))] for task in wanted]
    finally:
        client._let_go(plan)


def persist_there(client, wanted, order):
    plan = Plan(client, wanted, order, stays=True)
    client._connection.submit(plan.submission)
    futures = {}

    def hold(task):
        if type(task) is Held:
            return task
        state = plan.state(task)
        future = futures.get(id(state))
        if future is None:
            future = futures[id(state)] = client._persisted[task.key] = Future(client, state, task.key)
        return Held(future, task.key, task._nout)

    return list(map(hold, wanted))


class Plan:
    """Delayed calls as a submission. If what comes of it `stays`, values are tasks too."""

    def __init__(self, client, wanted, order, stays=False):
        self.submission = Submission()
        # The states of what is wanted, by place.
        self.states = {}
        self._client = client
        # Where each task is in the submission, or what stands for a future.
        self._places = {}
        self._option_numbers, self._known = {}, {}
        self._begin_block()
        known = set() if stays else {id(task) for task in wanted if type(task) is Value}
        sent = self._lay_out(order, known)
        held = {self._places[id(task)] for task in wanted if id(task) in self._places and id(task) not in known}
        self._block_tasks = max(1, min(graphs.BLOCK_TASKS, len(sent) // (4 * client.slots)))
        for place, task in enumerate(sent):
            if place in held:
                self.states[place] = State()
            self._add(task, self.states.get(place))
        if self._pickled:
            self._end_block()

    def _lay_out(self, order, known):
        """The tasks to send, those of one key once. Values that are only asked for are `known` here."""
        taken = {id(source) for task in order for source in task._inputs} if known else set()
        sent, named, places = [], {}, self._places
        for task in order:
            if type(task) is Held:
                if task._future._client._connection is not self._client._connection:
                    raise ValueError(f"`{task.key}` is held by another client")
                places[id(task)] = -1 - task._future._state.number
                continue
            if id(task) in known and id(task) not in taken:
                continue
            place = named.setdefault(name_of(task), len(sent))
            places[id(task)] = place
            if place == len(sent):
                sent.append(task)
        return sent

    def _add(self, task, state):
        functions = self._functions
        number = functions.get(id(task._function))
        if number is None:
            number = len(functions)
            functions[id(task._function)] = number
            self._pickled_functions.append(self._pickle_function(task._function))
        pickled = pickle_any((number, task._args, task._kwargs))
        options = self._option_numbers.get(id(task._options))
        submission, places = self.submission, self._places
        if options is None:
            options = self._option_numbers[id(task._options)] = submission.options_number(task._options)
        name = submission.name_number(task._name)
        inputs = [places[id(source)] for source in task._inputs]
        submission.add(name, len(submission.blocks), len(self._pickled), options, inputs, state)
        self._pickled.append(pickled)
        self._bytes += len(pickled)
        if len(self._pickled) >= self._block_tasks or self._bytes >= BLOCK_BYTES:
            self._end_block()

    def _pickle_function(self, function):
        """The pickle of a function, made once for all blocks: until the next graph what it refers to may change."""
        known = self._known.get(id(function))
        if known is None:
            known = self._known[id(function)] = pickle_function(function)
        return known

    def _end_block(self):
        self.submission.add_block(pickle_apart(self._pickled_functions, self._pickled))
        self._begin_block()

    def _begin_block(self):
        self._functions, self._pickled_functions, self._pickled, self._bytes = {}, [], [], 0

    def state(self, task):
        """That of a task that was wanted; None of a value that is known here."""
        if type(task) is Held:
            return task._future._state
        return self.states.get(self._places.get(id(task)))


def pickle_function(function):
    """The pickle of a function, which may have become a delayed one."""
    name = delayed_name(function)
    if name is not None:
        return pickle_any(calls.Undelayed(*name))
    return pickle_callable(function)


# ---------------------------------------------------------------- in this process


def compute_here(wanted, order):
    """The outputs of these, one after the other."""
    values, named = {}, {}
    for task in reversed_by_need(order):
        if type(task) is Held:
            values[id(task)] = task._future.result()
            continue
        if type(task) is Value:
            values[id(task)] = task._value
            continue
        name = name_of(task)
        if name not in named:
            inputs = [values[id(source)] for source in task._inputs]
            value = calls.Invocation(task._function, task._args, task._kwargs)(*inputs)
            if isinstance(value, Delayed):
                # It leaves its output to other calls.
                (value,) = compute(value, scheduler="sync", traverse=False)
            named[name] = value
        values[id(task)] = named[name]
    return [values[id(task)] for task in wanted]


def reversed_by_need(order):
    """These tasks, each behind what it needs."""
    done, due = set(), list(reversed(order))
    while due:
        task = due[-1]
        missing = [source for source in task._inputs if id(source) not in done]
        if missing:
            due.extend(missing)
            continue
        due.pop()
        if id(task) not in done:
            done.add(id(task))
            yield task


def get_here(graph, keys):
    from dask.local import get_sync

    return get_sync(graph, keys)


# ---------------------------------------------------------------- together with Dask's


def joint_graph(wanted, order, optimize_graph):
    """A Dask graph of all, and the keys of what is wanted in it."""
    collections = {id(task._collection): task._collection for task in order if isinstance(task, Foreign)}
    graph, keys = dasks_graph(list(collections.values()), optimize_graph)
    keys = dict(zip(collections, keys))
    for task in order:
        node = node_of(task, keys)
        if node is not None:
            graph[task.key] = node
    return graph, [task.key for task in wanted]


def dasks_graph(collections, optimize_graph):
    """The graph that Dask makes of its collections, and the key of what each of them computes to."""
    if not collections:
        return {}, []
    import dask

    graph, keys = {}, {}

    def take(dsk, found, **_):
        graph.update(to_graph(dsk))
        keys.update(zip(map(id, alike), graphs.flat(found)))
        return [None] * len(alike)

    for alike in by_kind(collections):
        dask.compute(*alike, traverse=False, optimize_graph=optimize_graph, scheduler=take)
    return graph, [keys[id(collection)] for collection in collections]


def by_kind(collections):
    """Lists of those that Dask optimizes together. Of several kinds at once, Dask returns values in another order than
    that of the collections (2026.8)."""
    from dask._expr import Expr

    kinds = {}
    for collection in collections:
        is_expression = isinstance(getattr(collection, "expr", None), Expr)
        kinds.setdefault("expression" if is_expression else type(collection), []).append(collection)
    return list(kinds.values())


def node_of(task, keys_of_collections):
    """A task as a node of a Dask graph; None if it stands there already."""
    from dask._task_spec import Alias, DataNode, Task, TaskRef

    if type(task) is Held:
        return task._future
    if isinstance(task, Foreign):
        target = keys_of_collections[id(task._collection)]
        return None if target == task.key else Alias(task.key, target)
    if type(task) is Value:
        return DataNode(task.key, task._value)
    options = None if task._options is NO_OPTIONS else task._options
    invocation = calls.Invocation(task._function, task._args, task._kwargs, options)
    return Task(task.key, invocation, *(TaskRef(source.key) for source in task._inputs))


def dask_graph(task):
    """The graph of a delayed object as Dask wants to have it."""
    from dask.highlevelgraph import HighLevelGraph

    graph, _ = joint_graph([task], needed([task]), optimize_graph=True)
    return HighLevelGraph.from_collections(task.key, graph, dependencies=())
