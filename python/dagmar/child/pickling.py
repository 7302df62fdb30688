"""Pickles by content: what stands in the main program, and what has no name."""

import collections
import io
import types

_pickler = None


def dumps(value, buffer_callback=None):
    """Pickles as `cloudpickle` does. `ImportError` if that is not there."""
    global _pickler
    if _pickler is None:
        _pickler = make_pickler()
    with io.BytesIO() as file:
        _pickler(file, 5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def make_pickler():
    import cloudpickle

    inherited = cloudpickle.Pickler.dispatch_table[types.CodeType]
    # What version 3.1.3 says for any file.
    unnamed = "<dynamic-code>"

    def restored(part, code):
        return code.co_filename if type(part) is str and part == unnamed else part

    def reduce_code(code):
        """Tracebacks shall say in which file a function is."""
        make, parts, *rest = inherited(code)
        return (make, tuple(restored(part, code) for part in parts), *rest)

    class Pickler(cloudpickle.Pickler):
        dispatch_table = collections.ChainMap({types.CodeType: reduce_code}, cloudpickle.Pickler.dispatch_table)

    return Pickler
