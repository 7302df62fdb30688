"""dagmar for Python: graphs of tasks on this machine, and on the nodes of a cluster over MPI."""

import importlib as _importlib
import sys as _sys

# Processes of tasks have it already, from the program; what is pickled here names it as they do.
if "_dagmar" not in _sys.modules:
    from . import child

    _sys.modules["_dagmar"] = child
child = _sys.modules[__name__ + ".child"] = _sys.modules["_dagmar"]

# Where to find what. It is imported when it is used: processes of tasks need next to nothing of it.
_PLACES = {
    "Cancelled": "failure",
    "Client": "client",
    "Disconnected": "failure",
    "Executor": "executor",
    "Future": "client",
    "Killed": "failure",
    "LocalCluster": "cluster",
    "OutOfMemory": "failure",
    "PBSCluster": "cluster",
    "SlurmCluster": "cluster",
    "TaskFailed": "failure",
    "TimedOut": "failure",
    "as_completed": "waiting",
    "attach": "cluster",
    "compute": "computing",
    "default_client": "client",
    "delayed": "delaying",
    "get": "client",
    "persist": "computing",
    "progress": "waiting",
    "visualize": "picture",
    "wait": "waiting",
}

__all__ = sorted(_PLACES)

# That of pyproject.toml: a test compares them.
__version__ = "0.1.0"


def __getattr__(name):
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(_importlib.import_module("." + place, __name__), name)
    return value


def __dir__():
    return sorted({*globals(), *_PLACES})
