"""docs/coming-from-python.md: programs before and after print the same."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "coming-from-python.md"
# What the page says of each tool: its name there, and the module that the program before imports.
MODULES = {"multiprocessing.Pool": "multiprocessing", "joblib": "joblib", "distributed": "distributed", "dask-jobqueue": None,
           "dask-mpi": "dask_mpi", "mpi4py.futures": "mpi4py", "ipyparallel": "ipyparallel", "Luigi": "luigi"}


def programs():
    """The programs before and after, by tool."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        blocks = dict(re.findall(r"```python (before|after)\n(.*?)```", section, re.DOTALL))
        found[section.partition("\n")[0]] = blocks
    return found


def run(tmp_path, text, command=(sys.executable,)):
    (tmp_path / "script.py").write_text(text)
    done = subprocess.run([*command, "script.py"], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_tools_are_there():
    assert list(programs()) == list(MODULES)
    assert all(set(blocks) == {"before", "after"} for blocks in programs().values())


@pytest.mark.parametrize("tool", [tool for tool, module in MODULES.items() if module])
def test_both_print_the_same(tmp_path, tool):
    blocks = programs()[tool]
    if importlib.util.find_spec("joblib" if tool == "joblib" else "dagmar") is None:
        pytest.skip("needs joblib")
    after = run(tmp_path, blocks["after"])
    assert after.strip()
    if tool in ("multiprocessing.Pool", "joblib", "distributed") and importlib.util.find_spec(MODULES[tool]):
        assert run(tmp_path, blocks["before"]) == after
    else:
        compile(blocks["before"], tool, "exec")


@pytest.mark.parametrize("tool", ["multiprocessing.Pool", "dask-mpi", "mpi4py.futures"])
def test_the_script_is_the_client_of_a_run(tmp_path, tool):
    after = programs()[tool]["after"]
    assert run(tmp_path, after, (os.environ.get("DAGMAR", "dagmar"), "run")) == run(tmp_path, after)


def test_a_cluster_has_the_names_of_dask_jobqueue(tmp_path):
    after = programs()["dask-jobqueue"]["after"]
    shown = after.replace("client = Client(cluster)", "print(cluster.job_script())")
    assert shown != after
    script = run(tmp_path, shown)
    for part in ("--partition=short", "--account=p1", "--nodes=4", "module load python", "2:00:00"):
        assert part in script, script
