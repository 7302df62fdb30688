"""Where runs for clients are: on this machine, or in a job of a batch system.

A cluster starts its run when its first client is made; until then it can be scaled. A run lives as long as its cluster,
not as its clients.
"""

import atexit
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings

from .attached import AttachedRuntime, reason_in
from .client import Client
from .local import LocalRuntime, binary, local_shape, script_name
from .options import check_count, size


class Cluster:
    """What clusters have in common. A context manager, which closes at its end."""

    def __init__(self):
        self._runtime = None
        self._is_closed = False
        # A process that was forked from this one may not end the run.
        self._pid = os.getpid()

    def get_client(self):
        """A client of it: the same as `Client(cluster)`."""
        return Client(self)

    def lend(self):
        """The run, for a client that does not own it. It is started if it was not."""
        if self._is_closed:
            raise RuntimeError("the cluster is closed")
        if self._runtime is None:
            self._runtime = self._start()
            atexit.register(self._leave)
        return Lent(self, self._runtime)

    def close(self):
        """Ends the run: outputs that were not fetched are gone."""
        if self._is_closed or self._pid != os.getpid():
            return
        self._is_closed = True
        if self._runtime is not None:
            atexit.unregister(self._leave)
            self._end(self._runtime)

    def _leave(self):
        """The program ends."""
        self.close()

    def _check_not_started(self):
        if self._runtime is not None or self._is_closed:
            raise RuntimeError("the run has begun, and its size is fixed: scale before the first client is made")

    def adapt(self, *_, **__):
        """Raises `NotImplementedError`: the size of a run is fixed once it has begun."""
        raise NotImplementedError("the size of a run is fixed: scale before the first client is made")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Lent:
    """A cluster's run in the hands of a client."""

    def __repr__(self):
        return repr(self._cluster)

    def __init__(self, cluster, runtime):
        self.connection, self.is_local = runtime.connection, runtime.is_local
        self._cluster = cluster

    def close(self):
        self.connection.flush()

    def shutdown(self):
        self._cluster.close()


class LocalCluster(Cluster):
    """Workers on this machine: `n_workers` (1) with `threads_per_worker` cores each, by default all cores shared out.

    `memory_limit` is what the tasks of a worker may ask for: bytes, or as `"8GB"`; outputs that take more than 60 %
    of it go to the disk. `name` is what the run directory is called.
    """

    def __init__(self, n_workers=None, threads_per_worker=None, memory_limit=None, name=None):
        super().__init__()
        for option, value in (("n_workers", n_workers), ("threads_per_worker", threads_per_worker)):
            check_count(option, value)
        self._workers, self._threads, self._name = n_workers, threads_per_worker, name
        self._memory = None if memory_limit is None else size(memory_limit, "memory_limit")

    def scale(self, n):
        """Has `n` workers started instead. Raises `RuntimeError` once a client was made."""
        self._check_not_started()
        check_count("n", n)
        self._workers = n

    def _start(self):
        options = () if self._memory is None else ("--resource", f"memory={self._memory}B")
        return LocalRuntime(*local_shape(self._workers, self._threads), self._name, options)

    def _end(self, runtime):
        runtime.close()

    def __repr__(self):
        workers, threads = local_shape(self._workers, self._threads)
        return f"LocalCluster(n_workers={workers}, threads_per_worker={threads})"


# Keyword arguments that are flags of `dagmar submit`, with the flags.
FLAGS = {
    "cluster": "--cluster", "nodes": "--nodes", "walltime": "--walltime", "queue": "--queue", "account": "--account",
    "project": "--project", "memory": "--mem", "gpus_per_node": "--gpus-per-node", "gpu_type": "--gpu-type",
    "qos": "--qos", "reservation": "--reservation", "constraint": "--constraint", "nodelist": "--nodelist",
    "exclude": "--exclude", "mail_user": "--mail-user", "mail_type": "--mail-type", "comment": "--comment",
    "dependency": "--dependency", "launcher": "--launcher", "memory_limit": "--memory-limit",
    "scratch_limit": "--scratch-limit",
}

