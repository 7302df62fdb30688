"""joblib by way of dagmar: `import dagmar.parallel`, then `joblib.parallel_config("dagmar")`."""

import os
import threading
import weakref

from joblib import parallel_config, register_parallel_backend
from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from . import calls
from .child import dump_object, size_of, write_memory
from .executor import Executor

# Set in processes that do tasks.
KEY = "DAGMAR_KEY"
# Arguments from this size on are not worth a copy for each process on this machine.
MAPPED_BYTES = 64 * 1024
# Each is an open file.
STAND_INS_MAX = 128

# The executor that stays for the next call, and what it was made for.
_kept, _kept_for = None, None
_keeping = threading.Lock()


class Backend(AutoBatchingMixin, ParallelBackendBase):
    """Does batches of joblib's calls in processes of a run: a client's, or one on this machine that is kept.

    Large arguments are sent once, and shared by the processes of a node.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(self, nesting_level=None, inner_max_num_threads=None, client=None, **options):
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self._client = client
        self._executor = None
        self._shared = Shared()

    def effective_n_jobs(self, n_jobs):
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or KEY in os.environ:
            # Whoever waits within a task would keep its place from others.
            return 1
        if n_jobs > 0:
            return n_jobs
        slots = len(os.sched_getaffinity(0)) if self._client is None else self._client.slots
        return max(1, slots + 1 + n_jobs)

    def configure(self, n_jobs=1, parallel=None, prefer=None, require=None, max_nbytes=None, **_):
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1 and (self._client is None or KEY in os.environ):
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._executor = self._find_executor(n_jobs)
        self._shared = Shared(self._executor, max_nbytes)
        return n_jobs

    def _find_executor(self, n_jobs):
        if self._client is None:
            return keep_executor(n_jobs, self._prepare_worker_env(n_jobs=n_jobs))
        if self.inner_max_num_threads is None:
            return Executor(client=self._client)
        limits = self._prepare_worker_env(n_jobs=n_jobs)
        return Executor(client=self._client, initializer=calls.set_variables, initargs=(limits,))

    def submit(self, func, callback=None):
        batch = [(function, *self._shared.replace(args, kwargs)) for function, args, kwargs in func.items]
        future = self._executor.submit(do_batch, batch, func._backend, func._n_jobs)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out):
        return out.result()

    def get_nested_backend(self):
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def abort_everything(self, ensure_ready=True):
        self._shared = Shared()
        if self._client is None:
            self._executor.terminate_workers()
        else:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self):
        # The executor stays for the next call.
        self._shared = Shared()
        self._executor = None
        self.reset_batch_stats()

    def __reduce__(self):
        raise TypeError("dagmar's backend belongs to the process that it was made in")


class Shared:
    """Large arguments of a call of `Parallel`. On this machine they lie in memory files, which processes map without
    copying what they only read; elsewhere those that come again are outputs of tasks."""

    def __init__(self, executor=None, bytes_min=None):
        self._executor = executor
        self._is_here = executor is not None and executor.is_local
        self._bytes_min = min(bytes_min, MAPPED_BYTES) if self._is_here and bytes_min is not None else bytes_min
        # By their addresses: the arguments themselves, and what stands for each.
        self._stand_ins = {}
        # What came once.
        self._seen = {}

    def replace(self, args, kwargs):
        if self._bytes_min is None:
            return args, kwargs
        return tuple(map(self._stand_in, args)), {name: self._stand_in(arg) for name, arg in kwargs.items()}

    def _stand_in(self, argument):
        # What is not large by any measure is most.
        if type(argument) in calls.PLAIN or size_of(argument) < self._bytes_min:
            return argument
        known = self._stand_ins.get(id(argument))
        if known is not None:
            return known[1]
        if len(self._stand_ins) >= STAND_INS_MAX:
            return argument
        if self._is_here:
            stand_in = map_argument(argument)
        elif self._has_come(argument):
            stand_in = self._executor._client.submit(calls.same, argument)
        else:
            return argument
        self._stand_ins[id(argument)] = argument, stand_in
        return stand_in

    def _has_come(self, argument):
        seen = self._seen.get(id(argument))
        if seen is not None and seen() is argument:
            return True
        try:
            self._seen[id(argument)] = weakref.ref(argument)
        except TypeError:
            # It cannot be told from another that lies there later.
            pass
        return False


def map_argument(argument):
    """What stands for an argument in a memory file; the argument itself if it cannot be there."""
    try:
        parts = dump_object(argument)
    except Exception:
        return argument
    # What is of the main program is not known elsewhere by its name.
    return argument if b"__main__" in parts[1] else Mapped(write_memory(parts))


class Mapped:
    """An object in a memory file of this process, which is there as long as this is."""

    def __init__(self, memory):
        self._path = f"/proc/{os.getpid()}/fd/{memory}"
        weakref.finalize(self, os.close, memory).atexit = False

    def __reduce__(self):
        return calls.load_mapped, (self._path,)


def do_batch(batch, backend, n_jobs):
    with parallel_config(backend=backend, n_jobs=n_jobs):
        return [function(*args, **kwargs) for function, args, kwargs in batch]


def keep_executor(n_jobs, variables):
    """An executor of so many processes with these variables: the one that is kept, if it is such."""
    global _kept, _kept_for
    wanted = n_jobs, tuple(sorted(variables.items())), os.getpid()
    with _keeping:
        if _kept is None or _kept_for != wanted or not _kept.is_usable:
            if _kept is not None:
                _kept.shutdown(wait=False)
            _kept = Executor(n_jobs, initializer=calls.set_variables, initargs=(variables,))
            _kept_for = wanted
        return _kept


register_parallel_backend("dagmar", Backend)
