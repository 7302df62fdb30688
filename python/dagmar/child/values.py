"""Values on their way: as JSON or plain bytes what everybody can read, pickled what only Python can."""

import json
import pickle
import struct
import sys
import traceback

from . import pickling
from .definition import build

# How a value is encoded.
NULL, JSON, BYTES, TEXT, OBJECT, CAPTURED, TAGGED, FLOAT, INT = range(9)
# It stays where it was made.
LIVE = -1
# Objects from about this size on stay in the process that made them until somebody else wants them.
LIVE_BYTES = 32 * 1024
OBJECT_HEAD = struct.Struct("<QQ")
# Buffers of an object start at multiples of this: what numpy and Arrow like best.
ALIGNMENT = 64
# Letters of an exception's text that a rank is told, and bytes of the exception itself.
TOLD_MAX = 8 * 1024
EXCEPTION_BYTES = 32 * 1024
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


def decode(form, body):
    """The value that came in this form."""
    if form == OBJECT:
        return load_object(body)
    if form == JSON:
        return json.loads(bytes(body))
    if form == BYTES:
        return bytes(body)
    if form == TEXT:
        return str(body, "utf-8")
    if form == NULL:
        return None
    if form == FLOAT:
        return struct.unpack("<d", body)[0]
    if form == INT:
        return struct.unpack("<q", body)[0]
    if form == CAPTURED:
        try:
            return str(body, "utf-8")
        except UnicodeDecodeError:
            return bytes(body)
    if form == TAGGED:
        return build(json.loads(bytes(body)), [], 0)
    raise ValueError(f"a value of form {form}")


def encode(value, live, is_pythons):
    """A value as its form and pieces of bytes. What JSON holds without loss is for everybody, unless only
    Python is concerned; the rest is for Python alone, and stays here if it is large."""
    kind = type(value)
    if value is None:
        return NULL, []
    if is_pythons and kind in (bytes, str) and len(value) >= LIVE_BYTES:
        return LIVE, (live.keep(value), len(value))
    if kind is bytes:
        return BYTES, [value]
    if kind is str:
        try:
            return TEXT, [value.encode()]
        except UnicodeEncodeError:
            return OBJECT, dump_object(value)
    if kind is float:
        return FLOAT, [struct.pack("<d", value)]
    if kind is int and INT_MIN <= value <= INT_MAX:
        return INT, [struct.pack("<q", value)]
    if kind is bool or (not is_pythons and kind in (list, dict) and is_plain(value, 100)):
        try:
            return JSON, [json.dumps(value, allow_nan=False, separators=(",", ":")).encode()]
        except ValueError:
            pass
    size = size_of(value)
    if size >= LIVE_BYTES:
        return LIVE, (live.keep(value), size)
    return OBJECT, dump_object(value)


def is_plain(value, levels):
    """True if JSON gives the very same list or dict back, infinities apart."""
    if levels == 0:
        return False
    items = value
    if type(value) is dict:
        if not all(type(name) is str for name in value):
            return False
        items = value.values()
    kinds = set(map(type, items))
    if int in kinds and not all(INT_MIN <= item <= INT_MAX for item in items if type(item) is int):
        return False
    inner = kinds & {list, dict}
    if not kinds <= {type(None), bool, int, float, str, list, dict}:
        return False
    return not inner or all(is_plain(item, levels - 1) for item in items if type(item) in inner)


def size_of(value):
    """About how many bytes an object has."""
    size = getattr(value, "nbytes", None)
    if type(size) is int:
        return size
    known = sys.modules.get("dask.sizeof")
    if known is not None:
        try:
            return known.sizeof(value)
        except Exception:
            pass
    usage = getattr(value, "memory_usage", None)
    if usage is not None and "pandas" in sys.modules:
        try:
            usage = usage(deep=False)
            return int(usage if isinstance(usage, int) else usage.sum())
        except Exception:
            pass
    if type(value) in (list, tuple, set, frozenset) and value:
        items = list(value) if len(value) <= 10 else [item for item, _ in zip(value, range(10))]
        each = sum(map(size_of, items)) / len(items)
        return int(sys.getsizeof(value) + each * len(value))
    return sys.getsizeof(value)


def dump_object(value, buffers=None):
    """An object as a head, its pickle, and its large buffers where they lie."""
    buffers = [] if buffers is None else buffers

    def keep(buffer):
        buffers.append(buffer.raw())

    try:
        pickled = pickle.dumps(value, 5, buffer_callback=keep)
    except Exception as error:
        buffers.clear()
        try:
            pickled = pickling.dumps(value, keep)
        except ImportError:
            raise error from None
    head = OBJECT_HEAD.pack(len(buffers), len(pickled))
    head += struct.pack(f"<{len(buffers)}Q", *(buffer.nbytes for buffer in buffers))
    parts = [head, pickled]
    at = len(head) + len(pickled)
    for buffer in buffers:
        gap = -at % ALIGNMENT
        if gap:
            parts.append(bytes(gap))
        parts.append(buffer)
        at += gap + buffer.nbytes
    return parts


def load_object(body):
    """The object in these bytes. Its arrays stay where the bytes are, and cannot be written to."""
    count, length = OBJECT_HEAD.unpack_from(body)
    lengths = struct.unpack_from(f"<{count}Q", body, OBJECT_HEAD.size)
    at = OBJECT_HEAD.size + 8 * count
    pickled = body[at:at + length]
    at += length
    buffers = []
    for length in lengths:
        at += -at % ALIGNMENT
        buffers.append(body[at:at + length])
        at += length
    return pickle.loads(pickled, buffers=buffers)


def pickle_any(value):
    """Pickles by name where that can be read elsewhere, and by content what stands in the main program."""
    why = None
    try:
        pickled = pickle.dumps(value, 5)
        if b"__main__" not in pickled:
            return pickled
    except Exception as error:
        why = error
    try:
        return pickling.dumps(value)
    except ImportError:
        if why is not None:
            raise why from None
        return pickled


def dump_exception(error, frames):
    """An exception and its traceback in words; nothing if it cannot be pickled, or not be read again."""
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
        pickled = pickle_any((error.with_traceback(frames), text))
        return pickled if len(pickled) <= EXCEPTION_BYTES else b""
    except BaseException:
        return b""


def describe(error):
    """An exception in a line, as its traceback would end."""
    try:
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
        return text[:TOLD_MAX] or type(error).__name__
    except Exception:
        return type(error).__name__
