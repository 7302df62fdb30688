"""Functions that are called later: each call is a task of a graph, which grows as calls take each other's outputs.

Nothing here needs Dask. What is made here is a Dask collection all the same, and Dask's may be arguments.
"""

import copy
import dataclasses
import hashlib
import itertools
import operator
import sys
import types
import uuid

from . import calls
from .calls import Input
from .child import pickle_any, size_of
from .client import Future
from .flattening import flattened, restored
from .options import read_options

# Arguments from this size on are tasks of their own, which are sent once however many take them.
LARGE_BYTES = 64 * 1024
# Values that stand for themselves go along with the tasks that take them up to this size.
INLINE_BYTES = 4096

# Tells the tasks of this process from those of others in one graph.
PROCESS = uuid.uuid4().hex[:12]

_numbers = itertools.count()
_given = object()
NO_OPTIONS = {}
# What stands for the first outputs among the arguments of a call: most calls take few.
_inputs = tuple(map(Input, range(8)))


def delayed(obj=_given, name=None, pure=False, nout=None, traverse=True, **options):
    """A function whose calls are done later, or a value as if it were the output of one.

    `@delayed`, `@delayed(nout=2, cpus=4)`, `delayed(function)(x, y)`, `delayed(value)`. Calls give `Delayed` objects,
    which may be arguments of others, also within lists, tuples, sets, iterators over these, dicts, slices, named
    tuples and dataclasses; as may Dask collections. With `traverse=False` no value is searched for them.

    `pure=True`: equal calls of the function are one task. `nout`: how many outputs a call's tuple has, which can
    be unpacked then. `name` is the key of a value. Options of each call: `cpus`, `gpus`, `memory` (bytes, or `"2GB"`),
    `retries`, `priority`, `resources`, `timeout` and `expected` (seconds, or `"10m"`), `keep`. An option that does
    not exist is a `TypeError`, a value that cannot be a `ValueError`.

    A call takes keyword arguments for itself: `dagmar_key_name`, the task's key (tasks of one key are one task), which
    may be written `dask_key_name` as well, and `pure`.
    """
    if nout is not None and (type(nout) is not int or nout < 0):
        raise ValueError(f"nout must be None or a whole number from 0, and it is {nout!r}")
    read = read_options(options) if options else NO_OPTIONS
    if obj is _given:
        return lambda obj: delayed(obj, name, pure, nout, traverse, **options)
    if isinstance(obj, Delayed):
        return obj
    if is_collection(obj):
        return Foreign(obj, name, nout)
    if traverse and not callable(obj):
        arguments = Arguments()
        replaced = arguments.replace(obj)
        if arguments.inputs and not isinstance(replaced, Input):
            call = arguments.of_call(calls.same, (replaced,), {})
            return Delayed(call, type(obj).__name__, name, read, nout)
    return Value(obj, name, pure, nout, traverse, read)


