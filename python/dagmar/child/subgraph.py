"""Nodes of Dask graphs that stand for several: Dask fuses what follows on each other.

Dask puts the nodes in order each time that one of these is called, with care for the memory of large graphs, which
takes longer than most of them run. Here they run as each is needed.
"""

import sys


def evaluate(node, values):
    """What a node gives for the values that it needs, by key."""
    specification = sys.modules.get("dask._task_spec")
    fused = getattr(specification, "_execute_subgraph", None)
    if fused is None or getattr(node, "func", None) is not fused or node.kwargs:
        return node(values)
    nodes, target, names, *given = node.args

    def value_of(argument):
        if isinstance(argument, specification.TaskRef):
            return values[argument.key]
        if isinstance(argument, specification.GraphNode):
            # What once was the output of another task: a constant by now, or a node of its own.
            return evaluate(argument, {need: values[need] for need in argument.dependencies})
        return argument

    return of_nodes(nodes, target, dict(zip(names, map(value_of, given))))


def of_nodes(nodes, target, found):
    """The value of one of these nodes. What is `found` already is let go of with its last use, as is all between."""
    order, uses = laid_out(nodes, target, found)
    for name in order:
        node = nodes[name]
        needed = node.dependencies
        value = evaluate(node, {need: found[need] for need in needed})
        for need in needed:
            uses[need] -= 1
            if uses[need] == 0:
                del found[need]
        found[name] = value
    return found[target]


def laid_out(nodes, target, found):
    """The nodes that the target needs, each behind what it needs, and how many need each."""
    order, uses, due, opened = [], {target: 1}, [target], set()
    placed = set(found)
    while due:
        name = due[-1]
        if name in placed:
            due.pop()
            continue
        if name not in opened:
            opened.add(name)
            needed = nodes[name].dependencies
            for need in needed:
                uses[need] = uses.get(need, 0) + 1
            due.extend(need for need in needed if need not in placed)
            continue
        placed.add(name)
        order.append(name)
    return order, uses
