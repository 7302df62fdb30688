"""What benches/python.py runs: `python_programs.py CASE WAY SIZE...` does one case in one way, once.

It prints one JSON object: `figure`, and `value`, which must be the same for every way of a case. Starting pools,
clusters and runs, and importing what tasks need, comes before the clock.
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

CORES = os.cpu_count()


def timed(call):
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


# ---------------------------------------------------------------- what answers for each way


@contextlib.contextmanager
def dagmar_client():
    """Of the run that this was started by, or one of its own."""
    import dagmar

    with dagmar.Client(threads_per_worker=None if "DAGMAR_CLIENT" in os.environ else CORES) as client:
        yield client


@contextlib.contextmanager
def distributed_client():
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=CORES, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            yield client


@contextlib.contextmanager
def dask_scheduler(way):
    """Has Dask compute this way, and gives what has arrays computed and keeps their blocks where they were made:
    `processes` keeps nothing. Its processes would start with each `compute`: they are given."""
    import dask

    with contextlib.ExitStack() as stack:
        options = {"scheduler": way, "num_workers": CORES}
        keep = kept_by(dask.persist)
        if way == "processes":
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            context = multiprocessing.get_context("spawn")
            options["pool"] = stack.enter_context(ProcessPoolExecutor(CORES, context))
            keep = lambda *arrays: arrays
        elif way != "threads":
            client = stack.enter_context({"dagmar": dagmar_client, "distributed": distributed_client}[way]())
            options = {"scheduler": client}
            keep = kept_by(lambda *arrays: client.persist(list(arrays)))
        stack.enter_context(dask.config.set(options))
        yield keep


def kept_by(persist):
    """Persists arrays, and waits until their blocks are there."""

    def keep(*arrays):
        arrays = persist(*arrays)
        for array in arrays:
            array.map_blocks(size_of, dtype=int, chunks=((1,) * len(array.chunks[0]), (1,) * len(array.chunks[1]))).sum().compute()
        return arrays

    return keep


def size_of(block):
    import numpy

    return numpy.full((1, 1), block.size)


# ---------------------------------------------------------------- cases


def nothing(number):
    return None


def empty(way, tasks):
    """Calls that do nothing, each a task of its own: how many a second."""
    client, options = (dagmar_client, {}) if way == "dagmar" else (distributed_client, {"pure": False})
    with client() as client:
        client.gather(client.map(nothing, range(100 * CORES), **options))
        seconds, values = timed(lambda: client.gather(client.map(nothing, range(tasks), **options)))
    return {"figure": tasks / seconds, "value": values.count(None)}


def burn(steps):
    total = 0
    for number in range(steps):
        total += number * number % 7
    return total


def steps_of(seconds):
    """How many steps of `burn` take so long."""
    return int(seconds / min(timed(lambda: burn(100_000))[0] for _ in range(20)) * 100_000)


def python(way, tasks, steps):
    """Calls of plain Python, on all cores: how many a second."""
    if way == "dagmar":
        with dagmar_client() as client:
            client.gather(client.map(burn, [steps] * 2 * CORES))
            seconds, values = timed(lambda: client.gather(client.map(burn, [steps] * tasks)))
    else:
        import multiprocessing

        with multiprocessing.Pool(CORES) as pool:
            pool.map(burn, [steps] * 2 * CORES, 1)
            seconds, values = timed(lambda: pool.map(burn, [steps] * tasks))
    return {"figure": tasks / seconds, "value": sum(values)}


def copy(way, bytes_):
    """An array that is copied, into memory that is `new` or was `touched` before: milliseconds, the best of three."""
    import numpy

    source, target = numpy.ones(bytes_ // 8), numpy.zeros(bytes_ // 8)
    target[:] = 2
    times = []
    for _ in range(3):
        if way == "new":
            del target
            target = None
            seconds, target = timed(source.copy)
        else:
            seconds, _ = timed(lambda: numpy.copyto(target, source))
        times.append(seconds)
    return {"figure": 1e3 * min(times), "value": float(target[-1])}


def last_of(array):
    """And where it is looked at: the process, and what started it, which is another for each rank."""
    return float(array[-1]), os.getpid(), os.getppid()


def hold(array, begun, ended):
    """Keeps the process in which it lies for itself."""
    with open(begun, "w") as file:
        file.write(str(os.getpid()))
    while not os.path.exists(ended):
        time.sleep(0.002)


def warm(_):
    import numpy

    time.sleep(0.2)
    return numpy.ones(1)[0]


def array(way, bytes_):
    """An array as the argument of a task: in the process that made it, or in another of the same worker, for the
    first time or again. Milliseconds, the best of three arrays."""
    import numpy

    with dagmar_client() as client, tempfile.TemporaryDirectory() as folder:
        client.gather(client.map(warm, range(2 * CORES)))
        times = [one_array(client, numpy, way, bytes_, os.path.join(folder, str(number))) for number in range(3)]
    return {"figure": 1e3 * min(times), "value": 1.0}


def one_array(client, numpy, way, bytes_, path):
    made = client.submit(numpy.ones, bytes_ // 8)
    _, *home = client.submit(last_of, made).result()
    if way == "same process":
        return take(client, made, home, True)
    holding = client.submit(hold, made, path + "-begun", path + "-ended")
    while not (os.path.exists(path + "-begun") and os.path.getsize(path + "-begun")):
        time.sleep(0.002)
    if int(Path(path + "-begun").read_text()) != home[0]:
        raise SystemExit(f"error: the array was brought to another process than {home[0]}")
    try:
        first = take(client, made, home, False)
        return first if way == "another, first" else take(client, made, home, False)
    finally:
        open(path + "-ended", "w").close()
        holding.result()


def take(client, made, home, is_home):
    seconds, (value, *place) = timed(lambda: client.submit(last_of, made).result())
    if value != 1.0 or (place[0] == home[0]) != is_home or place[1] != home[1]:
        raise SystemExit(f"error: {value} of process {place}; the array is in {home}")
    return seconds


def blocks(which, way, size, side):
    """A computation of Dask in blocks of so many rows, which are there where the way can keep them: seconds."""
    import dask.array

    def draw(size, seed):
        return dask.array.random.RandomState(seed).random_sample((size, size), chunks=side)

    def compute(left, right):
        whole = left @ right if which == "matmul" else left + left.T
        return float(whole.sum().compute())

    with dask_scheduler(way) as keep:
        compute(*keep(draw(2 * side, 1), draw(2 * side, 2)))
        kept = keep(draw(size, 1), draw(size, 2))
        seconds, value = timed(lambda: compute(*kept))
    # Sums are taken in any order.
    return {"figure": seconds, "value": float(f"{value:.8g}")}


def matmul(way, size, side):
    return blocks("matmul", way, size, side)


def transpose(way, size, side):
    return blocks("transpose", way, size, side)


def grid(way, values, fits):
    """A search of scikit-learn with cross-validation, by joblib: seconds, and the scores."""
    import dagmar.parallel
    import numpy
    from joblib import parallel_config
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    data, target = load_digits(return_X_y=True)
    choices = {"C": list(numpy.logspace(-1, 2, values)), "gamma": list(numpy.logspace(-4, -1, fits // values // 3))}
    with parallel_config(way, n_jobs=CORES):
        GridSearchCV(SVC(), {"C": [1, 10]}, cv=3).fit(data[:200], target[:200])
        search = GridSearchCV(SVC(), choices, cv=3)
        seconds, _ = timed(lambda: search.fit(data, target))
    return {"figure": seconds, "value": search.cv_results_["mean_test_score"].tolist()}


def calls(way, tasks):
    """Calls of `abs` by joblib, which batches them: seconds."""
    import dagmar.parallel
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(way, n_jobs=CORES):
        Parallel()(delayed(abs)(-number) for number in range(10 * CORES))
        seconds, values = timed(lambda: Parallel()(delayed(abs)(-number) for number in range(tasks)))
    return {"figure": seconds, "value": values == list(range(tasks))}


CASES = {each.__name__: each for each in (empty, python, copy, array, matmul, transpose, grid, calls)}


def main(case, way, *sizes):
    if case == "calibrate":
        print(json.dumps({"steps": steps_of(float(way))}))
        return
    print(json.dumps(CASES[case](way, *map(int, sizes))))


if __name__ == "__main__":
    main(*sys.argv[1:])