# Keyword arguments that say a field of the template.
FIELDS = {"local_directory": "scratch", "shebang": "shebang", "margin": "margin"}

# Other names of the same.
ALIASES = {"job_extra": "job_extra_directives", "env_extra": "job_script_prologue", "job_mem": "memory",
           "n_workers": "nodes"}

# What has no meaning here, and why.
MEANINGLESS = {
    "nanny": "lost ranks are started again by the job itself",
    "death_timeout": "workers end with their run; see `idle_timeout`",
    "interface": "ranks talk to each other by MPI",
    "host": "ranks talk to each other by MPI",
    "protocol": "ranks talk to each other by MPI",
    "security": "no port is open",
    "scheduler_options": "the scheduler is a rank of the job",
    "scheduler_cls": "the scheduler is a rank of the job",
    "dashboard_address": "no port is open",
    "extra": "workers take no further arguments; see `set`",
    "worker_extra_args": "workers take no further arguments; see `set`",
    "worker_command": "workers are ranks of the binary",
    "worker_class": "workers are ranks of the binary",
    "job_cls": "the batch system is the cluster template's",
    "shared_temp_directory": "nothing is needed there",
    "silence_logs": "the log of each rank is in the run directory",
    "loop": "nothing runs in an event loop",
    "config_name": "settings of a site stand in a cluster template",
}

# What cannot be had in this way, and what can instead.
ELSEWHERE = {
    "job_directives_skip": "lines are left out by the names of their fields: `without=['memory']`",
    "header_skip": "lines are left out by the names of their fields: `without=['memory']`",
    "resource_spec": "say `nodes`, `cores` and `memory`, or write a cluster template",
    "asynchronous": "futures can be awaited as they are",
}


