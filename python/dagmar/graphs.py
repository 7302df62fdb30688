"""Dask's graphs as tasks."""

from .calls import Invocation
from .child import GraphCall, pickle_any, pickle_together
from .connection import State, Submission

# Tasks that are pickled together at most.
BLOCK_TASKS = 256
# Values that stand in a graph go along with the tasks that take them up to this size.
INLINE_BYTES = 4096
# What puts the pieces of a result together is done where the result is wanted.
FINAL = "finalize"


class Plan:
    """What must be done for some keys of a graph. If what comes of it `stays`, nothing of it is made here."""

    def __init__(self, graph, keys, persisted, slots, holds_all=False, stays=False):
        from dask._task_spec import Alias, DataNode

        self.graph = graph
        self._persisted = persisted
        # The futures of earlier graphs that this one needs, by the keys that Dask knows them by.
        self.earlier = {}
        self._kinds = Alias, DataNode
        self._targets = {}
        self.submission = Submission()
        # The state of each key that is wanted, or from which one is made here; of all tasks if all are held.
        self.states = {}
        # The keys that are made here, of others.
        self.final = {}
        self.values = {}
        self._slots = slots
        self._holds_all, self._stays = holds_all, stays
        self._lay_out(list(keys))

    def _lay_out(self, keys):
        _, data = self._kinds
        wanted = []
        for key in keys:
            target = self.target(key)
            node = self.graph.get(target)
            is_final = node is not None and name_of(target).startswith(FINAL) and not isinstance(node, data)
            if is_final and not self._stays:
                self.final[target] = node
                wanted.extend(map(self.target, node.dependencies))
            else:
                wanted.append(target)
        self._wanted = set(wanted)
        order, inputs = self._needed(wanted)
        self._pickle(order, inputs)

    def target(self, key):
        """What a key stands for."""
        alias, _ = self._kinds
        found = self._targets.get(key)
        if found is None:
            found = key
            node = self.graph.get(found)
            while type(node) is alias and node.target != found:
                found = node.target
                node = self.graph.get(found)
            self._targets[key] = found
        return found

    def _needed(self, wanted):
        """The tasks to do, and what each of them takes."""
        _, data = self._kinds
        order, inputs, seen, due = [], {}, set(), list(dict.fromkeys(wanted))
        while due:
            key = due.pop()
            if key in seen:
                continue
            seen.add(key)
            node = self.graph.get(key)
            if node is None or self._stays:
                future = self._persisted.get(key)
                if future is not None and (node is None or future.status in ("pending", "finished")):
                    self.earlier[key] = future
                    continue
            if node is None:
                raise KeyError(f"the graph has no key {key!r}")
            if isinstance(node, data):
                self.values[key] = node.value
                continue
            takes = [(name, self.target(name)) for name in node.dependencies]
            inputs[key] = takes
            order.append(key)
            due.extend(target for _, target in takes if target not in seen)
        return order, inputs

    def _pickle(self, order, inputs):
        submission = self.submission
        own = {key: place for place, key in enumerate(order)}
        no_options = submission.options_number({})
        # Values that are large, or are wanted, are tasks by themselves.
        tasks = [(key, self.graph[key], inputs[key]) for key in order]
        used = {target for takes in inputs.values() for _, target in takes if target in self.values}
        inline = {key for key in used if is_small(self.values[key])}
        apart = used - inline
        if self._stays:
            apart |= self._wanted & self.values.keys()
        for key in apart:
            own[key] = len(tasks)
            tasks.append((key, Constant(self.values[key]), []))
        size = max(1, min(BLOCK_TASKS, len(tasks) // (4 * self._slots) or 1))
        for start in range(0, len(tasks), size):
            calls = []
            block = len(submission.blocks)
            for place, (key, node, takes) in enumerate(tasks[start:start + size]):
                names, places, constants = [], [], {}
                by_place = {}
                for name, target in takes:
                    if target in inline:
                        constants[name] = self.values[target]
                        continue
                    source = own.get(target)
                    if source is None:
                        source = -1 - self.earlier[target]._state.number
                    if source in by_place:
                        # Two names of one output.
                        names[by_place[source]] = (*names[by_place[source]], name)
                        continue
                    by_place[source] = len(names)
                    names.append((name,))
                    places.append(source)
                calls.append(GraphCall(node, names, constants))
                state = None
                if self._holds_all or (key in self._wanted and (self._stays or key not in self.values)):
                    state = self.states[key] = State()
                options = options_of(node)
                options = submission.options_number(options) if options else no_options
                submission.add(submission.name_number(name_of(key)), block, place, options, places, state)
            submission.add_block(pickle_together(calls))

    def places(self):
        """Where in the submission the tasks are whose outputs are held."""
        return [place for place, state in enumerate(self.submission.states) if state is not None]

    def result(self, keys, load):
        """The values of nested lists of keys. `load` gives those of states."""
        states = {key: state for key, state in self.states.items() if key in self._wanted}
        states.update((key, future._state) for key, future in self.earlier.items() if key in self._wanted)
        values = dict(zip(states, load(list(states.values()))))
        values.update(self.values)
        return nested(keys, lambda key: self._value(key, values))

    def _value(self, key, values):
        target = self.target(key)
        node = self.final.get(target)
        if node is not None:
            return node({name: values[self.target(name)] for name in node.dependencies})
        return values[target]


def options_of(node):
    """Those of a delayed call that stands in a Dask graph."""
    function = getattr(node, "func", None)
    return function.options if type(function) is Invocation else None


class Constant:
    """A value that stands in a graph, as a task."""

    def __init__(self, value):
        self.value = value

    def __call__(self, _):
        return self.value

    def __reduce__(self):
        from .child import constant

        return constant, (self.value,)


def is_small(value):
    if value is None or isinstance(value, (bool, int, float, complex)):
        return True
    if isinstance(value, (str, bytes)):
        return len(value) <= INLINE_BYTES
    from dask.sizeof import sizeof

    try:
        return sizeof(value) <= INLINE_BYTES
    except Exception:
        return False


def name_of(key):
    """What a key is called among others like it."""
    while isinstance(key, tuple) and key:
        key = key[0]
    return key if isinstance(key, str) else repr(key)


def flat(keys):
    """All keys in nested lists of them."""
    if isinstance(keys, list):
        for key in keys:
            yield from flat(key)
    else:
        yield keys


def nested(keys, value_of):
    """The values of nested lists of keys, nested likewise."""
    if isinstance(keys, list):
        return tuple(nested(key, value_of) for key in keys)
    return value_of(keys)
