"""A map and a reduce by tree, of plain functions: how many primes are there below a number?

    python map_reduce.py [LIMIT]

The same script runs on all ranks by `mpirun -n 8 dagmar run map_reduce.py`, and in a job by `dagmar submit map_reduce.py`.
"""

import sys

import dagmar


@dagmar.delayed
def count_primes(first, last):
    """How many primes there are in `range(first, last)`."""
    return sum(1 for number in range(max(2, first), last) if is_prime(number))


def is_prime(number):
    return all(number % factor for factor in range(2, int(number**0.5) + 1))


@dagmar.delayed
def add(one, other):
    return one + other


def tree(parts):
    """Adds neighbours, then neighbours of those, until one is left."""
    while len(parts) > 1:
        pairs = [add(one, other) for one, other in zip(parts[::2], parts[1::2])]
        parts = pairs + parts[2 * len(pairs):]
    return parts[0]


def main():
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    step = max(1, limit // 64)
    # Nothing runs here: these are calls that will be.
    total = tree([count_primes(first, min(first + step, limit)) for first in range(0, limit, step)])
    print(f"{total.compute()} primes below {limit}")


if __name__ == "__main__":
    main()
