"""Options of tasks, as people write them and as rank 0 reads them."""

import difflib
import inspect
import numbers
import re

# What callers may name.
OPTIONS = ("cpus", "gpus", "memory", "retries", "priority", "resources", "timeout", "expected", "keep",
           "timeout_us", "expected_us")

# Multipliers of sizes, as in graph files: `GB` is decimal, `GiB` and `G` are binary.
SIZES = {"": 1, "b": 1}
SIZES.update((letter + "b", 1000 ** power) for power, letter in enumerate("kmgtp", 1))
SIZES.update((letter + end, 1024 ** power) for power, letter in enumerate("kmgtp", 1) for end in ("", "ib"))

# Seconds of each unit of time.
TIMES = {"us": 1e-6, "ms": 1e-3}
TIMES.update(dict.fromkeys(("", "s", "sec", "second", "seconds"), 1))
TIMES.update(dict.fromkeys(("m", "min", "minute", "minutes"), 60))
TIMES.update(dict.fromkeys(("h", "hr", "hour", "hours"), 3600))
TIMES.update(dict.fromkeys(("d", "day", "days"), 86_400))

SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*([a-z]*)")
TIME = re.compile(r"(\d+(?:\.\d*)?)\s*([a-z]*)\s*")
CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?")

# What rank 0 has room for.
COUNT_MAX, PRIORITY_MAX = (1 << 32) - 1, (1 << 31) - 1
AMOUNT_MAX = (1 << 64) - 1


# What `distributed` takes beside the arguments of a function, and whether it can be left away: each call is a task of
# its own here in any case, and tasks go where their inputs are.
FOREIGN = {"pure": True, "fifo_timeout": True, "allow_other_workers": True, "batch_size": True, "key": False,
           "workers": False, "actor": False, "actors": False}


def take_options(keywords, function=None):
    """Removes the options of a task from the keyword arguments of its function, and reads them."""
    for name in FOREIGN.keys() & keywords.keys():
        if takes(function, name):
            continue
        if not FOREIGN[name]:
            raise TypeError(f"tasks have no option `{name}`, and the function has no such argument")
        del keywords[name]
    return read_options({name: keywords.pop(name) for name in OPTIONS if name in keywords})


def takes(function, name):
    """True if a function may have an argument of this name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(kind.kind is kind.VAR_KEYWORD for kind in parameters.values())


def read_options(options):
    """Options as rank 0 reads them: `cpus` and `gpus` of a task, `memory` in bytes or as `"2GB"`, `retries`,
    `priority` (more comes first), `resources` (amounts by name), `timeout` and `expected` in seconds or as `"10m"`,
    `keep`. Options that are None count as not given. An option that does not exist is a `TypeError`, a value
    that cannot be a `ValueError`."""
    read = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"tasks have no option `{name}`{nearest(name, OPTIONS[:-2])}")
        if value is None:
            continue
        if name in ("timeout", "expected"):
            read[name + "_us"] = microseconds(name, value)
        else:
            read[name] = READERS[name](name, value)
    return read


def nearest(wrong, names):
    """A hint: what might have been meant, or what there is."""
    close = difflib.get_close_matches(wrong, names, 1)
    return f": the nearest is `{close[0]}`" if close else ": there are " + ", ".join(f"`{name}`" for name in names)


def whole(least, most):
    def read(name, value):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= value <= most:
            raise ValueError(f"`{name}` cannot be {value!r}: it is a whole number from {least} to {most}")
        return int(value)

    return read


def check_count(name, value):
    """Refuses what cannot be how many there are; None is whatever is usual."""
    if value is not None:
        whole(1, COUNT_MAX)(name, value)


def amounts(name, value):
    read = whole(0, AMOUNT_MAX)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"`{name}` cannot be {value!r}: it is a dict of amounts by name, as `{{'licence': 1}}`")
    return {key: read(f"{name}[{key!r}]", amount) for key, amount in value.items()}


def truth(name, value):
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` cannot be {value!r}: it is True or False")
    return value


def microseconds(name, value):
    found = round(seconds(value, name) * 1e6)
    if not 0 < found <= AMOUNT_MAX:
        raise ValueError(f"`{name}` cannot be {value!r}: it is a time above 0")
    return found


def size(value, name="memory"):
    """Bytes: a number of them, or a text such as `"2GB"` (decimal), `"2GiB"` or `"2G"` (binary)."""
    found = None
    if isinstance(value, str):
        match = SIZE.fullmatch(value.strip().lower())
        if match and match[2] in SIZES:
            unit = SIZES[match[2]]
            found = int(match[1]) * unit if match[1].isdigit() else int(float(match[1]) * unit)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool) and value == value:
        found = int(value) if value < AMOUNT_MAX else -1
    if found is None or not 0 <= found <= AMOUNT_MAX:
        raise ValueError(f"`{name}` cannot be {value!r}: it is a number of bytes, or a size such as '2GB'")
    return found


def seconds(value, name="timeout"):
    """Seconds: a number of them, a `timedelta`, or a text such as `"90s"`, `"10m"`, `"1h 30m"`, `"01:30:00"`."""
    if isinstance(value, str):
        found = spoken_seconds(value.strip().lower())
    elif hasattr(value, "total_seconds"):
        found = value.total_seconds()
    else:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        found = float(value) if is_number else None
    if found is None or not 0 <= found < float("inf"):
        raise ValueError(f"`{name}` cannot be {value!r}: it is a number of seconds, or a time such as '10m'")
    return found


def spoken_seconds(text):
    clock = CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        if clock[4] is None and clock[1] is None:
            # Two numbers are minutes and seconds, as batch systems read them.
            days, hours, minutes, rest = 0, 0, hours, minutes
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    total, at = 0.0, 0
    while at < len(text):
        match = TIME.match(text, at)
        if match is None or match[2] not in TIMES:
            return None
        total += float(match[1]) * TIMES[match[2]]
        at = match.end()
    return total if text else None


READERS = {
    "cpus": whole(1, COUNT_MAX),
    "gpus": whole(0, AMOUNT_MAX),
    "memory": lambda name, value: size(value, name),
    "retries": whole(0, COUNT_MAX),
    "priority": whole(-PRIORITY_MAX, PRIORITY_MAX),
    "resources": amounts,
    "keep": truth,
    "timeout_us": whole(1, AMOUNT_MAX),
    "expected_us": whole(1, AMOUNT_MAX),
}
