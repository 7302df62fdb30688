"""Delayed objects beside Dask's collections, and among them."""

import pytest
from numbers_module import count_lines, halves, inc

import dagmar
from dagmar import delayed

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
np = pytest.importorskip("numpy")

pytestmark = pytest.mark.usefixtures("client")


def test_dask_computes_them():
    two = inc(1)
    assert dask.is_dask_collection(two)
    assert dask.compute(two, da.ones(6, chunks=2).sum(), [inc(two)]) == (2, 6, [3])
    assert dask.delayed(sum)([two, inc(two)]).compute() == 5
    assert dask.base.tokenize(two) == dask.base.tokenize(two) != dask.base.tokenize(inc(1))


def test_they_go_where_dask_sends_them(client):
    assert dask.compute(inc(1), da.ones(6, chunks=2).sum(), scheduler=client) == (2, 6)
    with dask.config.set(scheduler=dagmar.get):
        assert dask.delayed(sum)([inc(1), 3]).compute() == 5


def test_dasks_collections_are_arguments():
    array = da.ones((4, 4), chunks=2)
    total = delayed(np.sum)(array)
    assert total.compute() == 16
    assert delayed(len)([array, {"deep": array}]).compute() == 2
    assert inc(dask.delayed(abs)(-3)).compute() == 4
    assert delayed(array).sum().compute() == 16
    frame = pytest.importorskip("dask.dataframe").from_dict({"x": [1, 2, 3]}, npartitions=2)
    assert delayed(lambda frame: int(frame.x.sum()))(frame).compute() == 6


def test_all_is_one_submission(client, monkeypatch):
    submitted, submit = [], client._connection.submit

    def count(submission, *args):
        submitted.append(len(submission.name))
        return submit(submission, *args)

    monkeypatch.setattr(client._connection, "submit", count)
    array = da.ones(6, chunks=2)
    assert dagmar.compute(array.sum(), inc(array.mean()), [inc(1)]) == (6, 2, [2])
    assert len(submitted) == 1
    assert dagmar.compute(inc(1), inc(2)) == (2, 3) and submitted[1:] == [2]


def test_dasks_collections_alone_are_computed_as_dask_does():
    assert dagmar.compute({"sum": da.ones(6, chunks=2).sum()}, 1) == ({"sum": 6}, 1)


def test_outputs_keep_their_order_whatever_they_are_of():
    array, one = da.ones(6, chunks=2), dask.delayed(abs)(-1)
    frame = pytest.importorskip("dask.dataframe").from_dict({"x": [1, 2, 3]}, npartitions=2)
    bag = pytest.importorskip("dask.bag").from_sequence([1, 2])
    given = one, array.sum(), frame.x.sum(), dask.delayed(abs)(-2), bag, inc(3), array.mean(), frame.x.max()
    expected = 1, 6, 6, 2, [1, 2], 4, 1, 3
    assert dagmar.compute(*given) == expected
    assert dagmar.compute(*given, scheduler="sync") == expected
    assert dagmar.compute(*given[:5]) == expected[:5]
    assert dask.compute(inc(1), array.sum(), inc(2)) == (2, 6, 3)
    assert dagmar.compute(*dagmar.persist(one, array, given[3], inc(3)))[2:] == (2, 4)


def test_both_are_persisted(client, tmp_path):
    lines, array = count_lines(str(tmp_path / "lines")), da.arange(6, chunks=2)
    held, held_array = dagmar.persist(lines, array)
    assert dagmar.compute(held, inc(held), held_array.sum()) == (1, 2, 15)
    (again,) = dask.persist(inc(held), scheduler=client)
    assert again.compute() == 2 and inc(again).compute() == 3
    assert delayed(np.sum)(held_array).persist().compute() == 15
    assert client.persist(inc(held)).compute() == 2
    (by_dask,) = dask.persist(inc(1), scheduler="sync")
    assert by_dask.compute() == 2 and inc(by_dask).compute() == 3
    (optimized,) = dask.optimize(inc(1))
    assert optimized.compute() == 2


def test_options_go_along_into_dasks_graphs(client):
    greedy = delayed(abs, cpus=1000)(-1)
    with pytest.raises(dagmar.TaskFailed, match="more than any worker has"):
        dask.compute(greedy, da.ones(2).sum(), scheduler=client)


def test_within_a_task_both_are_computed_there():
    def inside():
        return dagmar.compute(inc(da.ones(3, chunks=1).sum()), da.ones(2).sum())

    assert delayed(inside)().compute() == (4, 2)


def test_several_outputs_of_dasks():
    first, second = delayed(dask.delayed(halves("abcd")), nout=2)
    assert dagmar.compute(first, second) == ("ab", "cd")