class Delayed:
    """The output of a call that is done once it is asked for by `compute` or `persist`.

    Operators, attributes, methods and indices of it are further calls.
    """

    __slots__ = ("_function", "_args", "_kwargs", "_inputs", "_name", "_key", "_options", "_nout", "_graph",
                 "__weakref__")

    # What stands right of an array is no element of it: numpy leaves operators to the delayed object.
    __array_ufunc__ = None

    def __init__(self, call, name, key=None, options=NO_OPTIONS, nout=None):
        self._function, self._args, self._kwargs, self._inputs = call
        self._name, self._key, self._options, self._nout = name, key, options, nout
        self._graph = None

    @property
    def key(self):
        """Its name, which no other task has."""
        if self._key is None:
            self._key = f"{self._name}-{PROCESS}-{next(_numbers)}"
        return self._key

    def compute(self, **kwargs):
        """The output. For the keyword arguments see `dagmar.compute`; what the task raised is raised here."""
        from .computing import compute

        (value,) = compute(self, traverse=False, **kwargs)
        return value

    def persist(self, **kwargs):
        """Has it computed and returns at once: the output stays where it is made, for further calls."""
        from .computing import persist

        (held,) = persist(self, traverse=False, **kwargs)
        return held

    def visualize(self, filename="dagmar", format=None, **kwargs):
        """Draws the graph of it: see `dagmar.visualize`."""
        from .picture import visualize

        return visualize(self, filename=filename, format=format, traverse=False, **kwargs)

    # ------------------------------------------------------------ what becomes a call

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(f"a delayed object has no attribute `{name}`: private ones are not delayed")
        return Attribute(self, name)

    def __call__(self, /, *args, pure=None, dagmar_key_name=None, dask_key_name=None, **kwargs):
        key = chosen_key(dagmar_key_name, dask_key_name)
        return call_later(calls.call, (self, *args), kwargs, "call", key, pure)

    def __get__(self, instance, _):
        return self if instance is None else types.MethodType(self, instance)

    def __iter__(self):
        if self._nout is None:
            raise TypeError("how many outputs it has is not known before it is computed: say so by `nout`")
        return (self[place] for place in range(self._nout))

    def __len__(self):
        if self._nout is None:
            raise TypeError("how long it is is not known before it is computed")
        return self._nout

    def __bool__(self):
        raise TypeError("whether it is true is not known before it is computed")

    def __setitem__(self, *_):
        raise TypeError("a delayed object cannot be changed")

    def __delitem__(self, _):
        raise TypeError("a delayed object cannot be changed")

    def __hash__(self):
        return id(self) >> 4

    def __dir__(self):
        return dir(type(self))

    def __repr__(self):
        return f"Delayed({self.key!r})"

    def __reduce__(self):
        return restored, (flattened(self),)

    # ------------------------------------------------------------ Dask

    @property
    def dask(self):
        """Its graph, as Dask has them."""
        return self.__dask_graph__()

    def __dask_graph__(self):
        from .computing import dask_graph

        if self._graph is None:
            self._graph = dask_graph(self)
        return self._graph

    def __dask_keys__(self):
        return [self.key]

    def __dask_layers__(self):
        return (self.key,)

    def __dask_tokenize__(self):
        return self.key

    @property
    def __dask_scheduler__(self):
        # That of most collections: Dask computes those together only that agree on one.
        from dask.threaded import get

        return get

    def __dask_optimize__(self, graph, _keys, **_):
        # A method, so that no two have the same: Dask puts those that have together, and mixes up their order.
        return graph

    def __dask_postcompute__(self):
        from dask.delayed import single_key

        return single_key, ()

    def __dask_postpersist__(self):
        return self._rebuild, ()

    def _rebuild(self, graph, *, rename=None):
        key = self.key if rename is None else rename.get(self.key, self.key)
        held = graph[key]
        if isinstance(held, Future):
            return Held(held, key, self._nout)
        from dask.delayed import Delayed as DaskDelayed

        return Foreign(DaskDelayed(key, dict(graph)), key, self._nout)


class Value(Delayed):
    """A value that is known, mostly a function: its calls are tasks."""

    __slots__ = ("_value", "_pure", "_traverse", "_is_small")

    def __init__(self, value, name=None, pure=False, nout=None, traverse=True, options=NO_OPTIONS):
        text = getattr(value, "__name__", None) or type(value).__name__
        if name is None and pure:
            name = f"{text}-{token(value)}"
        super().__init__((calls.same, (value,), {}, ()), text, name, options, nout)
        self._value, self._pure, self._traverse = value, pure, traverse
        self._is_small = None

    def __call__(self, /, *args, pure=None, dagmar_key_name=None, dask_key_name=None, **kwargs):
        arguments = Arguments()
        if self._traverse:
            replace = arguments.replace
            args = tuple([replace(arg) for arg in args])
            if kwargs:
                kwargs = {name: replace(arg) for name, arg in kwargs.items()}
        call = arguments.of_call(self._value, args, kwargs)
        key = chosen_key(dagmar_key_name, dask_key_name)
        if key is None and (self._pure if pure is None else pure):
            key = pure_key(self._name, call)
        return Delayed(call, self._name, key, self._options, self._nout)

    @property
    def __name__(self):
        return self._name

    def is_small(self):
        """True if it goes along with whatever takes it."""
        if self._is_small is None:
            self._is_small = callable(self._value) or size_of(self._value) <= INLINE_BYTES
        return self._is_small


