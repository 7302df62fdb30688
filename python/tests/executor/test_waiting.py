"""Waiting for futures of a client."""

import io
import operator
import threading
import time

import pytest

import dagmar
from dagmar.waiting import FIRST_COMPLETED, FIRST_EXCEPTION


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        with dagmar.Client(1, 2) as client:
            yield client


def test_as_completed_gives_each_once_and_in_order(client):
    slow, quick = client.submit(time.sleep, 1), client.submit(time.sleep, 0)
    assert list(dagmar.as_completed([slow, quick, quick])) == [quick, slow]


def test_as_completed_with_results(client):
    futures = client.map(operator.neg, range(50))
    assert sorted(value for _, value in dagmar.as_completed(futures, with_results=True)) == list(range(-49, 1))


def test_as_completed_has_a_timeout(client):
    with pytest.raises(TimeoutError, match="1 .of 1. futures"):
        list(dagmar.as_completed([client.submit(time.sleep, 1)], timeout=0.05))


def test_wait(client):
    slow, bad, good = client.submit(time.sleep, 1), client.submit(int, "x"), client.submit(int, "1")
    assert dagmar.wait([slow, bad], timeout=30, return_when=FIRST_EXCEPTION).not_done == {slow}
    assert good in dagmar.wait([slow, good], timeout=30, return_when=FIRST_COMPLETED).done
    assert dagmar.wait([slow, bad, good]).not_done == set()


def test_who_waits_is_told_of_what_is_cancelled(client):
    future = client.submit(time.sleep, 3)
    threading.Timer(0.1, client.cancel, [future]).start()
    assert dagmar.wait([future], timeout=10).done == {future}


def test_progress(client):
    futures, file = client.map(operator.neg, range(10)), io.StringIO()
    assert dagmar.progress(futures, file) is futures
    assert "10 of 10" in file.getvalue()


def test_each_callback_is_called_once(client):
    future, calls = client.submit(abs, -1), []
    future.add_done_callback(calls.append)
    future.result()
    future.add_done_callback(calls.append)
    time.sleep(0.1)
    assert calls == [future, future]
