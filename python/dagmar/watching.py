"""Dask's callbacks: its progress bar, its profilers, and what users write like them."""

from functools import partial
from queue import SimpleQueue

from . import graphs
from .connection import PENDING

# Who did a task, as callbacks are told.
WORKER = "dagmar"


def get(client, graph, keys, callbacks):
    """Computes keys of a Dask graph as `client.get` does, and tells callbacks what happens meanwhile."""
    wanted = list(graphs.flat(keys))
    watch = Watch(client, needed(graph, wanted), set(wanted), callbacks)
    begun, has_ended = [], False
    try:
        for callback in callbacks:
            start, *_ = callback
            if start:
                start(watch.graph)
            begun.append(callback)
        watch.begin()
        watch.follow()
        result = watch.plan.result(keys, client._values)
        has_ended = True
        return result
    finally:
        watch.end()
        for *_, finish in begun:
            if finish:
                finish(watch.graph, watch.state, not has_ended)


class Watch:
    """The tasks of a graph, in the words of Dask's own schedulers.

    What begins when is not known here: a task counts as begun once all that it takes is there.
    """

    def __init__(self, client, graph, wanted, callbacks):
        from dask.callbacks import unpack_callbacks

        self.graph = graph
        self.state = {}
        self.plan = None
        self._client, self._wanted = client, wanted
        _, self._on_begin, self._on_task_begin, self._on_task_end, _ = unpack_callbacks(callbacks)
        self._told = SimpleQueue()

    def begin(self):
        from dask.local import start_state_from_dask
        from dask.order import order

        client = self._client
        plan = self.plan = graphs.Plan(
            self.graph, list(self._wanted), client._persisted, client.slots, holds_all=True
        )
        earlier = {key: future.result() if self._on_task_end else future for key, future in plan.earlier.items()}
        self._order = order(self.graph).get
        self.state.update(start_state_from_dask(self.graph, earlier, self._order, self._wanted))
        for call in self._on_begin:
            call(self.graph, self.state)
        for key, task in plan.states.items():
            task.on_end = task.on_value = partial(self._told.put, key)
        # Who is told of the end of a task is told its output.
        client._connection.submit(plan.submission, plan.places() if self._on_task_end else ())

    def follow(self):
        """Returns once all tasks have ended, or raises what one of them did."""
        state = self.state
        while True:
            while state["ready"]:
                key = state["ready"].pop()
                state["running"].add(key)
                for call in self._on_task_begin:
                    call(key, self.graph, state)
                self._told.put(key)
            if not state["running"]:
                return
            self._hear(self._told.get())

    def _hear(self, key):
        task = self.plan.states.get(key)
        if task is not None:
            if task.error is not None:
                raise task.error
            if task.status == PENDING or (self._on_task_end and task.value is None):
                return
        if key in self.state["running"]:
            self._end_task(key, task)

    def _end_task(self, key, task):
        from dask.local import finish_task

        state, value = self.state, None
        if self._on_task_end:
            node = self.graph[key]
            value = task.load() if task else node({name: state["cache"][name] for name in node.dependencies})
        state["cache"][key] = value
        finish_task(self.graph, key, state, self._wanted, self._order)
        for call in self._on_task_end:
            call(key, value, self.graph, state, WORKER)

    def end(self):
        if self.plan is not None:
            self._client._let_go(self.plan)


def needed(graph, keys):
    """What these keys need of a graph."""
    found, due = {}, list(keys)
    while due:
        key = due.pop()
        if key not in found and key in graph:
            node = found[key] = graph[key]
            due.extend(node.dependencies)
    return found
