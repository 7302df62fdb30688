"""Objects that stay in the process that made them."""

import os
import socket
import struct
import threading

from .packets import map_memory, receive, write_memory
from .values import describe, dump_object, load_object


class LiveObjects:
    """Objects that stay in this process, by number, until their rank lets them go.

    The rank asks for what somebody else wants over a way of its own, which a thread serves: the process may be
    in a call that takes long.
    """

    def __init__(self, side):
        self.side = side
        self.objects = {}
        self.last = 0
        self.is_served = False

    def __getitem__(self, number):
        return self.objects[number]

    def keep(self, value):
        """The number of an object from now on."""
        self.last += 1
        self.objects[self.last] = value
        if not self.is_served:
            self.is_served = True
            threading.Thread(target=self.serve, name="dagmar", daemon=True).start()
        return self.last

    def serve(self):
        while True:
            packet, _ = receive(self.side)
            if not packet:
                return
            number, = struct.unpack_from("<Q", packet, 1)
            if packet[:1] == b"D":
                self.objects.pop(number, None)
            else:
                self.export(number)

    def export(self, number):
        """Writes an object into a memory file, which others may then map, and so does this process."""
        buffers = []
        try:
            parts = dump_object(self.objects[number], buffers)
        except BaseException as error:
            # Whoever takes it is told.
            parts = dump_object(Unpicklable(describe(error)), buffers)
        memory = write_memory(parts)
        try:
            socket.send_fds(self.side, [b"O"], [memory])
            if 2 * sum(buffer.nbytes for buffer in buffers) > sum(map(len, parts)):
                del parts, buffers
                self.objects[number] = load_object(map_memory(os.dup(memory)))
        finally:
            os.close(memory)


def lend(value):
    """An object of this process as an input: what a task does to it in place must not be seen by others."""
    kind = type(value)
    if kind in (list, dict, set):
        return kind(value)
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        value = value.view()
        value.flags.writeable = False
    elif kind.__module__.partition(".")[0] == "pandas" and hasattr(value, "copy"):
        # Its data are copied once somebody writes to them.
        value = value.copy(deep=False)
    return value


class Unpicklable:
    """Stands for an object that cannot leave its process: to read it raises an error that says so."""

    def __init__(self, why):
        self.why = why

    def __reduce__(self):
        return refuse, (self.why,)


def refuse(why):
    raise TypeError("an input cannot leave the process that made it: " + why)
