"""Runs in jobs: a process of the binary carries what a client and rank 0 say to each other."""

import socket
import subprocess
import tempfile

from .connection import Connection
from .failure import Disconnected
from .local import binary

# How long that process may take to end, once there is nothing more to carry.
ENDING_S = 10


class AttachedRuntime:
    """The way to a run in a job. While the job waits in its queue, whoever submits something waits too."""

    is_local = False

    def __repr__(self):
        return f"run {self._run!r}"

    def __init__(self, run):
        self._run = run
        self._stream, there = socket.socketpair()
        errors = tempfile.TemporaryFile()
        with there:
            # By itself, as Ctrl-C in a terminal is meant for this process.
            self.process = subprocess.Popen(
                [binary(), "attach", run], stdin=there, stdout=there, stderr=errors, start_new_session=True
            )
        self.connection = AttachedConnection(self._stream, self.process, errors)

    @property
    def has_begun(self):
        """True once rank 0 has answered."""
        return self.connection.has_begun

    def close(self):
        """Leaves the run as it is."""
        self.connection.detach()
        self._reap()

    def shutdown(self):
        """Ends the run, and waits for its end."""
        self.connection.close()
        self._reap()

    def _reap(self):
        try:
            self.process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class AttachedConnection(Connection):
    """A connection by way of a process, which says why there is none."""

    def __init__(self, stream, process, errors):
        self._process, self._stderr = process, errors
        self._is_detaching = False
        super().__init__(stream)

    @property
    def has_begun(self):
        return self._slots is not None

    def detach(self):
        """Says nothing more, and hears nothing."""
        self._is_detaching = True
        try:
            self._stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The other side has ended before.
            pass
        self._listener.join()
        self._stream.close()

    def _lose(self, why):
        super()._lose(self._explained(why))

    def _explained(self, why):
        if self._is_detaching:
            return Disconnected("the client was closed")
        try:
            code = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return why
        self._stderr.seek(0)
        said = reason_in(self._stderr.read().decode("utf-8", "replace"))
        if code == 0 or not said:
            return why
        return Disconnected(f"{why}: {said}" if self.has_begun else f"the run cannot be reached: {said}")


def reason_in(text):
    """Why a command failed, of all that it printed."""
    _, mark, reason = ("\n" + text).rpartition("\nerror: ")
    return reason.strip() if mark else text.strip()
