"""The way from a client to rank 0: tasks out, what became of them in. Rust's side is `src/runtime/serving`.

A client numbers its tasks in the order in which it submits them. What it knows of each is a `State`; whoever
uses one holds it, and says `release` once that is over.
"""

import json
import logging
import pickle
import socket
import struct
import threading
from array import array
from collections import deque

from . import child
from .failure import Cancelled, Disconnected, Killed, OutOfMemory, RemoteTraceback, TaskFailed, TimedOut

PENDING, FINISHED, FAILED, CANCELLED = range(4)
LENGTH = struct.Struct("<Q")
FETCH = struct.Struct("<cI")
VALUE_HEAD = struct.Struct("<cIB")
# Pieces from here on are written one by one rather than put together first.
LARGE_BYTES = 64 * 1024
# What has no form that Python knows.
NO_FORM = 255
# The version of what is said here: rank 0 says its own first.
VERSION = 1
# What kinds of failures are called here.
KINDS = {b"K": Killed, b"M": OutOfMemory, b"T": TimedOut}
# What no task has.
NO_NUMBER = (1 << 32) - 1


class State:
    """What is known of a task."""

    __slots__ = ("number", "status", "value", "error", "on_end", "is_fetched", "on_value", "holders")

    def __init__(self):
        self.number = None
        self.status = PENDING
        # The form and the bytes of its output, once they were fetched.
        self.value = None
        self.error = None
        # Called once it has ended, and once its output is here; from the thread that listens.
        self.on_end = None
        self.on_value = None
        self.is_fetched = False
        # Futures that hold it.
        self.holders = 0

    def load(self):
        """The output. Its arrays may be written to: they lie in what was received for it."""
        form, body = self.value
        if form == NO_FORM:
            raise TypeError("the output is a value of a Rust program, which Python cannot read")
        return child.decode(form, body)


class Submission:
    """Tasks that are sent together."""

    def __init__(self):
        self.names, self.options, self.blocks = [], [], []
        self._names, self._options = {}, {}
        self.name, self.block, self.place, self.option = (array("I") for _ in range(4))
        self.held = bytearray()
        self.counts = array("I")
        # A task of this submission by its place, an earlier one as -1 - its number.
        self.inputs = array("q")
        self.states = []

    def add_block(self, pickled):
        self.blocks.append(pickled)
        return len(self.blocks) - 1

    def name_number(self, name):
        number = self._names.get(name)
        if number is None:
            number = self._names[name] = len(self.names)
            self.names.append(name)
        return number

    def options_number(self, options):
        text = json.dumps(options, sort_keys=True)
        number = self._options.get(text)
        if number is None:
            number = self._options[text] = len(self.options)
            self.options.append(text)
        return number

    def add(self, name, block, place, option, inputs, state=None):
        """Adds a task, which is held if it has a state."""
        self.name.append(name)
        self.block.append(block)
        self.place.append(place)
        self.option.append(option)
        self.held.append(state is not None)
        self.counts.append(len(inputs))
        self.inputs.extend(inputs)
        self.states.append(state)

    def pieces(self, first):
        inputs = array("I", [place + first if place >= 0 else -1 - place for place in self.inputs])
        head = [struct.pack("<c5I", b"S", len(self.name), len(self.blocks), len(self.names), len(self.options),
                            len(inputs))]
        for text in (*self.names, *self.options):
            text = text.encode("utf-8", "replace")
            head.append(struct.pack("<I", len(text)) + text)
        head.append(array("Q", map(len, self.blocks)).tobytes())
        head.extend(column.tobytes() for column in (self.name, self.block, self.place, self.option, self.counts))
        head.append(bytes(self.held))
        head.append(inputs.tobytes())
        return [b"".join(head), *self.blocks]


class Wait:
    """What somebody waits for. Whoever listens looks after it, so that nobody is woken in vain."""

    __slots__ = ("_states", "_left", "_is_done", "over")

    def __init__(self, states, is_done):
        self._states, self._left, self._is_done = states, list(states), is_done
        self.over = threading.Event()

    def look(self, has_failures):
        """Ends it once this is true of all states, or one of them has failed."""
        left = self._left
        while left and self._is_done(left[-1]):
            left.pop()
        if not left or (has_failures and any(state.error is not None for state in self._states)):
            self.over.set()


