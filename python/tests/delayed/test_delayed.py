"""Delayed functions and values, without anything of Dask."""

import collections
import dataclasses
import operator
import os
import subprocess
import sys
import time

import cloudpickle
import numbers_module
import pytest
from numbers_module import Counter, count_lines, halves, inc, inner, square

import dagmar
from dagmar import computing, delayed, delaying

pytestmark = pytest.mark.usefixtures("client")

Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Pair:
    left: object
    right: object = None


@dataclasses.dataclass
class Derived:
    left: object
    double: object = dataclasses.field(init=False, default=None)


def same(*args, **kwargs):
    return args, kwargs


def test_calls_are_done_when_they_are_computed():
    assert inc(inc(1)).compute() == 3
    assert delayed(same)(1, function=2, self=3).compute() == ((1,), {"function": 2, "self": 3})
    assert delayed(lambda text: text.upper())("a").compute() == "A"
    assert dagmar.compute(inc(1), inc(2), 7, "text") == (2, 3, 7, "text")


def test_what_was_given_keeps_its_shape():
    one, two = inc(0), inc(1)
    given = [one, {"a": (two, {one}), two: frozenset([3])}], one
    assert dagmar.compute(*given) == ([1, {"a": (2, {1}), 2: frozenset([3])}], 1)
    assert dagmar.compute([one], traverse=False) == ([one],)


def test_outputs_stand_anywhere_among_arguments():
    one = inc(0)
    args, kwargs = delayed(same)(
        [one, (one, {one})], {"a": one, one: "b"}, slice(one, None), Point(one, 2), Pair([one]), key={"deep": [one]}
    ).compute()
    assert args == ([1, (1, {1})], {"a": 1, 1: "b"}, slice(1, None), Point(1, 2), Pair([1]))
    assert type(args[3]) is Point and type(args[4]) is Pair and kwargs == {"key": {"deep": [1]}}


def test_outputs_are_found_in_iterators():
    one = inc(0)
    for items in ([one, 2], (one, 2), {one, 2}):
        iterator = iter(items)
        assert sorted(delayed(list)(iterator).compute()) == [1, 2] and set(iterator) == set(items)
    assert delayed(next)(iter([one, 2])).compute() == 1 == delayed(next)(iter([1, 2])).compute()


def test_what_cannot_be_made_anew_is_refused():
    assert delayed(same)(Derived(1)).compute()[0][0].left == 1
    with pytest.raises(ValueError, match="`Derived`.*init=False"):
        delayed(same)(Derived(inc(0)))


def test_arguments_that_hold_no_outputs_are_left_as_they_are():
    arguments, items = delaying.Arguments(), [[1, {"a": {2}}], (slice(1), Pair(3), Point(1, 2))]
    assert arguments.replace(items) is items and arguments.inputs == []


def test_values_are_delayed_too():
    assert delayed(5).compute() == 5
    assert (delayed([1, 2]) + [3]).compute() == [1, 2, 3]
    assert delayed([inc(0), [inc(1)]]).compute() == [1, [2]]
    assert delayed([1], traverse=False).compute() == [1]
    assert delayed(same)(delayed(same)).compute() == ((same,), {})
    assert delayed(1, name="one").key == "one" and delayed(None).compute() is None
    value = inc(1)
    assert delayed(value) is value


def test_operators_attributes_and_methods_are_calls():
    three = inc(2)
    assert dagmar.compute(three + 1, 1 - three, three / 2, -three, three**2, 2**three, three % 2, divmod(three, 2)) == (
        4, -2, 1.5, -3, 9, 8, 1, (1, 1),
    )
    assert dagmar.compute(three == 3, three < 3, three & 1, 1 << three, abs(-three), round(three / 2)) == (
        True, False, 1, 8, 3, 2,
    )
    assert dagmar.compute(three.real, delayed("a,b").split(","), delayed({"a": [1, 2]})["a"][three - 2]) == (
        3, ["a", "b"], 2,
    )
    assert delayed(operator.itemgetter)(1)("ab").compute() == "b"
    assert inc(three.conjugate()).compute() == 4


def test_what_is_not_known_yet_is_refused():
    three = inc(2)
    for use in (bool, iter, len, lambda value: 1 in value):
        with pytest.raises(TypeError, match="before it is computed|nout|not iterable"):
            use(three)
    with pytest.raises(TypeError, match="cannot be changed"):
        three[0] = 1
    with pytest.raises(AttributeError):
        three.name = 1
    with pytest.raises(AttributeError, match="private"):
        three._hidden


def test_several_outputs_are_unpacked():
    first, second = halves("abcd")
    assert dagmar.compute(first, second) == ("ab", "cd") and len(halves("ab")) == 2
    with pytest.raises(ValueError, match="nout"):
        delayed(same, nout=-1)


def test_methods_are_delayed():
    assert Counter(3).plus(inc(0)).compute() == 4


def test_equal_calls_of_a_pure_function_are_one_task(tmp_path):
    assert square(3).key == square(3).key != square(4).key
    assert inc(3).key != inc(3).key and inc(3, pure=True).key == inc(3, pure=True).key
    assert square(inc(1)).key != square(inc(1)).key
    path = str(tmp_path / "lines")
    one, other = count_lines(path, pure=True), count_lines(path, pure=True)
    assert dagmar.delayed(operator.sub)(inc(3, pure=True), inc(3, pure=True)).compute() == 0
    assert one is not other and dagmar.compute(one, other) == (1, 1)


def test_tasks_have_names():
    assert inc(1, dask_key_name="first").key == "first"
    assert inc(1, dagmar_key_name="second").key == "second" and inc(1, dagmar_key_name="second").compute() == 2
    assert inc.conjugate(dagmar_key_name="third").key == "third" == delayed(inc)(1)(dagmar_key_name="third").key
    assert inc(1).key.startswith("inc-") and "first" in repr(inc(1, dask_key_name="first"))


