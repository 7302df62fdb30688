"""Functions as a user's module has them."""

import os

from dagmar import delayed


@delayed
def inc(number):
    return number + 1


@delayed(nout=2)
def halves(text):
    middle = len(text) // 2
    return text[:middle], text[middle:]


@delayed(pure=True)
def square(number):
    return number * number


@delayed
def count_lines(path):
    with open(path, "a") as file:
        file.write("done\n")
    with open(path) as file:
        return len(file.readlines())


@delayed
def inner(number):
    """Computes within a task."""
    assert "DAGMAR_KEY" in os.environ
    return inc(inc(number)).compute()


class Counter:
    def __init__(self, start):
        self.start = start

    @delayed
    def plus(self, number):
        return self.start + number
