"""What batch systems would get, which needs none."""

import datetime

import pytest

import dagmar


@pytest.fixture(autouse=True)
def in_its_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(cluster):
    return cluster.job_script().splitlines()


def test_slurm_gets_what_was_said():
    cluster = dagmar.SlurmCluster(
        queue="long", project="proj1", cores=8, processes=2, memory="16GB", walltime="02:00:00", job_name="hello",
        job_extra_directives=["--nice=5"], job_script_prologue=["module load mpi", "export A='ä b'"],
        job_script_epilogue=["rm -f x"], gpus_per_node=1, exclusive=True, python="/opt/python", without=["account"],
        set={"comment": "words"},
    )
    cluster.scale(jobs=3)
    script = lines(cluster)
    for line in ("#SBATCH --job-name=hello", "#SBATCH --partition=long", "#SBATCH --nodes=3", "#SBATCH --nice=5",
                 "#SBATCH --ntasks-per-node=2", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=15259M",
                 "#SBATCH --time=02:00:00", "#SBATCH --gpus-per-node=1", "#SBATCH --exclusive",
                 "export DAGMAR_PYTHON=/opt/python", "module load mpi", "export A='ä b'", "rm -f x"):
        assert line in script
    assert not any("--account" in line for line in script)
    assert "hello" in repr(cluster) and "nodes=3" in repr(cluster)


def test_accounts_and_projects_are_what_each_calls_them():
    assert "#SBATCH --account=proj1" in lines(dagmar.SlurmCluster(project="proj1"))
    script = lines(dagmar.PBSCluster(account="one", project="two"))
    assert "#PBS -A one" in script and "#PBS -P two" in script


def test_pbs_gets_what_was_said(tmp_path):
    cluster = dagmar.PBSCluster(
        queue="long", nodes=2, cores=8, memory="16GB", walltime="2h", job_name="hello", job_extra=["-l foo=bar"],
        env_extra=["module load mpi"], log_directory=tmp_path / "logs",
    )
    script = lines(cluster)
    for line in ("#PBS -N hello", "#PBS -q long", "#PBS -l walltime=02:00:00", "#PBS -l foo=bar", "module load mpi"):
        assert line in script
    assert any(line.startswith("#PBS -l select=1:ncpus=8:mpiprocs=2") for line in script)
    assert any(line.startswith(f'#PBS -o "{tmp_path}/logs/hello-') for line in script)
    assert "#PBS -l nodes=2:ppn=8" in lines(dagmar.PBSCluster(cluster="torque", nodes=2, cores=8))


def test_shell_lines_come_after_those_of_the_template(tmp_path):
    (tmp_path / "mysite.toml").write_text('extends = "slurm"\nqueue = "mine"\nprologue = ["echo first"]\n')
    for cluster in ("mysite", "./mysite.toml", str(tmp_path / "mysite.toml")):
        script = lines(dagmar.SlurmCluster(cluster, job_script_prologue=["echo second"]))
        assert "#SBATCH --partition=mine" in script
        assert script.index("echo first") + 1 == script.index("echo second")


def test_what_is_not_said_is_the_templates(tmp_path):
    (tmp_path / "mysite.toml").write_text('extends = "slurm"\nnodes = 7\nworkers_per_node = 3\n')
    script = lines(dagmar.SlurmCluster("mysite"))
    assert "#SBATCH --nodes=7" in script and "#SBATCH --ntasks-per-node=3" in script
    assert "#SBATCH --nodes=1" in lines(dagmar.SlurmCluster())


def test_values_may_be_numbers_and_times():
    script = lines(dagmar.SlurmCluster(memory=1 << 30, walltime=datetime.timedelta(hours=2), nodes=2))
    assert "#SBATCH --mem=1024M" in script and "#SBATCH --time=02:00:00" in script


def test_what_has_no_meaning_is_ignored_with_a_reason():
    with pytest.warns(UserWarning, match="`nanny` has no meaning.*started again") as caught:
        cluster = dagmar.PBSCluster(nanny=True, interface=None, asynchronous=False)
    assert caught[0].filename == __file__ and "#PBS -l select=1" in cluster.job_script()


@pytest.mark.parametrize(
    "keywords, error, words", [
        ({"resource_spec": "select=1"}, ValueError, "cluster template"),
        ({"asynchronous": True}, ValueError, "awaited"),
        ({"colour": "red"}, TypeError, "no `colour`"),
        ({"nodes": 0}, ValueError, "`nodes` cannot be 0"),
        ({"n_workers": "4"}, ValueError, "`nodes` cannot be '4'"),
        ({"cores": 7, "processes": 2}, ValueError, "7 cores cannot be shared by 2"),
        ({"job_extra_directives": "--nice"}, TypeError, "list of texts"),
    ],
)
def test_what_cannot_be_is_refused(keywords, error, words):
    with pytest.raises(error, match=words):
        dagmar.SlurmCluster(**keywords)


def test_what_the_template_refuses_is_told():
    with pytest.raises(RuntimeError, match="nowhere"):
        dagmar.SlurmCluster("nowhere").job_script()
    with pytest.raises(RuntimeError, match="a b"):
        dagmar.SlurmCluster(queue="a b").job_script()
