"""The Python side of a rank: a template that forks children, and the children, which call functions.

A rank starts one interpreter with these files, the *template*, and asks it to fork a *child* for each slot that
calls Python functions. What is imported in a child stays imported, and a new child costs a fork. A child talks
to its rank over a socket of whole packets; what does not fit into one lies in a memory file that goes along.

Standard library only, as it runs in the user's interpreter. Rust's side of it is `src/worker/python`, which
carries these files inside the binary: the two are always of one build. They are called `_dagmar` there, and what is
pickled names them so wherever that is done.
"""

import sys

from .blocks import GraphCall, Input, constant, pickle_apart, pickle_together, resolve
from .live import refuse
from .packets import write_memory
from .template import Template
from .values import decode, dump_object, load_object, pickle_any, size_of

# Nothing else of it is found by name when something is unpickled.
for known in (GraphCall, Input, constant, refuse):
    known.__module__ = "_dagmar"


def serve(control):
    """The life of the template, which begins and ends here."""
    if sys.version_info < (3, 9):
        found = "%d.%d" % sys.version_info[:2]
        control.send(b"N" + ("Python 3.9 or later is needed, and `%s` is %s" % (sys.executable, found)).encode())
        return
    # The rank says where modules are; until then nothing is imported from wherever this happens to be.
    sys.path = [place for place in sys.path if place]
    sys.argv = ["dagmar"]
    control.send(b"R" + sys.executable.encode())
    life = Template(control)
    while life is not None:
        life = life.serve()
