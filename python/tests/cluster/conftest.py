import json
import os
import stat
import sys

import pytest

from dagmar.local import binary

# Stands for a `dagmar` that has a batch system: jobs are processes, and every call of it is noted.
PROGRAM = '''#!{python}
import json, os, socket, subprocess, sys, threading

REAL, FOLDER = {real!r}, {folder!r}
WORD, *REST = sys.argv[1:]


def carry(read, write):
    while data := read(65536):
        while data:
            data = data[write(data):]


def carry_in(stream):
    carry(lambda size: os.read(0, size), stream.send)
    os._exit(0)


def attach():
    how = open(os.path.join(FOLDER, "how")).read()
    if how == "fails":
        print("job-0001: job 17 waits in its queue", file=sys.stderr)
        sys.exit("error: job 17 was cancelled while it waited in its queue")
    if how == "waits":
        sys.stdin.buffer.read()
        return
    path = os.path.join(FOLDER, "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    run = subprocess.Popen(
        [REAL, "run", "--client", path, "--name", "job", "--quiet", "--workers", "1", "--cpus", "2"],
        stdin=subprocess.DEVNULL,
    )
    stream, _ = listener.accept()
    os.unlink(path)
    threading.Thread(target=carry_in, args=(stream,), daemon=True).start()
    carry(stream.recv, lambda data: os.write(1, data))
    run.wait()


with open(os.path.join(FOLDER, "calls"), "a") as file:
    file.write(json.dumps([WORD, *REST]) + "\\n")
if WORD == "attach":
    attach()
elif WORD == "submit" and "--client" in REST:
    if "--queue=nowhere" in REST:
        print("error: the batch system refused: invalid partition `nowhere`", file=sys.stderr)
        sys.exit(6)
    print(json.dumps({{"run": "job-0001", "directory": os.path.join(FOLDER, "job-0001"), "job": "17"}}))
elif WORD != "cancel":
    os.execv(REAL, [REAL, *sys.argv[1:]])
'''


class Batch:
    """What the program that stands for `dagmar` does, and was asked to."""

    def __init__(self, folder):
        self._folder = folder
        self.attaching("works")

    def attaching(self, how):
        (self._folder / "how").write_text(how)

    def calls(self, word):
        lines = (self._folder / "calls").read_text().splitlines() if (self._folder / "calls").exists() else []
        return [rest for found, *rest in map(json.loads, lines) if found == word]


@pytest.fixture
def batch(tmp_path, monkeypatch):
    program = tmp_path / "dagmar"
    program.write_text(PROGRAM.format(python=sys.executable, real=binary(), folder=str(tmp_path)))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("DAGMAR", str(program))
    monkeypatch.setenv("DAGMAR_PYTHON", os.environ.get("DAGMAR_PYTHON", sys.executable))
    monkeypatch.chdir(tmp_path)
    return Batch(tmp_path)
