"""Options of tasks, as people write them."""

import datetime
import time

import pytest
from numbers_module import inc

import dagmar
from dagmar import delayed
from dagmar.options import read_options, seconds, size


@pytest.mark.parametrize(
    "text, bytes", [("2GB", 2 * 10**9), ("2GiB", 2 << 30), ("2 g", 2 << 30), ("1.5KiB", 1536), ("17b", 17),
                    (4096, 4096), ("500MB", 500 * 10**6)]
)
def test_sizes_are_read(text, bytes):
    assert size(text) == bytes


@pytest.mark.parametrize("text", ["", "GB", "-1MB", "2XB", "1e3MB", -1, None, True, float("nan"), "99999999PB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="`memory` cannot be"):
        size(text)


@pytest.mark.parametrize(
    "text, expected", [("10m", 600), ("1h 30m", 5400), ("500ms", 0.5), ("90", 90), (2.5, 2.5), ("01:30:00", 5400),
                       ("1:30", 90), ("1-12:00:00", 129_600), (datetime.timedelta(minutes=1), 60), ("1 day", 86_400)]
)
def test_times_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-1s", "10 parsecs", None, True, float("inf")])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="`timeout` cannot be"):
        seconds(text)


def test_options_are_read():
    assert read_options({"memory": "1GB", "timeout": "1m", "cpus": 2, "gpus": None, "resources": {"licence": 1}}) == {
        "memory": 10**9, "timeout_us": 60_000_000, "cpus": 2, "resources": {"licence": 1},
    }


@pytest.mark.parametrize(
    "options", [{"cpus": 0}, {"cpus": 1.5}, {"gpus": -1}, {"retries": True}, {"priority": "high"}, {"keep": 1},
                {"resources": ["licence"]}, {"resources": {"licence": -1}}, {"timeout": 0}]
)
def test_values_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}.*cannot be"):
        delayed(abs, **options)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(TypeError, match="no option `memroy`: the nearest is `memory`"):
        delayed(abs, memroy="2GB")
    with pytest.raises(TypeError, match="no option `colour`: there are `cpus`"):
        delayed(colour="red")


def test_tasks_get_what_they_ask_for(client):
    assert delayed(abs, cpus=2, memory="1MB", retries=1, priority=-3, timeout="1m")(-1).compute() == 1
    assert client.submit(abs, -1, memory="1MB", timeout=60).result() == 1
    assert client.gather(client.map(abs, [-1], cpus=2, expected="1s")) == [1]
    with pytest.raises(dagmar.TaskFailed, match="more than any worker has"):
        delayed(abs, memory="1000TB")(-1).compute()
    with pytest.raises(dagmar.TaskFailed, match="timeout of 200 ms"):
        inc(delayed(time.sleep, timeout="200ms")(60)).compute()