class Attribute(Delayed):
    """An attribute of an output. Calls of it are calls of a method."""

    __slots__ = ("_owner",)

    def __init__(self, owner, name):
        super().__init__(Arguments().of(getattr, (owner, name), {}), name)
        self._owner = owner

    def __call__(self, /, *args, pure=None, dagmar_key_name=None, dask_key_name=None, **kwargs):
        args = (self._owner, self._name, *args)
        key = chosen_key(dagmar_key_name, dask_key_name)
        return call_later(calls.call_method, args, kwargs, self._name, key, pure)


class Held(Delayed):
    """An output that is made, or being made, and stays where it is."""

    __slots__ = ("_future",)

    def __init__(self, future, key=None, nout=None):
        super().__init__((None, (), {}, ()), future.key, key or future.key, nout=nout)
        self._future = future


class Foreign(Delayed):
    """A Dask collection, as what it computes to."""

    __slots__ = ("_collection",)

    def __init__(self, collection, key=None, nout=None):
        super().__init__((None, (), {}, ()), type(collection).__name__, key, nout=nout)
        self._collection = collection


def name_of(source):
    """What tells the task of a delayed object from others: its key, if it has been given one."""
    if source._key is not None:
        return source._key
    # A value is wrapped anew by each call that takes it.
    return ("value", id(source._value)) if type(source) is Value else id(source)


class Arguments:
    """Replaces what other tasks give among the arguments of a call, and notes it."""

    __slots__ = ("inputs", "_places", "_is_deep")

    def __init__(self):
        self.inputs = []
        self._places = None
        self._is_deep = False

    def of(self, function, args, kwargs):
        """A call of a function: what is called, with which arguments, which take what of whom."""
        args = tuple(map(self.replace, args))
        return self.of_call(function, args, {name: self.replace(arg) for name, arg in kwargs.items()})

    def of_call(self, function, args, kwargs):
        """A call with arguments that this has replaced."""
        inputs = self.inputs
        if self._is_deep:
            args = (calls.Invocation(function, args, kwargs), *map(Input, range(len(inputs))))
            return calls.call, args, {}, inputs
        return function, args, kwargs, inputs

    def replace(self, argument):
        kind = type(argument)
        if kind in calls.PLAIN:
            is_large = (kind is str or kind is bytes) and len(argument) >= LARGE_BYTES
            return self._take(Value(argument)) if is_large else argument
        if issubclass(kind, Delayed):
            return argument._value if kind is Value and argument.is_small() else self._take(argument)
        known = REPLACERS.get(kind)
        return known(self, argument) if known is not None else self._replace_object(argument)

    def _take(self, source):
        places, inputs = self._places, self.inputs
        if places is None:
            places = self._places = {}
        name = name_of(source)
        place = places.get(name)
        if place is None:
            place = places[name] = len(inputs)
            inputs.append(source)
        return _inputs[place] if place < len(_inputs) else Input(place)

    def _replace_items(self, items):
        replaced = list(map(self.replace, items))
        # Most hold no outputs, and are left as they are.
        return type(items)(replaced) if any(map(operator.is_not, replaced, items)) else items

    def _replace_iterator(self, items):
        # A copy is gone through, as the caller may still want to.
        return self._rebuilt(items, iter, (list(copy.copy(items)),))

    def _replace_set(self, items):
        before = list(items)
        replaced = self._replace_items(before)
        return items if replaced is before else type(items)(replaced)

    def _replace_dict(self, items):
        names, values = list(items), list(items.values())
        new_names, new_values = self._replace_items(names), self._replace_items(values)
        if new_names is not names:
            self._is_deep = True
            return calls.Build(calls.make_dict, tuple(zip(new_names, new_values)))
        return items if new_values is values else dict(zip(names, new_values))

    def _replace_slice(self, argument):
        return self._rebuilt(argument, slice, (argument.start, argument.stop, argument.step))

    def _replace_object(self, argument):
        kind = type(argument)
        if is_collection(argument):
            return self._take(Foreign(argument))
        if kind is not type and dataclasses.is_dataclass(kind):
            return self._replace_dataclass(argument)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._rebuilt(argument, kind, tuple(argument))
        return self._take(Value(argument)) if not callable(argument) and size_of(argument) >= LARGE_BYTES else argument

    def _replace_dataclass(self, argument):
        fields = [field for field in dataclasses.fields(argument) if hasattr(argument, field.name)]
        names = tuple(field.name for field in fields)
        rebuilt = self._rebuilt(
            argument, calls.MakeDataclass(type(argument), names), tuple(getattr(argument, name) for name in names)
        )
        if rebuilt is not argument and not all(field.init for field in fields):
            name = type(argument).__name__
            raise ValueError(f"no `{name}` can be made of outputs: it has fields with init=False")
        return rebuilt

    def _rebuilt(self, argument, make, parts):
        replaced = self._replace_items(parts)
        if replaced is parts:
            return argument
        self._is_deep = True
        return calls.Build(make, replaced)


