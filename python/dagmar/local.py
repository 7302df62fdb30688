"""Live runs for a client: the one that started this script, or a process of the `dagmar` binary on this machine,
whose threads are the ranks.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile

from .connection import Connection, listen_at
from .options import check_count

# How long the binary may take to start.
STARTING_S = 60
# Bytes of the path of a Unix socket at most.
SOCKET_PATH_MAX = 107


def binary():
    """The path of the `dagmar` binary: what `DAGMAR` names, or beside this interpreter, on the path, or built in the
    sources that this package is used from."""
    named = os.environ.get("DAGMAR")
    if named:
        if shutil.which(named) is None:
            raise FileNotFoundError(f"the variable `DAGMAR` names `{named}`, and there is no such program")
        return named
    beside = os.path.join(os.path.dirname(sys.executable), "dagmar")
    # This package lies in the sources, where cargo leaves the binary as well.
    sources = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    built = os.path.join(sources, "target", "release", "dagmar")
    is_built = os.path.exists(os.path.join(sources, "Cargo.toml")) and os.access(built, os.X_OK)
    found = beside if os.access(beside, os.X_OK) else shutil.which("dagmar") or (built if is_built else None)
    if found is None:
        raise FileNotFoundError(
            "there is no program `dagmar`: build it with `cargo build --release` and put it on the path, or "
            "name it in the variable `DAGMAR`"
        )
    return found


# Where `dagmar run script.py` says that its run is.
GIVEN = "DAGMAR_CLIENT"

_given = None


def is_given():
    """True if this script was started by a run."""
    return _given is not None or GIVEN in os.environ


def find_runtime(workers, cpus, name):
    """The run that this script was started by, unless other workers are asked for; else a new one."""
    global _given
    check_count("n_workers", workers)
    check_count("threads_per_worker", cpus)
    if not is_given() or workers is not None or cpus is not None:
        return LocalRuntime(*local_shape(workers, cpus), name)
    if _given is None:
        _given = GivenRuntime(os.environ[GIVEN])
        # A run has one client at a time: programs that this one starts are not its clients.
        del os.environ[GIVEN]
    return _given


def local_shape(workers, cpus):
    """How many workers there are on this machine, and how many cores each has."""
    workers = workers or 1
    return workers, cpus or max(1, len(os.sched_getaffinity(0)) // workers)


class GivenRuntime:
    """The run whose client this script is. It ends with the script."""

    is_local = False

    def __repr__(self):
        return "the run that started this program"

    def __init__(self, path):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(path)
        self.connection = Connection(stream)

    def close(self):
        """Does nothing: other clients of this script may have outputs there, and the run notices its end."""

    def shutdown(self):
        self.connection.close()


class LocalRuntime:
    """Ranks on this machine, and the connection to them."""

    is_local = True

    def __repr__(self):
        return "a run on this machine"

    def __init__(self, workers=1, cpus=None, name=None, options=()):
        directory, path = socket_place()
        try:
            listener = listen_at(path)
            command = [binary(), "run", "--client", path, "--name", name or script_name(), "--quiet",
                       "--workers", str(workers), *options]
            if cpus is not None:
                command += ["--cpus", str(cpus)]
            environment = dict(os.environ)
            environment.setdefault("DAGMAR_PYTHON", sys.executable)
            environment["PYTHONPATH"] = os.pathsep.join(sys.path)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
            stream = self._accept(listener)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self.connection = Connection(stream)

    def _accept(self, listener):
        with listener:
            listener.settimeout(0.05)
            for _ in range(STARTING_S * 20):
                try:
                    stream, _ = listener.accept()
                    stream.settimeout(None)
                    return stream
                except socket.timeout:
                    code = self.process.poll()
                    if code is not None:
                        raise RuntimeError(f"dagmar ended as soon as it was started, with code {code}") from None
        self.process.kill()
        raise TimeoutError(f"dagmar did not start within {STARTING_S} s")

    def close(self):
        self.connection.close()
        self.process.wait()

    shutdown = close


def socket_place():
    """A new folder that nobody else may enter, and the path of a socket in it."""
    directory = tempfile.mkdtemp(prefix="dagmar-")
    if len(os.fsencode(os.path.join(directory, "client"))) > SOCKET_PATH_MAX:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="dagmar-", dir="/tmp")
    return directory, os.path.join(directory, "client")


def script_name():
    """What the run is called: as the script that is running."""
    name = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    if name == "ipykernel_launcher":
        return "notebook"
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)
    return plain.strip("-") or "python"
