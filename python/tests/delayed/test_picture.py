"""Pictures of graphs."""

import os
import stat

import pytest
from numbers_module import inc

import dagmar
from dagmar import delayed


@pytest.fixture
def without_dot(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)


@pytest.fixture
def with_dot(tmp_path, monkeypatch):
    """A program that stands for Graphviz: it gives back the format and what it is to draw."""
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$2"\ncat\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(program.parent) + os.pathsep + os.environ["PATH"])


def test_tasks_are_boxes_and_outputs_are_arrows():
    text = dagmar.visualize(inc(inc(1)), filename=None, format="dot")
    assert text.count('label="inc"') == 2 and "1 -> 0;" in text
    assert 'label="[1, \\"a\\"]"' not in text


def test_names_cannot_leave_their_quotes():
    text = inc(1, dask_key_name='a"];\\').visualize(filename=None, format="dot")
    assert '[label="inc", shape=ellipse]' in text


def test_large_graphs_are_drawn_as_groups():
    text = delayed(sum)([inc(number) for number in range(600)]).visualize(filename=None, format="dot")
    assert '"inc (600)"' in text and '"sum (1)"' in text and text.count("->") == 1


def test_dasks_collections_are_drawn():
    da = pytest.importorskip("dask.array")
    text = dagmar.visualize(da.ones(4, chunks=2).sum(), inc(1), filename=None, format="dot")
    assert 'label="sum-aggregate"' in text and 'label="inc"' in text
    text = dagmar.visualize([da.ones(1000, chunks=1).sum()], filename=None, format="dot")
    assert '(1000)"' in text


def test_the_text_is_written_where_nothing_draws(tmp_path, without_dot):
    with pytest.warns(UserWarning, match="no program `dot`.*picture.dot"):
        path = inc(1).visualize(str(tmp_path / "picture.svg"))
    assert path.endswith("picture.dot") and open(path).read().startswith("digraph")
    assert inc(1).visualize(tmp_path / "plain.dot") == str(tmp_path / "plain.dot")


def test_the_picture_is_written(tmp_path, with_dot):
    shown = inc(1).visualize(str(tmp_path / "picture.pdf"))
    assert shown == str(tmp_path / "picture.pdf") and open(shown).read().startswith("pdf\ndigraph")
    inc(1).visualize(str(tmp_path / "other"), format="svg")
    assert (tmp_path / "other.svg").read_text().startswith("svg\n")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        dagmar.visualize([1])
    with pytest.raises(ValueError, match="'gif'"):
        inc(1).visualize(format="gif")
    with pytest.raises(ValueError, match="'up'"):
        inc(1).visualize(filename=None, rankdir="up")