class Connection:
    """A live run, as its client sees it. All methods may be called from any thread."""

    def __init__(self, stream, on_lost=None):
        self._stream = stream
        self._sending = threading.Lock()
        self._next = 0
        self._states = {}
        self._errors = {}
        self._released = deque()
        self._on_lost = on_lost
        self.lost = None
        self._is_closing = False
        self._slots = None
        # Outputs that clients have named, this one or those before it: the number of each.
        self._names = {}
        # Set once that is known, or never will be.
        self._greeted = threading.Event()
        self._waits = []
        self._waiting = threading.Lock()
        self._listener = threading.Thread(target=self._listen, name="dagmar", daemon=True)
        self._listener.start()

    @property
    def slots(self):
        """How many tasks of one core run at once, as rank 0 says first of all."""
        self._await_greeting()
        return self._slots

    def _await_greeting(self):
        self._greeted.wait()
        if self._slots is None:
            raise self.lost

    def submit(self, submission, fetched=()):
        """Sends tasks, and fetches the outputs of those of them at these places."""
        # Rank 0 says from where its tasks are numbered.
        self._greeted.wait()
        with self._sending:
            if self.lost is not None:
                raise self.lost
            first = self._next
            self._next += len(submission.name)
            for number, state in enumerate(submission.states, first):
                if state is not None:
                    state.number = number
                    self._states[number] = state
            for place in fetched:
                submission.states[place].is_fetched = True
            wanted = [[FETCH.pack(b"F", first + place)] for place in fetched]
            self._send(submission.pieces(first), *wanted, *self._released_frames())

    def fetch(self, states):
        """Asks for these outputs, unless that was done."""
        with self._sending:
            wanted = [state for state in states if not state.is_fetched and state.status in (PENDING, FINISHED)]
            for state in wanted:
                state.is_fetched = True
            self._send(*([FETCH.pack(b"F", state.number)] for state in wanted))

    def name(self, name, state):
        """Has an output found by this name, also by later clients of the run; by none any more if there is no state."""
        number = NO_NUMBER if state is None else state.number
        with self._sending:
            if self.lost is not None:
                raise self.lost
            self._send([struct.pack("<cI", b"N", number) + name.encode()])
            before = self._states.get(self._names.pop(name, None))
            if state is not None:
                self._names[name] = number
            if before is not None and before.holders <= 0:
                # It was kept for its name alone.
                before.holders = 1
                self._released.append(before)

    @property
    def names(self):
        """What has names. Waits until rank 0 has said which there are."""
        self._await_greeting()
        return sorted(self._names)

    def named(self, name):
        """The state of an output that has this name."""
        self._await_greeting()
        with self._sending:
            return self._states[self._names[name]]

    @property
    def is_needed(self):
        """True if something would be lost if the run ended now: outputs with names, or tasks that have not ended."""
        return bool(self._names) or any(state.status == PENDING for state in list(self._states.values()))

    def release(self, state):
        """Holds an output no longer. Said to rank 0 with what is said next, as this may be called anywhere."""
        self._released.append(state)

    def _released_frames(self):
        named = set(self._names.values())
        numbers = array("I")
        while self._released:
            state = self._released.popleft()
            state.holders -= 1
            if state.holders <= 0 and state.number is not None and state.number not in named:
                self._states.pop(state.number, None)
                numbers.append(state.number)
        return [[b"R" + numbers.tobytes()]] if numbers else []

    def cancel(self, states):
        """Tells whoever waits for these that they are cancelled, unless they have ended."""
        ends = []
        for state in states:
            if state.status == PENDING:
                state.status, state.error = CANCELLED, Cancelled("it was cancelled")
                ends.append(state.on_end)
        self._tell(ends, has_failures=True)

    def flush(self):
        """Says what waits to be said."""
        if self._released and self.lost is None:
            with self._sending:
                self._send(*self._released_frames())

    def close(self):
        """Tells rank 0 that nothing more comes, and waits until the run is over."""
        self._is_closing = True
        with self._sending:
            if self.lost is None:
                self._send([b"C"])
        self._listener.join()
        self._stream.close()

    def wait_for(self, states, is_done, timeout=None):
        """Waits until this is true of all of them, or one has failed; False once the time is over."""
        wait = Wait(states, is_done)
        with self._waiting:
            wait.look(has_failures=True)
            if wait.over.is_set():
                return True
            self._waits.append(wait)
        try:
            return wait.over.wait(timeout)
        finally:
            with self._waiting:
                self._waits.remove(wait)

    def _send(self, *frames):
        """Sends frames, each of which is given in pieces, with as few calls as their sizes allow."""
        small = []
        try:
            for pieces in frames:
                small.append(LENGTH.pack(sum(map(len, pieces))))
                for piece in pieces:
                    if len(piece) < LARGE_BYTES:
                        small.append(piece)
                        continue
                    self._stream.sendall(b"".join(small))
                    self._stream.sendall(piece)
                    small = []
            if small:
                self._stream.sendall(b"".join(small))
        except OSError as error:
            raise Disconnected("dagmar is gone") from error

    def _listen(self):
        stream = self._stream.makefile("rb", 1 << 18)
        why = None
        try:
            while True:
                length = stream.read(LENGTH.size)
                if len(length) < LENGTH.size:
                    why = why or Disconnected("dagmar ended before the run was over")
                    break
                (length,) = LENGTH.unpack(length)
                frame = stream.read(min(length, VALUE_HEAD.size))
                if frame[:1] == b"V":
                    # By itself, so that arrays are aligned, and their owner may write to them.
                    value = bytearray(length - len(frame))
                    if stream.readinto(value) == len(value):
                        self._receive(frame, value)
                    continue
                frame += stream.read(length - len(frame))
                if frame[:1] == b"Z":
                    told = str(frame[1:], "utf-8", "replace")
                    why = Disconnected("the client was closed" if self._is_closing else f"the run is over: {told}")
                    break
                if frame[:1] == b"N":
                    why = Disconnected("the run does not serve this client: " + str(frame[1:], "utf-8", "replace"))
                    break
                if frame[:1] == b"H" and not self._be_greeted(frame):
                    why = Disconnected("the program `dagmar` is not of the same version as this package: install both anew")
                    break
                self._hear(frame)
        except OSError as error:
            why = Disconnected(f"dagmar cannot be heard any more: {error}")
        except Exception as error:
            # Nobody else would tell those who wait.
            why = Disconnected(f"what dagmar says cannot be understood: {error!r}")
        stream.close()
        self._lose(why)

    def _receive(self, head, value):
        """Takes an output."""
        _, number, form = VALUE_HEAD.unpack(head)
        state = self._states.get(number)
        if state is not None:
            state.value = (form, memoryview(value))
            ends = [state.on_end, state.on_value] if state.status == PENDING else [state.on_value]
            state.status = FINISHED
            self._tell(ends, has_failures=False)

    def _hear(self, frame):
        kind, ends = frame[:1], []
        if kind == b"F":
            for number in array("I", frame[1:]):
                state = self._states.get(number)
                if state is not None and state.status == PENDING:
                    state.status = FINISHED
                    ends.append(state.on_end)
        elif kind == b"E":
            number, key, why, kind = struct.unpack_from("<QIIc", frame, 1)
            texts = 18 + key
            key, pickled = str(frame[18:texts], "utf-8"), frame[texts + why:]
            why = str(frame[texts:texts + why], "utf-8", "replace")
            error = self._errors[number] = exception(kind, key, why, pickled)
            ends.append(self._fail(number, error))
        elif kind == b"A":
            number, because = struct.unpack_from("<IQ", frame, 1)
            error = self._errors.get(because) or Cancelled("a task that it depends on was cancelled")
            ends.append(self._fail(number, error))
        elif kind == b"X":
            state = self._states.get(struct.unpack_from("<I", frame, 1)[0])
            if state is not None and state.status == PENDING:
                state.status, state.error = CANCELLED, Cancelled("it was cancelled")
                ends.append(state.on_end)
        elif kind == b"B":
            first, count = struct.unpack_from("<II", frame, 1)
            error = TaskFailed("the tasks cannot run: " + str(frame[9:], "utf-8", "replace"))
            ends.extend(self._fail(number, error) for number in range(first, first + count))
        self._tell(ends, has_failures=kind in b"EAXB")

    def _be_greeted(self, frame):
        """Takes in what rank 0 says first. False if it says that in another version of this."""
        if len(frame) < 13 or struct.unpack_from("<I", frame, 1) != (VERSION,):
            return False
        self._slots, self._next = struct.unpack_from("<II", frame, 5)
        at = 13
        while at < len(frame):
            number, length = struct.unpack_from("<II", frame, at)
            at += 8
            self._names[str(frame[at:at + length], "utf-8")] = number
            # What became of them is said next.
            state = self._states[number] = State()
            state.number = number
            at += length
        self._greeted.set()
        return True

    def _fail(self, number, error):
        state = self._states.get(number)
        if state is None or state.status != PENDING:
            return None
        state.status, state.error = FAILED, error
        return state.on_end

    def _lose(self, why):
        with self._sending:
            self.lost = why
        self._greeted.set()
        ends = []
        for state in list(self._states.values()):
            if state.status == PENDING or (state.is_fetched and state.value is None):
                state.status, state.error = FAILED, why
                ends.extend((state.on_end, state.on_value))
        self._tell(ends, has_failures=True)
        if self._on_lost is not None:
            self._on_lost(why)

    def _tell(self, ends, has_failures):
        with self._waiting:
            for wait in self._waits:
                wait.look(has_failures)
        for end in ends:
            if end is not None:
                try:
                    end()
                except Exception:
                    # As `concurrent.futures` has it: whoever asked to be called is told, and nobody else is concerned.
                    logging.getLogger("dagmar").exception("what was to be called at the end of a task failed")


def exception(kind, key, why, pickled):
    """What a task raised, as it was raised there if it can be read here."""
    if pickled:
        try:
            error, text = pickle.loads(pickled)
            error.__cause__ = RemoteTraceback(key, text)
            return error
        except Exception:
            pass
    return KINDS.get(kind, TaskFailed)(f"`{key}` {why}")


def listen_at(path):
    """A socket at which one client's rank 0 arrives."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    return listener
