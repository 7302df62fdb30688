"""A blocked matrix product in dagmar beside one call of the same BLAS, and beside dask's threads.

`scripts/bench matmul` builds benches/matmul.rs, which opens the system's OpenBLAS. dask is installed as the peers
are; its numpy brings an OpenBLAS of its own, so it is held against numpy with all cores.
"""

import sys

import peers
from programs import CORES, Contest, Wrong, last_json, run

PACKAGES = ["numpy", "dask"]

DASK = """
import json, sys, time
import numpy, dask, dask.array
size, side, cores = {size}, {side}, {cores}
rows = numpy.arange(size)
def factor(which):
    return ((rows[:, None] * 31 + rows[None, :] * 17 + which * 7) % 11 - 5).astype(float)
left, right = factor(0), factor(1)
if sys.argv[1] == "dask":
    blocks = [dask.array.from_array(each, chunks=side).persist(scheduler="threads") for each in (left, right)]
    with dask.config.set(scheduler="threads", num_workers=cores):
        began = time.perf_counter()
        product = (blocks[0] @ blocks[1]).persist()
        took = time.perf_counter() - began
        product = product.compute()
else:
    began = time.perf_counter()
    product = left @ right
    took = time.perf_counter() - began
assert (product.sum(axis=1) == left @ right.sum(axis=1)).all()
print(json.dumps({{"seconds": took}}))
"""


def contests(places, small):
    size, side = (256, 64) if small else (4096, 512)
    program = places.programs / "matmul"
    contest = Contest(f"product of {size} x {size} in {(size // side) ** 3} products of blocks", "s")

    def enter(name, command, threads, **held):
        # Before it is started it must know how many threads it may ever have.
        threads = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}

        def measure():
            told = run(command, places.folder, threads)[0]
            return {"figure": last_json(told)["seconds"]}

        contest.enter(name, measure, **held)

    whole = f"one dgemm of OpenBLAS, {CORES} threads"
    blocks = f"dagmar, {CORES} slots, OpenBLAS with one thread"
    enter(blocks, [program, "blocks", size, side], 1, against=whole, bar=1.1)
    enter(whole, [program, "whole", size, CORES], CORES)
    try:
        interpreter = peers.python(places, PACKAGES)
        text = peers.script(places, "dask_product", DASK, size=size, side=side, cores=CORES)
        run([interpreter, text, "dask"], places.folder)
    except Wrong as wrong:
        print(f"dask is left out: {str(wrong).splitlines()[-1]}", file=sys.stderr)
    else:
        numpy = f"numpy, {CORES} threads"
        enter(f"dask, {CORES} threads", [interpreter, text, "dask"], 1, against=numpy)
        enter(numpy, [interpreter, text, "whole"], CORES)
    yield contest
