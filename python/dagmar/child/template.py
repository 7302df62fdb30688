"""The process from which all others that call functions are forked."""

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys

from .caller import Child
from .packets import receive

# What says how many threads libraries calculate with.
THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Template:
    """Forks children, tells each one's rank how it ended, and sends them signals.

    A process number is free for others once its child was waited for, which only happens here: so nobody else
    can be hit by mistake.
    """

    def __init__(self, control):
        self.control = control
        # The socket of each child, to tell of its end.
        self.children = {}
        self.bell, self.rope = os.pipe()
        for descriptor in (self.bell, self.rope):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.rope)

    def serve(self):
        """Returns what a forked process shall be, in that one, and nothing once the rank is gone."""
        poll = select.poll()
        poll.register(self.control.fileno(), select.POLLIN)
        poll.register(self.bell, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self.bell:
                    self.reap()
                    continue
                packet, descriptors = receive(self.control)
                if not packet:
                    return None
                if packet[:1] == b"S":
                    self.signal(*struct.unpack_from("<ii", packet, 1))
                    continue
                request = json.loads(bytes(packet[1:]))
                if packet[:1] == b"T":
                    forked = self.fork_template(request, descriptors[0])
                else:
                    forked = self.fork(request, descriptors)
                if forked is not None:
                    return forked

    def fork_template(self, modules, control):
        """Another template, which has imported what children need. To import that takes longer than to fork."""
        control = socket.socket(fileno=control)
        try:
            pid = os.fork()
        except OSError:
            pid = None
        if pid != 0:
            control.close()
            return None
        self.leave()
        # One thread alone may fork: libraries that start some for calculations are told not to.
        os.environ.update((name, "1") for name in THREAD_COUNTS)
        for module in modules:
            try:
                importlib.import_module(module)
            except Exception:
                # Whoever needs it is told.
                pass
        if len(os.listdir("/proc/self/task")) > 1:
            control.send(b"N" + b"what it imports starts threads")
            os._exit(0)
        gc.collect()
        gc.freeze()
        control.send(b"R" + sys.executable.encode())
        return Template(control)

    def leave(self):
        """Lets go of all that is the template's, in a process that it has forked."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Nobody else's way may stay open here, or its other end would not see that it is gone.
        self.control.close()
        for other in self.children.values():
            other.close()
        os.close(self.bell)
        os.close(self.rope)

    def fork(self, kind, descriptors):
        way, side, stdout, stderr = descriptors
        way, side = socket.socket(fileno=way), socket.socket(fileno=side)
        try:
            pid = os.fork()
        except OSError as error:
            print("dagmar: no Python process could be forked:", error, file=sys.stderr)
            pid = None
        if pid != 0:
            os.close(stdout)
            os.close(stderr)
            side.close()
            if pid is None:
                # The rank sees that the way is closed.
                way.close()
            else:
                self.children[pid] = way
            return None
        self.leave()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((nothing, 0), (stdout, 1), (stderr, 2)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.update(kind["environment"])
        if kind["cpus"]:
            os.sched_setaffinity(0, kind["cpus"])
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)
        return Child(way, side)

    def signal(self, pid, number):
        if pid in self.children:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                # It is between the fork and a session of its own.
                os.kill(pid, number)

    def reap(self):
        try:
            os.read(self.bell, 4096)
        except BlockingIOError:
            pass
        # Another template may have ended as well, of which nobody is told.
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            way = self.children.pop(pid, None)
            if way is None:
                continue
            try:
                # What it left behind in its session has nobody to report to.
                os.killpg(pid, signal.SIGKILL)
            except OSError:
                pass
            try:
                way.send(b"X" + struct.pack("<iQ", status, usage.ru_maxrss * 1024))
            except OSError:
                # Nobody waits for it any more.
                pass
            way.close()
