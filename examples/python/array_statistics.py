"""Statistics of an array that is larger than what workers may keep in memory, with dask.array.

    python array_statistics.py [MEGABYTES]

Outputs that do not fit go to the disk of their node and come back when they are wanted: the last lines of a run under
`dagmar run --memory-limit 64MB array_statistics.py` say how many bytes did.
"""

import sys

import dask.array as da

import dagmar


def main():
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rows = megabytes * 1_000_000 // 8 // 1000
    # Numbers that anybody can check: each row is 0, 1, ... 999, and its own number.
    column = da.arange(1000, chunks=1000, dtype=float)[None, :]
    array = da.arange(rows, chunks=2500, dtype=float)[:, None] + column
    with dagmar.Client() as client:
        array = client.persist(array)
        mean, deviation = client.compute([array.mean(), (array - array.mean(axis=0)).std()])
    print(f"{array.nbytes / 1e6:.0f} MB, mean {mean:.1f}, deviation within columns {deviation:.2f}")


if __name__ == "__main__":
    main()
