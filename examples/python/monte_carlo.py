"""Pi by throwing darts, with futures: batches are thrown until the error is small enough, and the rest is cancelled.

    python monte_carlo.py [ERROR]
"""

import math
import random
import sys

import dagmar

THROWS = 100_000
BATCHES = 400


def throw(seed):
    """How many of the darts hit the quarter of a circle. The same seed throws the same darts."""
    generator = random.Random(seed)
    return sum(generator.random() ** 2 + generator.random() ** 2 <= 1 for _ in range(THROWS))


def main():
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 0.002
    hits = batches = 0
    with dagmar.Client() as client:
        futures = client.map(throw, range(BATCHES))
        for future in dagmar.as_completed(futures):
            hits, batches = hits + future.result(), batches + 1
            share = hits / (batches * THROWS)
            # The standard error of a share, times 4.
            error = 4 * math.sqrt(share * (1 - share) / (batches * THROWS))
            if error < wanted:
                break
        client.cancel(futures)
    print(f"pi is {4 * share:.4f} +- {error:.4f}, by {batches} of {BATCHES} batches")


if __name__ == "__main__":
    main()
