"""What calls of executors and delayed functions are in the processes that do them. These import this file, so it
imports little."""

import importlib
import mmap
import os
import pickle
import sys

from .child import Input, load_object, resolve

# Set-ups that this process has been through: why each failed here, if it did.
_done = {}
# The global variables of the main program that each of them has set.
_set = {}


class BrokenCall(Exception):
    """A call, or what it gave, cannot be read where it was sent to."""


class BrokenSetup(Exception):
    """The initializer of an executor failed in this process."""


class Setup:
    """What a process does once before it does calls of an executor."""

    def __init__(self, token, initializer):
        self.token, self.initializer = token, initializer

    def __reduce__(self):
        return Setup, (self.token, self.initializer)

    def ensure(self):
        why = _done.get(self.token, self)
        if why is self:
            why = _done[self.token] = self._do()
        if why is not None:
            raise BrokenSetup(why)

    def _do(self):
        if self.initializer is None:
            return None
        try:
            function, arguments = pickle.loads(self.initializer)
            names = own_globals(function)
            before = dict(names)
            function(*arguments)
            _set[self.token] = {name: names[name] for name in names if names[name] is not before.get(name, before)}
        except BaseException:
            import traceback

            return traceback.format_exc()
        return None

    def furnish(self, function):
        """What the initializer has set is set for a function of the same program, which came without it."""
        names = _set.get(self.token)
        if names:
            own_globals(function).update(names)


def own_globals(function):
    """The global variables that a function of the main program brought with it; none of functions of modules, which
    have those of their module."""
    while True:
        inner = getattr(function, "__func__", None) or getattr(function, "func", None)
        if not callable(inner):
            break
        function = inner
    names = getattr(function, "__globals__", None)
    is_own = type(names) is dict and names.get("__name__") == "__main__" and names is not sys.modules["__main__"].__dict__
    return names if is_own else {}


class Call:
    """A function of an executor's calls. Each is given as the pickle of its arguments, and the outputs in them."""

    def __init__(self, function, setup):
        self._pickled, self._setup = function, setup
        self._function = None

    def __reduce__(self):
        return Call, (self._pickled, self._setup)

    def __call__(self, arguments, *inputs):
        self._setup.ensure()
        try:
            if self._pickled is not None:
                self._function = pickle.loads(self._pickled)
                self._setup.furnish(self._function)
                self._pickled = None
            args, kwargs = pickle.loads(arguments)
        except BaseException as error:
            raise BrokenCall(f"the call cannot be read where it should be done: {in_a_line(error)}") from error
        if inputs:
            args = [resolve(arg, inputs) for arg in args]
            kwargs = {name: resolve(arg, inputs) for name, arg in kwargs.items()}
        result = self._function(*args, **kwargs)
        # Nothing else may keep what was only there for the call.
        del args, kwargs, arguments, inputs
        return result if type(result) in PLAIN else Output(result)


# Outputs that need no pickle.
PLAIN = frozenset((type(None), bool, int, float, str, bytes))


class Output:
    """The output of a call, pickled within its task: what goes wrong with that is an exception of the task."""

    def __init__(self, value):
        self._buffers = []
        try:
            self._pickled = pickle.dumps(value, 5, buffer_callback=self._buffers.append)
        except Exception as error:
            from .child import pickling

            self._buffers.clear()
            try:
                self._pickled = pickling.dumps(value, self._buffers.append)
            except ImportError:
                raise error from None
        # By this it is known where to leave it.
        self.nbytes = len(self._pickled) + sum(buffer.raw().nbytes for buffer in self._buffers)

    def __reduce_ex__(self, _):
        return load, (self._pickled, *self._buffers)


def load(pickled, *buffers):
    return pickle.loads(pickled, buffers=buffers)


def in_a_line(error):
    return f"{type(error).__name__}: {error}"


class Chunk:
    """A function that is called for several elements in one call."""

    def __init__(self, function):
        # As `functools.partial` calls it.
        self.func = function

    def __call__(self, elements):
        return [self.func(*element) for element in elements]


def same(value):
    return value


def call(function, /, *args, **kwargs):
    return function(*args, **kwargs)


def call_method(owner, name, /, *args, **kwargs):
    return getattr(owner, name)(*args, **kwargs)


class Invocation:
    """A function and its arguments, in which the outputs of other tasks may stand anywhere."""

    def __init__(self, function, args, kwargs, options=None):
        self.function, self.args, self.kwargs, self.options = function, args, kwargs, options

    def __call__(self, *inputs):
        args = [build(arg, inputs) for arg in self.args]
        kwargs = {name: build(arg, inputs) for name, arg in self.kwargs.items()}
        return self.function(*args, **kwargs)

    def __reduce__(self):
        return Invocation, (self.function, self.args, self.kwargs, self.options)


class Build:
    """Stands for what a function makes of parts in which there are outputs of other tasks."""

    __slots__ = ("make", "parts")

    def __init__(self, make, parts):
        self.make, self.parts = make, parts

    def __reduce__(self):
        return Build, (self.make, self.parts)


def build(argument, inputs):
    """An argument with outputs in their places."""
    kind = type(argument)
    if kind in PLAIN:
        return argument
    if kind is Build:
        return argument.make(*[build(part, inputs) for part in argument.parts])
    if kind in (list, tuple, set, frozenset):
        return kind(build(item, inputs) for item in argument)
    if kind is dict:
        return {name: build(item, inputs) for name, item in argument.items()}
    return inputs[argument.place] if kind is Input else argument


class Undelayed:
    """Stands for the function under a delayed one, by the name of that one."""

    def __init__(self, module, path):
        self.module, self.path = module, path

    def __reduce__(self):
        return undelayed, (self.module, self.path)


def undelayed(module, path):
    found = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found._value


def make_dict(*pairs):
    return dict(pairs)


class MakeDataclass:
    """Makes a dataclass of the values of these fields."""

    def __init__(self, kind, names):
        self.kind, self.names = kind, names

    def __call__(self, *values):
        return self.kind(**dict(zip(self.names, values)))

    def __reduce__(self):
        return MakeDataclass, (self.kind, self.names)


def set_variables(variables):
    os.environ.update(variables)


def load_mapped(path):
    """An object in a memory file. What is written to it is only seen here."""
    memory = os.open(path, os.O_RDONLY)
    try:
        body = memoryview(mmap.mmap(memory, 0, access=mmap.ACCESS_COPY))
    finally:
        os.close(memory)
    return load_object(body)
