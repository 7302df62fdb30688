"""What can go wrong with tasks besides what they raise themselves."""

import concurrent.futures


class TaskFailed(RuntimeError):
    """A task failed otherwise than by an exception that can be raised here: it was killed, took too long, asks for
    more than any worker has."""


class Killed(TaskFailed):
    """The process of a task ended before the task did, or was ended: its function has not raised anything."""


class OutOfMemory(Killed, MemoryError):
    """A task took more memory than it may, or the system ended its process for want of memory."""


class TimedOut(TaskFailed, TimeoutError):
    """A task took longer than its `timeout`."""


class Cancelled(concurrent.futures.CancelledError):
    """A task was cancelled, or one that it depends on."""


class Disconnected(concurrent.futures.BrokenExecutor):
    """The run is over, and what was waited for will not come."""


class RemoteTraceback(Exception):
    """Where an exception was raised: the traceback of the process in which it was."""

    def __init__(self, key, text):
        super().__init__(key, text)
        self.key, self.text = key, text

    def __str__(self):
        return f"in task `{self.key}`\n\n{self.text}"
