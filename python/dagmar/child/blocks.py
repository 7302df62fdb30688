"""Calls that a client pickles many at a time, on both sides: how a block is made, and how its calls are called."""

import json
import os
import pickle
import struct
import sys

from .subgraph import evaluate
from .values import pickle_any

# How the calls of a block are pickled: all as one list, or each by itself with the functions before them.
TOGETHER, APART = range(2)


class Block:
    """Calls that a client pickled together, unpickled when they are needed."""

    # What the last client said of where it is, and the directory in that.
    surroundings = directory = None

    def __init__(self, body):
        self.kind, length = struct.unpack_from("<BI", body)
        surroundings = bytes(body[5:5 + length])
        if surroundings != Block.surroundings:
            Block.surroundings = surroundings
            Block.directory, *places = json.loads(surroundings)
            # Modules are looked for where the client would, after everything else.
            sys.path.extend(place for place in places if place not in sys.path)
        self.directory = Block.directory
        self.body = body[5 + length:]
        self.calls = None
        self.functions = {}

    def call(self, place, inputs):
        if self.directory is not None:
            try:
                os.chdir(self.directory)
            except OSError:
                # It may be of another host, as a notebook's is.
                pass
        if self.kind == TOGETHER:
            if self.calls is None:
                self.calls = pickle.loads(self.body)
            return self.calls[place](inputs)
        count, _ = head = struct.unpack_from("<II", self.body)
        number, args, kwargs = pickle.loads(self.piece(head, count + place))
        function = self.functions.get(number)
        if function is None:
            function = self.functions[number] = pickle.loads(self.piece(head, number))
        if inputs:
            args = [resolve(arg, inputs) for arg in args]
            kwargs = {name: resolve(arg, inputs) for name, arg in kwargs.items()}
        return function(*args, **kwargs)

    def piece(self, head, place):
        """The n-th of the pickles: the functions come before the calls."""
        start, end = struct.unpack_from("<QQ", self.body, 8 + 8 * place)
        base = 8 + 8 * (sum(head) + 1)
        return self.body[base + start:base + end]


class Input:
    """Stands among the arguments of a pickled call for the output of another task."""

    __slots__ = ("place",)

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Input, (self.place,)


class GraphCall:
    """A node of a Dask graph as a call. The names of each input are the keys that the node knows it by."""

    __slots__ = ("node", "names", "constants")

    def __init__(self, node, names, constants):
        self.node, self.names, self.constants = node, names, constants

    def __call__(self, inputs):
        values = dict(self.constants)
        for names, value in zip(self.names, inputs):
            for name in names:
                values[name] = value
        return evaluate(self.node, values)

    def __reduce__(self):
        return GraphCall, (self.node, self.names, self.constants)


def constant(value):
    """What gives a value whatever it is called with."""
    return lambda _: value


def pickle_together(calls):
    """A block of calls that share what they have in common."""
    return block_head(TOGETHER) + pickle_any(calls)


def pickle_apart(functions, calls):
    """A block of calls that were pickled each by itself: the pickles of functions, and of `(which, args, kwargs)`."""
    pieces = [*functions, *calls]
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    head = struct.pack(f"<II{len(ends)}Q", len(functions), len(calls), *ends)
    return b"".join((block_head(APART), head, *pieces))


def block_head(kind):
    """What every block begins with: how its calls are pickled, where whoever pickled them works, and finds modules."""
    try:
        directory = os.getcwd()
    except OSError:
        # It was removed.
        directory = None
    places = [place if os.path.isabs(place) else os.path.join(directory or "/", place) for place in sys.path]
    surroundings = json.dumps([directory, *map(os.path.normpath, places)]).encode()
    return struct.pack("<BI", kind, len(surroundings)) + surroundings


def resolve(argument, inputs):
    """An argument with outputs in their places. Those stand by themselves, or in lists, tuples and dicts."""
    kind = type(argument)
    if kind is Input:
        return inputs[argument.place]
    if kind in (list, tuple, set, frozenset):
        return kind(resolve(item, inputs) for item in argument)
    if kind is dict:
        return {name: resolve(item, inputs) for name, item in argument.items()}
    return argument
