"""Tasks that submit tasks: a function that returns a delayed object leaves its output to that.

What it needs becomes tasks of the run, and the function's own task becomes the last of them: no process waits for them.
"""

import json
import struct

from .child import pickle_any, pickle_apart
from .computing import compute, has_foreign, needed, pickle_function, reversed_by_need
from .connection import Submission
from .delaying import Held, Value, name_of


def hand_on(task):
    """What a process tells its rank when the function of a task returned this delayed object: whether it is a value,
    and that, or the calls that it leaves its output to."""
    if type(task) is Value:
        return True, task._value
    order = needed([task])
    if any(type(each) is Held for each in order):
        raise TypeError("a task cannot leave its output to what a client holds")
    if has_foreign(order):
        # Dask's collections are computed where they are.
        return True, compute(task, traverse=False)[0]
    # Names and options are numbered as a client numbers them.
    numbers, calls, blocks, places = Submission(), [], [], {}
    for each in reversed_by_need(order):
        name = name_of(each)
        if name in places:
            continue
        places[name] = len(calls)
        block = pickle_apart([pickle_function(each._function)], [pickle_any((0, each._args, each._kwargs))])
        inputs = [places[name_of(source)] for source in each._inputs]
        calls.append([numbers.name_number(each._name), numbers.options_number(each._options), len(block), inputs])
        blocks.append(block)
    head = {"names": numbers.names, "options": list(map(json.loads, numbers.options)), "calls": calls}
    head = json.dumps(head).encode("utf-8", "replace")
    return False, [struct.pack("<I", len(head)), head, *blocks]
