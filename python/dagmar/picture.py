"""Pictures of graphs, before they are computed."""

import os
import shutil
import subprocess
import sys
import warnings
from collections import Counter

from . import graphs
from .computing import has_foreign, joint_graph, needed, take_apart
from .delaying import Held, Value

# Graphs of more tasks are drawn as groups of tasks of one name.
TASKS_MAX = 500
# Letters of a task's name that are shown.
LABEL_MAX = 60
FORMATS = ("png", "svg", "pdf", "dot", "jpg", "jpeg")


def visualize(*things, filename="dagmar", format=None, optimize_graph=False, traverse=True, rankdir="BT"):
    """Draws the graph of delayed objects and of Dask collections into the file `filename`.

    The format is `format`, or what the file's name ends with, or `png`; `dot` is the text that others are made of.
    With `filename=None` nothing is written. `rankdir` is where arrows point: `BT`, `TB`, `LR` or `RL`. Graphs of more
    than 500 tasks are drawn as groups: the name of the tasks, and how many there are.

    Returns a picture that a notebook shows, else the path; with `filename=None` and outside of notebooks the
    text. It is drawn by the program `dot` of Graphviz, on the path or beside this interpreter; without it the `.dot`
    file is written, with a warning. Raises `ValueError` if nothing is delayed, or there is no such format.
    """
    path, format = split_name(filename, format)
    text = dot_text(*boxes_and_arrows(things, traverse, optimize_graph), rankdir)
    if format == "dot":
        return text if path is None else write(path + ".dot", text.encode())
    drawn = render(text, format)
    if drawn is None:
        warnings.warn(
            f"there is no program `dot` here (it is of Graphviz), so the graph is not drawn as {format}"
            + ("" if path is None else f": its text is in `{path}.dot`"),
            stacklevel=2,
        )
        return text if path is None else write(path + ".dot", text.encode())
    written = None if path is None else write(f"{path}.{format}", drawn)
    return shown(drawn, format) or written or text


def split_name(filename, format):
    """The path without its ending, and the format."""
    path = None if filename is None else os.fspath(filename)
    start, end = os.path.splitext(path or "")
    if end[1:].lower() in FORMATS:
        path, found = start, end[1:].lower()
        format = format or found
    format = format or "png"
    if format not in FORMATS:
        raise ValueError(f"graphs are not drawn as {format!r}: there are " + ", ".join(FORMATS))
    return path, format


def boxes_and_arrows(things, traverse, optimize_graph):
    """The boxes of a picture (label and shape) by their names, and its arrows."""
    found, _ = take_apart(things, traverse)
    if not found:
        raise ValueError("nothing of what was given is delayed")
    wanted = list(found.values())
    order = needed(wanted)
    if has_foreign(order):
        graph, _ = joint_graph(wanted, order, optimize_graph)
        boxes, arrows = of_dask(graph)
    else:
        boxes, arrows = of_tasks(order)
    return (boxes, arrows) if len(boxes) <= TASKS_MAX else grouped(boxes, arrows)


def of_tasks(order):
    order = list({task.key: task for task in order}.values())
    boxes = {task.key: (task._name, shape_of(task)) for task in order}
    return boxes, [(source.key, task.key) for task in order for source in task._inputs]


def shape_of(task):
    return "box" if isinstance(task, (Value, Held)) else "ellipse"


def of_dask(graph):
    from dask._task_spec import DataNode

    boxes, arrows = {}, []
    for key, node in graph.items():
        sources = getattr(node, "dependencies", ())
        boxes[key] = graphs.name_of(key), "box" if isinstance(node, DataNode) else "ellipse"
        arrows.extend((source, key) for source in sources)
    return boxes, arrows


def grouped(boxes, arrows):
    """Groups of boxes of one label, which says how many they are."""
    counts = Counter(boxes.values())
    names = {box: (label_without_token(box[0]), box[1]) for box in counts}
    totals = Counter()
    for box, count in counts.items():
        totals[names[box]] += count
    groups = {group: (f"{group[0]} ({total})", group[1]) for group, total in totals.items()}
    of = {key: names[box] for key, box in boxes.items()}
    return groups, sorted({(of[source], of[target]) for source, target in arrows if source in of and target in of})


def label_without_token(label):
    """The words of a key without what makes it unique."""
    parts = label.split("-")
    while len(parts) > 1 and (parts[-1].isdigit() or is_token(parts[-1])):
        parts.pop()
    return "-".join(parts)


def is_token(part):
    return len(part) >= 12 and all(letter in "0123456789abcdef" for letter in part)


def dot_text(boxes, arrows, rankdir="BT"):
    """A graph in the language of `dot`."""
    if rankdir not in ("BT", "TB", "LR", "RL"):
        raise ValueError(f"arrows do not point {rankdir!r}: there are BT, TB, LR, RL")
    numbers = {name: number for number, name in enumerate(boxes)}
    lines = ["digraph dagmar {", f"  rankdir={rankdir};", '  node [fontname="sans-serif"];']
    for name, (label, shape) in boxes.items():
        label = label_without_token(label)
        label = label if len(label) <= LABEL_MAX else label[: LABEL_MAX - 3] + "..."
        lines.append(f"  {numbers[name]} [label={quoted(label)}, shape={shape}];")
    for source, target in arrows:
        if source in numbers and target in numbers:
            lines.append(f"  {numbers[source]} -> {numbers[target]};")
    return "\n".join((*lines, "}", ""))


def quoted(text):
    for letter, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", " ")):
        text = text.replace(letter, written)
    return f'"{text}"'


def render(text, format):
    """The picture in bytes; None if there is nothing here that draws it."""
    beside = os.path.dirname(sys.executable)
    program = shutil.which("dot") or shutil.which("dot", path=beside)
    if program is None:
        return None
    done = subprocess.run([program, "-T", format], input=text.encode(), capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"`dot` cannot draw the graph: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    return path


def shown(drawn, format):
    """What a notebook shows; None where there is none."""
    if format not in ("png", "svg", "jpg", "jpeg"):
        return None
    try:
        from IPython.display import SVG, Image
    except ImportError:
        return None
    return SVG(data=drawn) if format == "svg" else Image(data=drawn)
