"""A process that calls functions for a rank, one after the other."""

import importlib
import json
import os
import socket
import struct
import sys
import traceback

from .blocks import Block
from .definition import Surroundings, build
from .live import LiveObjects, lend
from .packets import map_memory, receive, write_memory
from .values import LIVE, OBJECT, decode, describe, dump_exception, encode

# Values up to here travel in the packet.
INLINE_BYTES = 48 * 1024
# Where an input is: in the text of the packet, in a file of its own, or here already, by a number.
IN_TEXT, IN_FILE, HERE = range(3)
CALL = struct.Struct("<QIIIII")
INPUT = struct.Struct("<BBQ")
# Blocks of pickled calls that are kept. The rank counts along, so it must be the same number there.
BLOCKS_KEPT = 64
# What a function returns that leaves its output to further calls, and who knows what those are.
DELAYED, HANDING = "dagmar.delaying", "dagmar.handing"
# Libraries that take long to import, may be forked once they are, and are therefore imported once for all children.
WARM = ("cloudpickle", "numpy", "pandas", "dask", "dask.array", "dask.bag", "dask.dataframe", "scipy", "xarray")
# Where tracebacks say that these files are.
OWN_PLACE = os.path.dirname((lambda: None).__code__.co_filename)


class Child:
    """Calls one function after the other."""

    def __init__(self, way, side):
        self.way = way
        self.live = LiveObjects(side)
        # The last definition that came: a call without one means that.
        self.definition = None
        self.functions = {}
        # Calls that a client pickled, by the number of their block.
        self.blocks = {}
        # Of what takes long to import, what was here when the rank was told last.
        self.warm = set(WARM).intersection(sys.modules)

    def serve(self):
        """Calls until the rank is gone."""
        self.way.send(b"H" + struct.pack("<i", os.getpid()))
        while True:
            packet, descriptors = receive(self.way)
            if not packet:
                # Threads of the user, or what they registered, must not keep it.
                os._exit(0)
            if packet[:1] == b"B":
                self.learn(packet, descriptors)
            elif packet[:1] == b"D":
                self.blocks.pop(struct.unpack_from("<Q", packet, 1)[0], None)
            else:
                self.answer(packet, descriptors)

    def learn(self, packet, descriptors):
        (number,) = struct.unpack_from("<Q", packet, 1)
        self.blocks[number] = Block(map_memory(descriptors[0]) if descriptors else memoryview(packet)[9:])
        if len(self.blocks) > BLOCKS_KEPT:
            del self.blocks[next(iter(self.blocks))]

    def answer(self, packet, descriptors):
        is_value = True
        try:
            value, is_pythons = self.call(packet, descriptors)
            if type(value).__module__ == DELAYED:
                is_value, value = importlib.import_module(HANDING).hand_on(value)
        except BaseException as error:
            failed, pickled = self.failure(error)
            self.fail(failed, pickled)
            return
        if not is_value:
            self.flush()
            self.tell_imports()
            self.send_parts(b"J", b"J", value)
            return
        try:
            form, parts = encode(value, self.live, is_pythons)
        except BaseException as error:
            self.fail({"text": "its value cannot leave its process: " + describe(error)}, b"")
            return
        self.flush()
        self.tell_imports()
        self.give(form, parts)

    def tell_imports(self):
        """Tells the rank of libraries that took long to import: others shall find them imported."""
        warm = self.warm.union(name for name in WARM if name in sys.modules)
        if len(warm) > len(self.warm):
            self.warm = warm
            self.way.send(b"I" + json.dumps(sorted(warm)).encode())

    def fail(self, told, pickled):
        self.flush()
        told = json.dumps(told).encode()
        self.way.send(b"E" + struct.pack("<I", len(told)) + told + pickled)

    def give(self, form, parts):
        if form == LIVE:
            self.way.send(b"L" + struct.pack("<QQ", *parts))
            return
        size = sum(len(part) for part in parts)
        self.send_parts(b"V" + bytes((form,)), b"W" + struct.pack("<BQ", form, size), parts)

    def send_parts(self, head, head_of_file, parts):
        """Sends them behind a head, or in a memory file beside another one if they are large."""
        if sum(len(part) for part in parts) <= INLINE_BYTES:
            self.way.send(b"".join((head, *parts)))
            return
        memory = write_memory(parts)
        try:
            socket.send_fds(self.way, [head_of_file], [memory])
        finally:
            os.close(memory)

    def call(self, packet, descriptors):
        text = memoryview(packet)[1:]
        if packet[:1] == b"M":
            text = map_memory(descriptors.pop())
        block, place_in_block, attempt, key_length, definition_length, count = CALL.unpack_from(text)
        at = CALL.size + key_length
        os.environ["DAGMAR_KEY"] = str(text[CALL.size:at], "utf-8")
        os.environ["DAGMAR_ATTEMPT"] = str(attempt)
        if definition_length:
            self.definition = json.loads(bytes(text[at:at + definition_length]))
        at += definition_length
        table = [INPUT.unpack_from(text, at + place * INPUT.size) for place in range(count)]
        at += count * INPUT.size
        files = iter(descriptors)
        inputs = []
        for form, place, length in table:
            if place == HERE:
                inputs.append(lend(self.live[length]))
                continue
            if place == IN_FILE:
                body = map_memory(next(files))
            else:
                body = text[at:at + length]
                at += length
                if form == OBJECT:
                    # Its arrays may be written to, and begin where calculations like them to.
                    body = memoryview(bytearray(body))
            inputs.append(decode(form, body))
        if block:
            del text, packet
            return self.blocks[block].call(place_in_block, inputs), True
        definition = self.definition
        arguments = [build(argument, inputs, attempt) for argument in definition["arguments"]]
        keywords = {name: build(argument, inputs, attempt) for name, argument in definition["keywords"]}
        # Nothing but the arguments holds them from here on.
        del inputs, text, packet
        with Surroundings(definition, attempt):
            function = self.find(definition)
            return function(*arguments, **keywords), False

    def find(self, definition):
        name = (definition["module"], definition["function"])
        function = self.functions.get(name)
        if function is None:
            place = definition["path"]
            module, function = name
            if module.endswith(".py"):
                place, module = os.path.split(module)
                module = module[:-3]
            if place not in sys.path:
                sys.path.insert(0, place)
            loaded = importlib.import_module(module)
            wanted = definition["module"]
            found = getattr(loaded, "__file__", None)
            if wanted.endswith(".py") and (found is None or not os.path.samefile(found, wanted)):
                raise ImportError(
                    f"`{wanted}` has the name of another module, `{found or module}`: give the file another name"
                )
            for part in function.split("."):
                loaded = getattr(loaded, part)
            function = self.functions[name] = loaded
        return function

    def failure(self, error):
        """What a rank is told of an exception, and the exception itself; the whole traceback goes where the
        function's own errors go."""
        frames = error.__traceback__
        while frames is not None and is_machinery(frames.tb_frame.f_code.co_filename):
            frames = frames.tb_next
        if frames is not None:
            try:
                traceback.print_exception(type(error), error, frames)
            except BaseException:
                pass
        told = {"text": describe(error)}
        entries = traceback.extract_tb(frames) if frames is not None else []
        if entries:
            told["place"] = f"{entries[-1].filename}:{entries[-1].lineno}"
        return told, dump_exception(error, frames)

    def flush(self):
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                # The function closed or replaced it.
                pass


def is_machinery(name):
    """True for files that are on the way to the user's own, and of no interest."""
    return name == importlib.__file__ or os.path.dirname(name) == OWN_PLACE or name.startswith("<frozen importlib")
