"""joblib and scikit-learn by way of dagmar."""

import multiprocessing
import os
import time

import pytest

joblib = pytest.importorskip("joblib")
numpy = pytest.importorskip("numpy")

from joblib import Parallel, delayed, parallel_config

import dagmar
import dagmar.parallel


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with parallel_config("dagmar", n_jobs=2):
        yield


def fail_at_three(value):
    if value == 3:
        raise KeyError(value)


def nested(value, **options):
    values = Parallel(n_jobs=2, **options)(delayed(abs)(-value) for _ in range(3))
    return values, type(joblib.parallel.get_active_backend()[0]).__name__


def set_first(array, value):
    array[0] = value
    return array.sum()


def test_many_calls():
    assert Parallel()(delayed(abs)(-value) for value in range(5000)) == list(range(5000))


@pytest.mark.parametrize("options", [{}, {"backend": "dagmar"}, {"backend": "loky"}])
def test_nested_calls_are_done_in_sequence(options):
    results = Parallel()(delayed(nested)(value, **options) for value in range(3))
    assert [values for values, _ in results] == [[value] * 3 for value in range(3)]
    assert {name for _, name in results} == {"SequentialBackend"}


def test_generators():
    assert list(Parallel(return_as="generator")(delayed(abs)(-value) for value in range(9))) == list(range(9))
    unordered = Parallel(return_as="generator_unordered")(delayed(abs)(-value) for value in range(9))
    assert sorted(unordered) == list(range(9))


def test_a_failure_and_what_follows():
    with pytest.raises(KeyError):
        Parallel()(delayed(fail_at_three)(value) for value in range(10))
    assert Parallel()(delayed(abs)(-value) for value in range(10)) == list(range(10))


def test_a_timeout():
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.3)(delayed(time.sleep)(30) for _ in range(2))


def test_processes_are_kept():
    first = Parallel()(delayed(os.getpid)() for _ in range(20))
    assert set(first) & set(Parallel()(delayed(os.getpid)() for _ in range(20)))


def test_inner_threads():
    with parallel_config("dagmar", n_jobs=2, inner_max_num_threads=3):
        assert Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)) == ["3", "3"]


def test_large_arguments_are_shared_and_stay_as_they_are():
    array = numpy.zeros(300_000)
    assert Parallel()(delayed(set_first)(array, value) for value in range(1, 9)) == list(range(1, 9))
    assert array[0] == 0


def test_a_client_that_was_given():
    array = numpy.ones(300_000)
    with dagmar.Client(2, 1) as client, parallel_config("dagmar", client=client):
        assert Parallel()(delayed(numpy.sum)(array) for _ in range(10)) == [300_000] * 10


def test_grid_search_gives_the_scores_of_loky():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    data, target = load_digits(return_X_y=True)
    scores = []
    for backend in ("loky", "dagmar"):
        with parallel_config(backend, n_jobs=2):
            search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [1e-3, 1e-2]}, cv=3)
            scores.append(search.fit(data[:600], target[:600]).cv_results_["mean_test_score"])
    assert numpy.array_equal(*scores)
