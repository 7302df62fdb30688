"""Fused nodes of Dask's graphs, run by us, against Dask's own way to run them."""

import random
import weakref

import pytest

specification = pytest.importorskip("dask._task_spec")
from dagmar.child.subgraph import evaluate

Task, TaskRef, GraphNode = specification.Task, specification.TaskRef, specification.GraphNode


def note(*arguments):
    return arguments


def fused_at_random(seed):
    """A node that stands for some that need each other and values from outside in any way."""
    draw = random.Random(seed)
    outside = [f"outside-{number}" for number in range(draw.randint(0, 3))]
    needs = {}
    for number in range(draw.randint(1, 9)):
        names = [*needs, *outside]
        needs[f"inner-{number}"] = draw.sample(names, min(len(names), draw.randint(0, 3)))
    last = f"inner-{len(needs) - 1}"
    needed = {name for each in needs.values() for name in each}
    needs[last] = list(dict.fromkeys(needs[last] + [name for name in needs if name not in needed | {last}]))
    tasks = [Task(name, note, name, *map(TaskRef, each)) for name, each in needs.items()]
    draw.shuffle(tasks)
    return GraphNode.fuse(*tasks)


@pytest.mark.parametrize("seed", range(300))
def test_what_is_fused_gives_what_dask_gives(seed):
    node = fused_at_random(seed)
    values = {name: f"value of {name}" for name in node.dependencies}
    assert evaluate(node, dict(values)) == node(dict(values))
    last = Task("last", note, TaskRef(node.key))
    nested = GraphNode.fuse(node, last)
    assert evaluate(nested, dict(values)) == nested(dict(values))


@pytest.mark.parametrize("substitute", [specification.DataNode("x", 7), specification.Alias("x", "y"), Task("x", note, TaskRef("y"))])
def test_what_stands_in_the_place_of_an_output_is_computed(substitute):
    fused = GraphNode.fuse(Task("one", note, TaskRef("x")), Task("two", note, TaskRef("one"), TaskRef("z")))
    place = {name: each for name, each in zip(fused.args[2], range(3, 5))}["x"]
    arguments = [*fused.args]
    arguments[place] = substitute
    node = Task("two", fused.func, *arguments)
    values = {name: f"value of {name}" for name in node.dependencies}
    assert evaluate(node, dict(values)) == node(dict(values))


def test_what_is_not_fused_is_called():
    assert evaluate(Task("one", note, 1, TaskRef("x")), {"x": 2}) == (1, 2)
    assert evaluate(specification.DataNode("one", 1), {}) == 1


def test_what_lies_between_is_let_go_of_with_its_last_use():
    class Large:
        pass

    seen = []

    def make():
        large = Large()
        seen.append(weakref.ref(large))
        return large

    def take(_):
        return 1

    def look(_):
        return seen[0]() is None

    node = GraphNode.fuse(Task("made", make), Task("taken", take, TaskRef("made")), Task("looked", look, TaskRef("taken")))
    assert evaluate(node, {})


def test_what_a_fused_node_raises_is_raised():
    def fail():
        raise KeyError("as planned")

    node = GraphNode.fuse(Task("failed", fail), Task("taken", note, TaskRef("failed")))
    with pytest.raises(KeyError, match="as planned"):
        evaluate(node, {})
