"""The package, and where it finds the program."""

import stat
from pathlib import Path

import pytest

import dagmar
from dagmar import local

SOURCES = Path(__file__).parents[3]


def version_in(path):
    lines = path.read_text().splitlines()
    return next(line for line in lines if line.startswith("version = "))


def test_the_versions_are_one():
    version = version_in(SOURCES / "Cargo.toml")
    assert version_in(SOURCES / "python" / "pyproject.toml") == version == f'version = "{dagmar.__version__}"'


def test_all_that_is_named_is_there():
    for name in dagmar.__all__:
        assert getattr(dagmar, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing_like_that"):
        dagmar.nothing_like_that


def test_a_program_that_the_variable_names_is_missed(monkeypatch):
    monkeypatch.setenv("DAGMAR", "/nonexistent/dagmar")
    with pytest.raises(FileNotFoundError, match="the variable `DAGMAR` names `/nonexistent/dagmar`"):
        dagmar.Client()


def test_the_program_is_found_in_the_sources(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGMAR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    monkeypatch.setattr(local, "__file__", str(tmp_path / "python" / "dagmar" / "local.py"))
    with pytest.raises(FileNotFoundError, match="cargo build --release.*DAGMAR"):
        local.binary()
    built = tmp_path / "target" / "release" / "dagmar"
    built.parent.mkdir(parents=True)
    built.touch()
    built.chmod(built.stat().st_mode | stat.S_IEXEC)
    (tmp_path / "Cargo.toml").touch()
    assert local.binary() == str(built)
    named = tmp_path / "named"
    built.rename(named)
    monkeypatch.setenv("DAGMAR", str(named))
    assert local.binary() == str(named)
