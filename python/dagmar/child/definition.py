"""Calls as a graph file defines them: arguments, directory and variables."""

import copy
import os


class Surroundings:
    """The working directory and the variables of one call."""

    def __init__(self, definition, attempt):
        self.directory = text_of(definition["directory"], attempt)
        self.variables = [(name, text_of(text, attempt)) for name, text in definition["environment"]]
        self.before = []

    def __enter__(self):
        os.chdir(self.directory)
        for name, text in self.variables:
            self.before.append((name, os.environ.get(name)))
            os.environ[name] = text

    def __exit__(self, *_):
        for name, text in reversed(self.before):
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def text_of(pieces, attempt):
    """Text that is complete but for the number of the attempt."""
    return str(attempt).join(pieces)


def build(argument, inputs, attempt):
    """An argument, with inputs in their places. Lists and maps are new each time: a function may change them."""
    kind, *rest = argument
    if kind == "v":
        return copy.deepcopy(rest[0]) if type(rest[0]) in (list, dict) else rest[0]
    if kind == "i":
        return inputs[rest[0]]
    if kind == "s":
        first, count = rest
        return inputs[first:first + count]
    if kind == "l":
        return [build(item, inputs, attempt) for item in rest[0]]
    if kind == "m":
        return {name: build(item, inputs, attempt) for name, item in rest[0]}
    if kind == "t":
        return text_of(rest[0], attempt)
    if kind == "b":
        return bytes(rest[0])
    if kind == "f":
        return float(rest[0])
    raise ValueError(f"an argument of kind {kind!r}")
