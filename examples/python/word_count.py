"""The most frequent words of text files, with Dask's bag.

    python word_count.py FILE...
"""

import re
import sys

import dask.bag

import dagmar


def words(line):
    return re.findall(r"[a-z]+", line.lower())


def main():
    with dagmar.Client() as client:
        lines = dask.bag.read_text(sys.argv[1:])
        top = lines.map(words).flatten().frequencies().topk(5, key=lambda pair: (pair[1], pair[0]))
        # The only line that says who computes. `dagmar.Client()` is whoever started this script, or this machine.
        for word, count in top.compute(scheduler=client):
            print(f"{count:6} {word}")


if __name__ == "__main__":
    main()