def test_a_task_is_done_once_however_many_take_it(tmp_path):
    lines = count_lines(str(tmp_path / "lines"))
    assert dagmar.compute(lines, inc(lines), [lines + lines]) == (1, 2, [2])


def test_what_a_task_raises_is_raised():
    with pytest.raises(TypeError, match="concatenate") as caught:
        inc(inc("a")).compute()
    assert "in inc" in str(caught.value.__cause__)


def test_persisted_outputs_are_made_once_and_stay(client, tmp_path):
    lines = count_lines(str(tmp_path / "lines"))
    held = lines.persist()
    assert held.key == lines.key and inc(held).compute() == 2 and held.compute() == 1
    one, (two, rest) = dagmar.persist(held, [inc(held), "rest"])
    assert dagmar.compute(one, two, rest) == (1, 2, "rest")
    assert client.compute(two) == 2 and client.persist(inc(two)).compute() == 3
    first, second = halves("abcd").persist()
    assert dagmar.compute(first, second) == ("ab", "cd")


def test_futures_are_arguments(client):
    assert inc(client.submit(abs, -4)).compute() == 5
    assert dagmar.compute([client.submit(abs, -4)]) == ([4],)


def test_another_clients_outputs_are_refused(tmp_path, monkeypatch):
    held = inc(1).persist()
    monkeypatch.chdir(tmp_path)
    with dagmar.Client(threads_per_worker=1, set_as_default=False) as other:
        with pytest.raises(ValueError, match="another client"):
            inc(held).compute(client=other)
        assert inc(1).compute(scheduler=other) == 2


def test_within_a_task_all_is_done_there():
    assert inner(1).compute() == 3


def test_it_can_be_done_here():
    here = delayed(os.getpid)()
    assert here.compute(scheduler="sync") == os.getpid() != here.compute()
    lines, held = inc(1), inc(1).persist(scheduler="sync")
    assert dagmar.compute([lines, inc(lines), Point, held], scheduler="synchronous") == ([2, 3, Point, 2],)
    assert delayed(same)(Pair(lines), {lines: 1}).compute(scheduler="sync") == ((Pair(2), {2: 1}), {})
    with pytest.raises(ValueError, match="threads"):
        inc(1).compute(scheduler="threads")


def test_large_arguments_are_sent_once():
    large = b"x" * 1_000_000
    task = delayed(same)(*[delayed(len)(large) for _ in range(50)], [large])

    class Sender:
        slots = 2

    order = computing.needed([task])
    assert 1_000_000 < sum(map(len, computing.Plan(Sender, [task], order).submission.pieces(0))) < 1_100_000
    assert task.compute() == ((*[1_000_000] * 50, [large]), {})


def test_an_argument_is_each_tasks_own():
    def append(items):
        items.append(1)
        return len(items)

    shared = []
    assert dagmar.compute([delayed(append)(shared) for _ in range(20)]) == ([1] * 20,)
    assert shared == []


def test_what_functions_refer_to_may_change(client):
    class Line:
        slope = 2

        def at(self, x):
            return self.slope * x

    line = Line()
    assert (delayed(line.at)(3).compute(), client.submit(line.at, 3).result()) == (6, 6)
    line.slope = 3
    assert (delayed(line.at)(3).compute(), client.submit(line.at, 3).result()) == (9, 9)


def test_graphs_are_deep_and_wide():
    chain = inc(0)
    for _ in range(3000):
        chain = inc(chain)
    assert dagmar.compute(chain, delayed(sum)([inc(number) for number in range(3000)])) == (3001, 4501500)
    assert inc(cloudpickle.loads(cloudpickle.dumps(chain))).compute(scheduler="sync") == 3002


def test_a_large_graph_is_built_and_pickled_quickly():
    begin = time.perf_counter()
    level = [inc(number) for number in range(50_000)]
    while len(level) > 1:
        level = [left + right for left, right in zip(level[::2], level[1::2])] + level[len(level) & ~1:]
    order = computing.needed(level)

    class Sender:
        slots = 2

    computing.Plan(Sender, level, order).submission.pieces(0)
    # It is a tenth of that where nothing else runs. dask.delayed needs about 15 s to build and optimise it.
    assert len(order) == 99_999 and time.perf_counter() - begin < 15


def test_it_is_pickled_with_all_that_it_needs():
    first, _ = halves("abcd")
    copy = cloudpickle.loads(cloudpickle.dumps(first.upper()))
    assert copy.compute() == "AB" and copy.key == cloudpickle.loads(cloudpickle.dumps(copy)).key
    with pytest.raises(TypeError, match="future"):
        cloudpickle.dumps(inc(1).persist())


def test_keyword_arguments_that_mean_nothing_are_refused():
    with pytest.raises(TypeError, match="num_workers"):
        inc(1).compute(num_workers=3)


def test_neither_dask_nor_cloudpickle_is_needed(tmp_path):
    script = """
import sys
sys.modules["dask"] = sys.modules["cloudpickle"] = None
import dagmar
from numbers_module import inc, square
print(square(inc(1)).compute(), dagmar.persist(inc(2))[0].compute(), dagmar.default_client().persist(inc(3)).compute())
assert square(2).key == square(2).key
try:
    dagmar.delayed(lambda: 1)().compute()
except TypeError as error:
    print(error)
"""
    places = os.pathsep.join([os.path.dirname(numbers_module.__file__), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": places},
        capture_output=True, text=True, timeout=60,
    )
    said = "4 3 4\n`<lambda>` has no name in a module, and to send it takes the package `cloudpickle`\n"
    assert (done.stdout, done.returncode) == (said, 0), done.stderr