class JobCluster(Cluster):
    """A job of a batch system, in which one run lives. See `SlurmCluster` and `PBSCluster`."""

    template, aliases = None, ALIASES

    def __init__(self, cluster=None, nodes=None, *, cores=None, processes=None, job_cpu=None, job_name=None,
                 job_extra_directives=(), job_script_prologue=(), job_script_epilogue=(), log_directory=None,
                 python=None, exclusive=False, without=(), set=None, idle_timeout="10m", **keywords):
        super().__init__()
        keywords.update(cluster=cluster or self.template, nodes=nodes)
        self._keywords = self._known(keywords)
        check_count("nodes", self._keywords.get("nodes"))
        self._name = job_name or default_name()
        self._prologue = self._lines("job_script_prologue", job_script_prologue)
        self._epilogue = self._lines("job_script_epilogue", job_script_epilogue)
        self._directives = self._lines("job_extra_directives", job_extra_directives)
        self._without, self._is_exclusive = self._lines("without", without), exclusive
        self._shape = shape(cores, processes, job_cpu)
        self._fields = dict(set or {})
        python = python or os.environ.get("DAGMAR_PYTHON") or sys.executable
        self._fields["environment.variables.DAGMAR_PYTHON"] = python
        self._log_directory = log_directory
        if log_directory is not None:
            file = f"{self._name}-{time.strftime('%Y%m%d-%H%M%S')}.out"
            self._fields["stdout"] = os.path.join(os.path.abspath(log_directory), file)
        self._idle_timeout = idle_timeout if isinstance(idle_timeout, str) else f"{round(idle_timeout)}s"
        # What `dagmar submit` told: the run directory, and the job.
        self.directory = self.job = None

    def _lines(self, name, value):
        """Lines that were given under this name or an older one."""
        older = self._keywords.pop(name, ())
        for lines in (older, value):
            if isinstance(lines, str) or not all(isinstance(line, str) for line in lines or ()):
                raise TypeError(f"`{name}` is a list of texts, one for each line")
        return [*older, *(value or ())]

    def _known(self, keywords):
        known = {}
        for name, value in keywords.items():
            if name in ELSEWHERE and value:
                raise ValueError(f"{type(self).__name__} takes no `{name}`: {ELSEWHERE[name]}")
            if name in MEANINGLESS and value is not None:
                warnings.warn(f"`{name}` has no meaning here and is ignored: {MEANINGLESS[name]}", stacklevel=3)
            elif name in FLAGS or name in FIELDS or name in self.aliases:
                if value is not None:
                    known.setdefault(self.aliases.get(name, name), value)
            elif name not in MEANINGLESS and name not in ELSEWHERE:
                raise TypeError(f"{type(self).__name__} takes no `{name}`")
        return known

    def scale(self, n=None, jobs=None):
        """Has `n` nodes asked for, or `jobs` of them, which is the same: one job has them all. Raises `RuntimeError`
        once a client was made."""
        self._check_not_started()
        nodes = n if jobs is None else jobs
        if nodes is None:
            raise TypeError("scale takes the number of nodes")
        check_count("nodes", nodes)
        self._keywords["nodes"] = nodes

    def job_script(self):
        """The script that the batch system would get. Raises `RuntimeError` if the template refuses something."""
        with tempfile.TemporaryDirectory(prefix="dagmar-") as directory:
            return run_binary("submit", "--client", "--dry-run", *self._flags(directory))

    def _flags(self, directory):
        """The flags of `dagmar submit`. Shell lines need a template of their own, which is written there."""
        values = dict(self._keywords)
        if self._prologue or self._epilogue:
            shell = {"prologue": self._prologue, "epilogue": self._epilogue}
            values["cluster"] = write_template(directory, values["cluster"], shell)
        flags = ["--name", self._name]
        for name, flag in FLAGS.items():
            if values.get(name) is not None:
                flags.append(f"{flag}={written(name, values[name])}")
        flags.extend(self._shape)
        fields = {FIELDS[name]: values[name] for name in FIELDS if name in values}
        flags.extend(f"--set={name}={value}" for name, value in {**fields, **self._fields}.items())
        flags.extend(f"--directive={line}" for line in self._directives)
        flags.extend(f"--without={field}" for field in self._without)
        return [*flags, "--exclusive"] if self._is_exclusive else flags

    def _start(self):
        if self._log_directory is not None:
            os.makedirs(self._log_directory, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dagmar-") as directory:
            told = run_binary("submit", "--client", "--idle-timeout", self._idle_timeout, "--output", "json",
                              *self._flags(directory))
        told = json.loads(told)
        self.directory, self.job = told["directory"], told["job"]
        return AttachedRuntime(self.directory)

    def _leave(self):
        """The program ends. What it has named or submitted stays, for whoever attaches to the run later."""
        runtime = self._runtime
        if self._pid == os.getpid() and runtime.has_begun and runtime.connection.is_needed:
            runtime.close()
        else:
            self.close()

    def _end(self, runtime):
        if runtime.has_begun:
            runtime.shutdown()
            return
        has_ended = runtime.connection.lost is not None
        runtime.close()
        if has_ended:
            return
        try:
            run_binary("cancel", self.directory)
        except RuntimeError as error:
            warnings.warn(f"job {self.job} was not cancelled: {error}", stacklevel=3)

    def __repr__(self):
        said = {"nodes": self._keywords.get("nodes"), "job": self.job}
        said = "".join(f", {name}={value!r}" for name, value in said.items() if value is not None)
        return f"{type(self).__name__}({self._name!r}{said})"


class SlurmCluster(JobCluster):
    """A job of Slurm, in which a run with workers on each node serves clients. It is submitted when the first client
    is made, and ends with `close`, or `idle_timeout` (`"10m"`, or seconds) after the last client went. Where
    dask-jobqueue has n jobs of one node, this is one job of n nodes.

    `cluster`: a cluster template, by its name (`slurm`) or its file; what is not said is as there. `nodes`. `cores`
    and `memory` (`"64GB"`, or bytes) of each node, which `processes` workers share; `job_cpu`: cores of each worker.
    `queue`, `account` (or `project`), `walltime` (`"02:00:00"`, `"2h"`), `gpus_per_node`, `gpu_type`, `qos`,
    `reservation`, `constraint`, `exclusive`, `nodelist`, `exclude`, `dependency`, `mail_user`, `mail_type`, `comment`.
    `job_name`. `log_directory`: where what the script prints goes, instead of the run directory. `local_directory`:
    scratch on each node. `python`: the interpreter of tasks, this one by default. `job_extra_directives`: further
    options of `sbatch`; `without`: fields whose lines are left out. `job_script_prologue` and `job_script_epilogue`:
    shell lines. `launcher`: `mpirun`, `srun`, ... `memory_limit`, `scratch_limit`: as those flags of `dagmar submit`.
    `set`: other fields of the template, by name.

    What dask-jobqueue has and has no meaning here is ignored with a warning; what does not exist is a `TypeError`.
    """

    template = "slurm"
    aliases = {**ALIASES, "project": "account"}


class PBSCluster(JobCluster):
    """A job of PBS. The keyword arguments are those of `SlurmCluster`, as far as PBS knows the like; `account` is its
    `-A` and `project` its `-P`. `cluster="torque"` is for Torque."""

    template = "pbs"


def attach(run):
    """A client of a run in a job that was begun elsewhere: `run` is its directory, or its name under `./dagmar-runs`.

    To close the client leaves the run as it is, for others or for later; `client.shutdown()` ends it. If the job ends
    before the run begins, whatever waits raises `Disconnected` with the reason.
    """
    return Client(Attachment(run))


class Attachment:
    """A run that was begun elsewhere."""

    def __init__(self, run):
        self._run = os.fspath(run)

    def lend(self):
        return AttachedRuntime(self._run)


def default_name():
    """What a job is called: as the script that is running, as far as all batch systems take that."""
    name = re.sub(r"^[^A-Za-z]+|[^A-Za-z0-9_.+-]", "", script_name())
    return name[:NAME_MAX] or "python"


# Letters of a job's name, in Torque.
NAME_MAX = 15


def run_binary(*arguments):
    """What the binary prints. If it fails, what it says is raised as a `RuntimeError`."""
    done = subprocess.run([binary(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(reason_in(done.stderr) or f"`dagmar {arguments[0]}` ended with code {done.returncode}")
    return done.stdout


def write_template(directory, base, shell):
    """The file of a template that has shell lines besides those of another one."""
    if "/" in base or base.endswith(".toml"):
        base = os.path.abspath(base)
    known = json.loads(run_binary("cluster", "show", base, "--output", "json"))["values"]
    lines = [f"extends = {json.dumps(base, ensure_ascii=False)}"]
    for field, own in shell.items():
        if own:
            all_lines = known.get(field, {}).get("value", []) + own
            lines.append(f"{field} = {json.dumps(all_lines, ensure_ascii=False)}")
    path = os.path.join(directory, "cluster.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def shape(cores, processes, job_cpu):
    """The flags for the workers of each node."""
    for name, value in (("cores", cores), ("processes", processes), ("job_cpu", job_cpu)):
        check_count(name, value)
    if cores is not None:
        processes = processes or 1
        if cores % processes != 0:
            raise ValueError(f"{cores} cores cannot be shared by {processes} processes: each has as many as the others")
        job_cpu = job_cpu or cores // processes
    # What is not said is the template's.
    flags = {"--workers-per-node": processes, "--cpus-per-worker": job_cpu}
    return [f"{flag}={value}" for flag, value in flags.items() if value is not None]


def written(name, value):
    """A value as a flag has it."""
    if hasattr(value, "total_seconds"):
        return f"{round(value.total_seconds())}s"
    return f"{value}B" if type(value) is int and name in ("memory", "memory_limit", "scratch_limit") else value
