"""Other systems on the same no-ops and the same commands, from a virtual environment of their own.

`scripts/bench peers` makes it once, in the target directory, from the usual package index. What cannot
be installed is left out, with a word.
"""

import subprocess
import sys

from programs import CORES, Contest, Dagmar, Wrong, last_json, mpirun, run

PACKAGES = ["dask", "distributed", "mpi4py", "hyperqueue"]

DASK = """
import json, time
from distributed import Client, LocalCluster
def nothing(number):
    return None
if __name__ == "__main__":
    with LocalCluster(n_workers={workers}, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            client.gather(client.map(nothing, range({workers}), pure=False))
            graph = {{("task", number): (nothing, number) for number in range({tasks})}}
            began = time.perf_counter()
            values = client.get(graph, list(graph), sync=True)
            took = time.perf_counter() - began
    assert len(values) == {tasks} and not any(values)
    print(json.dumps({{"seconds": took}}))
"""

FUTURES = """
import json, time
from mpi4py.futures import MPIPoolExecutor
def number_of(number):
    return number
if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        list(pool.map(number_of, range(100)))
        began = time.perf_counter()
        values = list(pool.map(number_of, range({tasks}), chunksize={chunk}))
        took = time.perf_counter() - began
    assert values == list(range({tasks}))
    print(json.dumps({{"seconds": took}}))
"""

HYPERQUEUE = """
import json, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores={cores}))
    client, job = cluster.client(), Job()
    for number in range({tasks}):
        job.program(["/bin/true"])
    began = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    took = time.perf_counter() - began
print(json.dumps({{"seconds": took}}))
"""


def python(places, packages=PACKAGES):
    """The interpreter of the peers, installed now if it is not there."""
    folder = places.programs / "peers"
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for package in packages:
        found = subprocess.run([interpreter, "-c", f"import {package}"], capture_output=True)
        if found.returncode != 0:
            subprocess.run([interpreter, "-m", "pip", "install", "-q", package], stdout=sys.stderr)
    return interpreter


def script(places, name, text, **values):
    path = places.folder / f"{name}.py"
    path.write_text(text.format(**values))
    return path


def timed(command, tasks, folder):
    def measure():
        return {"figure": last_json(run(command, folder)[0])["seconds"] / tasks * 1e6}

    return measure


def enter_if_it_runs(contest, name, measure, against):
    try:
        measure()
    except Wrong as wrong:
        print(f"{name} is left out: {str(wrong).splitlines()[-1]}", file=sys.stderr)
    else:
        contest.enter(name, measure, against=against)


def contests(places, small):
    tasks, interpreter = 200 if small else 10_000, python(places)
    graph = places.made("trivial", tasks, 1)
    dagmar = Dagmar(places, 3)
    contest = Contest(f"{tasks} no-ops, beside others", "us")
    contest.enter(dagmar.name, lambda: {"figure": dagmar.net(graph, tasks)["net"] / tasks * 1e6})
    dask = [interpreter, script(places, "dask_noops", DASK, workers=CORES, tasks=tasks)]
    enter_if_it_runs(contest, "dask.distributed", timed(dask, tasks, places.folder), dagmar.name)
    for chunk in (1, 100):
        text = script(places, f"futures_{chunk}", FUTURES, tasks=tasks, chunk=chunk)
        command = [*mpirun(3), interpreter, "-m", "mpi4py.futures", text]
        name = f"mpi4py.futures, {chunk} at a time"
        enter_if_it_runs(contest, name, timed(command, tasks, places.folder), dagmar.name)
    yield contest
    yield hyperqueue(places, interpreter, 20 if small else 1_000)


def hyperqueue(places, interpreter, count):
    graph = places.written("few_commands", f"""
        [tasks.true]
        each = {{ number = "1..{count}" }}
        run = ["/bin/true"]
    """)
    dagmar = Dagmar(places, 1)
    contest = Contest(f"{count} times /bin/true, beside HyperQueue", "us")
    contest.enter(dagmar.name, lambda: {"figure": dagmar.net(graph, count)["net"] / count * 1e6})
    command = [interpreter, script(places, "hyperqueue_commands", HYPERQUEUE, cores=CORES, tasks=count)]
    enter_if_it_runs(contest, "HyperQueue, in process", timed(command, count, places.folder), dagmar.name)
    return contest
