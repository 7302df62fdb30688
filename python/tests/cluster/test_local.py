"""Runs on this machine, as clusters."""

import os

import pytest

import dagmar


@pytest.fixture(autouse=True)
def in_its_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_clients_share_the_run_of_a_cluster():
    with dagmar.LocalCluster(2, 1, memory_limit="1GB", name="shared") as cluster:
        with dagmar.Client(cluster) as client, cluster.get_client() as other:
            one = client.submit(abs, -1)
            assert client.slots == other.slots == 2 and other.submit(abs, one).result() == 1
            assert dagmar.delayed(abs)(-2).compute() == 2
            with pytest.raises(dagmar.TaskFailed, match="more than any worker has"):
                client.submit(abs, -1, memory="2GB").result()
        # A client's end is not the run's.
        assert cluster.get_client().submit(abs, -3).result() == 3
        assert dagmar.Executor(client=cluster.get_client()).is_local
    assert [name.startswith("shared") for name in os.listdir("dagmar-runs")] == [True]


def test_a_cluster_is_scaled_before_its_run_begins():
    with dagmar.LocalCluster(1, 1) as cluster:
        cluster.scale(2)
        assert cluster.get_client().slots == 2 and "n_workers=2" in repr(cluster)
        with pytest.raises(RuntimeError, match="scale before the first client"):
            cluster.scale(3)
        with pytest.raises(NotImplementedError, match="scale before the first client"):
            cluster.adapt(maximum=3)


def test_a_closed_cluster_is_over():
    cluster = dagmar.LocalCluster(1, 1)
    client = cluster.get_client()
    client.shutdown()
    with pytest.raises(dagmar.Disconnected):
        client.submit(abs, -1)
    with pytest.raises(RuntimeError, match="closed"):
        cluster.get_client()
    cluster.close()
    dagmar.LocalCluster().close()


def test_the_newest_client_is_the_default():
    with dagmar.Client(1, 1) as first:
        assert dagmar.default_client() is first
        with dagmar.Client(n_workers=1, threads_per_worker=1) as second:
            assert dagmar.default_client() is second
        assert dagmar.default_client() is first
        with dagmar.Executor(1):
            assert dagmar.default_client() is first


@pytest.mark.parametrize("options", [{"n_workers": 0}, {"threads_per_worker": "two"}, {"memory_limit": "lots"}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` cannot be"):
        dagmar.LocalCluster(**options)