REPLACERS = {
    list: Arguments._replace_items,
    tuple: Arguments._replace_items,
    set: Arguments._replace_set,
    frozenset: Arguments._replace_set,
    dict: Arguments._replace_dict,
    slice: Arguments._replace_slice,
    **dict.fromkeys(map(type, (iter([]), iter(()), iter(set()))), Arguments._replace_iterator),
    Future: lambda arguments, future: arguments._take(Held(future)),
}


def call_later(function, args, kwargs, name, key=None, pure=None):
    call = Arguments().of(function, args, kwargs)
    return Delayed(call, name, pure_key(name, call) if pure and key is None else key)


def chosen_key(key, dasks):
    """The key that a caller chose, by either name of the argument."""
    return dasks if key is None else key


def is_collection(value):
    """True for what Dask computes. Dask is not imported for anything else."""
    if isinstance(value, (type, Delayed)) or not hasattr(value, "__dask_graph__"):
        return False
    try:
        from dask.base import is_dask_collection
    except ImportError:
        return False
    return is_dask_collection(value)


def pure_key(name, call):
    function, args, kwargs, inputs = call
    function = delayed_name(function) or function
    return f"{name}-{token(function, args, kwargs, [source.key for source in inputs])}"


def delayed_name(function):
    """The module and the name under which there is the delayed function of this one; None if there is not."""
    path, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    if not isinstance(path, str) or module == "__main__":
        return None
    found = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return (module, path) if type(found) is Value and found._value is function else None


def token(*values):
    """What is the same for equal values, and for no others. What cannot be compared is only equal to itself."""
    try:
        from dask.tokenize import tokenize
    except ImportError:
        tokenize = None
    try:
        return hashlib.sha256(pickle_any(values)).hexdigest()[:32] if tokenize is None else tokenize(*values)
    except Exception:
        return uuid.uuid4().hex


def operation(function, is_swapped=False):
    name = function.__name__.strip("_")

    def unary_or_binary(self, *others):
        args = (*others, self) if is_swapped else (self, *others)
        return call_later(function, args, {}, name)

    return unary_or_binary


UNARY = ("neg", "pos", "abs", "invert")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
BINARY = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift")

for each in (*UNARY, *COMPARISONS, *BINARY, "getitem"):
    setattr(Delayed, f"__{each.strip('_')}__", operation(getattr(operator, each)))
for each in BINARY:
    setattr(Delayed, f"__r{each.strip('_')}__", operation(getattr(operator, each), is_swapped=True))
Delayed.__divmod__, Delayed.__rdivmod__ = operation(divmod), operation(divmod, is_swapped=True)
Delayed.__round__ = operation(round)
