"""Runs in jobs, with a program that stands for the batch system and the way to the job."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import dagmar
from dagmar import delayed


def test_the_first_client_submits_a_job(batch):
    with dagmar.SlurmCluster(nodes=2, queue="long", job_name="hello", idle_timeout=90) as cluster:
        assert batch.calls("submit") == [] and cluster.job is None
        with dagmar.Client(cluster) as client, cluster.get_client():
            assert client.submit(abs, -1).result() == 1 and delayed(abs)(-2).compute() == 2
        (submitted,) = batch.calls("submit")
        assert {"--client", "--name", "hello", "--nodes=2", "--queue=long", "--idle-timeout", "90s"} <= set(submitted)
        assert cluster.job == "17" and [cluster.directory] in batch.calls("attach")
        with pytest.raises(RuntimeError, match="scale before the first client"):
            cluster.scale(3)
    assert len(batch.calls("attach")) == 1 and batch.calls("cancel") == []
    assert cluster._runtime.process.poll() == 0


@pytest.mark.parametrize("is_needed", [False, True])
def test_a_program_that_ends_leaves_what_it_has_named(batch, is_needed):
    cluster = dagmar.SlurmCluster()
    client = cluster.get_client()
    future = client.submit(abs, -1)
    assert future.result() == 1
    if is_needed:
        client.publish("one", future)
    cluster._leave()
    with pytest.raises(dagmar.Disconnected, match="the client was closed"):
        client.submit(abs, -2)
    # Only a client that says that the run is to end does that.
    assert cluster._is_closed == (not is_needed)


def test_a_job_that_has_not_begun_is_cancelled(batch):
    batch.attaching("waits")
    cluster = dagmar.PBSCluster()
    client = cluster.get_client()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: client.submit(abs, -1).result())
        cluster.close()
    assert batch.calls("cancel") == [[cluster.directory]] and cluster._runtime.process.poll() is not None
    with pytest.raises(dagmar.Disconnected):
        future.result()


def test_why_a_job_has_not_begun_is_told(batch):
    batch.attaching("fails")
    with dagmar.SlurmCluster() as cluster:
        client = cluster.get_client()
        with pytest.raises(dagmar.Disconnected, match="cannot be reached: job 17 was cancelled"):
            client.submit(abs, -1).result(timeout=30)
        with pytest.raises(dagmar.Disconnected, match="job 17 was cancelled"):
            client.slots
    # There is nothing left to cancel.
    assert batch.calls("cancel") == []


def test_a_refused_job_is_told(batch):
    with dagmar.SlurmCluster(queue="nowhere") as cluster:
        with pytest.raises(RuntimeError, match="^the batch system refused: invalid partition `nowhere`"):
            cluster.get_client()


def test_a_client_that_was_attached_only_detaches(batch):
    with dagmar.attach("job-0001") as client:
        waiting = client.submit(time.sleep, 2)
        assert client.submit(abs, -1).result() == 1
    with pytest.raises(dagmar.Disconnected, match="the client was closed"):
        waiting.result()
    assert batch.calls("attach") == [["job-0001"]] and batch.calls("cancel") == []


def test_a_client_that_was_attached_may_end_the_run(batch):
    client = dagmar.attach("job-0001")
    assert client.submit(abs, -1).result() == 1
    client.shutdown()
    assert client._runtime.process.poll() == 0
    with pytest.raises(dagmar.Disconnected):
        client.submit(abs, -1)
