"""Delayed objects on their way into a pickle and out of it."""


def flattened(task):
    """A graph as a list, so that one of many levels can be pickled: tasks behind those that they take outputs of."""
    order, places, due = [], {}, [task]
    while due:
        last = due[-1]
        missing = [source for source in last._inputs if id(source) not in places]
        if missing:
            due.extend(missing)
            continue
        due.pop()
        if id(last) not in places:
            places[id(last)] = len(order)
            order.append(last)
    return [(type(each), fields_of(each), [places[id(source)] for source in each._inputs]) for each in order]


def fields_of(task):
    """What a task holds besides its inputs."""
    names = [name for kind in type(task).__mro__[:-1] for name in kind.__slots__]
    fields = {name: getattr(task, name) for name in names if name not in ("_inputs", "_graph", "__weakref__", "_owner")}
    # Copies are the same task: they have its name.
    return {**fields, "_key": task.key}


def restored(flat):
    """The last task of such a list, with all that it needs."""
    tasks = []
    for kind, fields, places in flat:
        task = kind.__new__(kind)
        for name, value in fields.items():
            setattr(task, name, value)
        task._inputs, task._graph = [tasks[place] for place in places], None
        if "_owner" in kind.__slots__:
            task._owner = task._inputs[0]
        tasks.append(task)
    return tasks[-1]
