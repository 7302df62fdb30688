"""A PBS of one machine, for tests: `qsub`, `qstat`, `qselect` and `qdel` beside this file.

It answers as OpenPBS 23.06 does, as far as `tests/fake_pbs.rs` holds it against captured outputs, and runs
the job's script for real, in the background. It never queues: what fits the nodes at all runs at once.

DAGMAR_FAKE_PBS            the folder of its state (required)
DAGMAR_FAKE_PBS_NODES      its nodes and their cores (default "m1:4 m2:4 m3:4")
DAGMAR_FAKE_PBS_ON         a command that runs another on a node, by the node's name; without one, scripts run here
DAGMAR_FAKE_PBS_PATIENCE   seconds between SIGTERM and SIGKILL (default 2)
DAGMAR_FAKE_PBS_HISTORY    "no": finished jobs are forgotten at once, as where no history is kept
"""

import fcntl
import getopt
import json
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
import time

SERVER = "server"
VERSION = "23.06.06"
QUEUES = ("workq", "long")
UNKNOWN_JOB, UNKNOWN_QUEUE, BAD_VALUE, FINISHED_JOB = 153, 170, 166, 35
VALUES_WITH_A_NUMBER = ("ncpus", "nodect", "mpiprocs", "ngpus", "ompthreads")


class Refused(Exception):
    """What a command prints and its exit code."""

    def __init__(self, text, code):
        super().__init__(text)
        self.code = code


def main(command):
    try:
        sys.exit({"qsub": qsub, "qstat": qstat, "qselect": qselect, "qdel": qdel}[command](sys.argv[1:]))
    except Refused as refused:
        print(f"{command}: {refused}", file=sys.stderr)
        sys.exit(refused.code)


# ---------------------------------------------------------------- state


def state(*names):
    folder = os.environ.get("DAGMAR_FAKE_PBS")
    if not folder:
        raise Refused("DAGMAR_FAKE_PBS is not set", 1)
    return os.path.join(os.path.abspath(folder), *names)


def nodes():
    text = os.environ.get("DAGMAR_FAKE_PBS_NODES", "m1:4 m2:4 m3:4")
    return {name: int(cores) for name, cores in (word.split(":") for word in text.split())}


class Locked:
    """One process at a time changes jobs."""

    def __enter__(self):
        os.makedirs(state("jobs"), exist_ok=True)
        self.file = open(state("lock"), "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def load(number):
    try:
        with open(state("jobs", str(number), "job.json")) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def store(number, job):
    path = state("jobs", str(number), "job.json")
    with open(path + ".new", "w") as file:
        json.dump(job, file)
    os.replace(path + ".new", path)


def change(number, **attributes):
    with Locked():
        job = load(number)
        job["shown"].update(attributes, mtime=now())
        store(number, job)
    return job


def numbers():
    folder = state("jobs")
    return sorted(int(name) for name in os.listdir(folder)) if os.path.isdir(folder) else []


def number_of(identifier):
    found = re.fullmatch(r"(\d+)(\..*)?", identifier)
    if not found:
        raise Refused(f"illegally formed job identifier: {identifier}", 1)
    number = int(found[1])
    job = load(number)
    if job is None or (job["shown"]["job_state"] == "F" and os.environ.get("DAGMAR_FAKE_PBS_HISTORY") == "no"):
        raise Refused(f"Unknown Job Id {number}.{SERVER}", UNKNOWN_JOB)
    return number


def now():
    return time.ctime()


def user():
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


# ---------------------------------------------------------------- qsub

FLAGS = "a:A:c:C:e:hI:j:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz"


def qsub(arguments):
    if arguments == ["--version"]:
        print(f"pbs_version = {VERSION}")
        return 0
    options, rest, command = read_arguments(arguments)
    script = None if command else read_script(rest)
    for directive in directives(script or "", options.get("C", "#PBS")):
        said, _, _ = read_arguments(shlex.split(directive))
        options = merge(said, options)
    job = describe(options, arguments, rest, command)
    with Locked():
        number = (numbers() or [-1])[-1] + 1
        name_outputs(job, number, options)
        check_dependencies(job)
        os.makedirs(state("jobs", str(number)))
        with open(state("jobs", str(number), "script"), "w") as file:
            file.write(script if script is not None else "exec " + shlex.join(command) + "\n")
        store(number, job)
    begin(number)
    if "z" not in options:
        print(f"{number}.{SERVER}", flush=True)
    if "block" in options["W"]:
        return wait_for_end(number)
    return 0


def read_arguments(arguments):
    """Options by letter, then what is left: a script, or a command after `--`."""
    command = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    try:
        found, rest = getopt.getopt(arguments, FLAGS)
    except getopt.GetoptError as error:
        raise Refused(f"{error}\nusage: qsub [-A account] [-N name] ... [script | -- command]", 2) from None
    options = {"l": {}, "W": {}}
    for flag, value in found:
        letter = flag[1:]
        if letter == "l":
            options["l"].update(parts(value, "Resource_List"))
        elif letter == "W":
            options["W"].update(parts(value, "W"))
        else:
            options[letter] = value
    return options, rest, command


def parts(text, what):
    """`a=1,b=2`: a value may itself hold commas, until the next name and `=`."""
    found = {}
    for part in re.split(r",(?=[A-Za-z_]+=)", text):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise Refused(f"illegal -{what[0] if what == 'W' else 'l'} value", 2)
        found[name] = value
    return found


def merge(directive, typed):
    """What is typed wins over what the script says."""
    merged = {**directive, **typed}
    for letter in "lW":
        merged[letter] = {**directive[letter], **typed[letter]}
    return merged


def read_script(rest):
    if len(rest) > 1:
        raise Refused("usage: qsub [-A account] [-N name] ... [script | -- command]", 2)
    if not rest or rest[0] == "-":
        return sys.stdin.read()
    try:
        with open(rest[0]) as file:
            return file.read()
    except OSError:
        raise Refused(f"script file: {os.strerror(2)}", 1) from None


def directives(script, prefix):
    """The lines with the prefix, down to the first line that is a command."""
    for line in script.splitlines():
        if line.startswith(prefix):
            yield line[len(prefix) :].split(" #")[0]
        elif line.strip() and not line.lstrip().startswith(("#", ":")):
            return


def describe(options, arguments, rest, command):
    """The job as `qstat` will show it, and what only its end needs."""
    script_name = os.path.basename(rest[0]) if rest and rest[0] != "-" else "STDIN"
    name = options.get("N", script_name)
    if not re.fullmatch(r"[A-Za-z_+./-][!-~]{0,229}|[0-9][!-~]{0,229}", name):
        raise Refused("illegal -N value", 2)
    queue = options.get("q", QUEUES[0]).partition("@")[0]
    if queue not in QUEUES:
        raise Refused("Unknown queue", UNKNOWN_QUEUE)
    if options.get("j", "n") not in ("oe", "eo", "n"):
        raise Refused("illegal -j value", 2)
    resources, chunks, place = read_resources(options["l"])
    hosts = put(chunks, place)
    is_held = "h" in options
    shown = {"Job_Name": name, "Job_Owner": f"{user()}@{SERVER}", "job_state": "H" if is_held else "Q"}
    shown |= {"queue": queue, "server": SERVER}
    if "A" in options:
        shown["Account_Name"] = options["A"]
    shown |= {"Checkpoint": "u", "ctime": now()}
    if "depend" in options["W"]:
        shown["depend"] = options["W"]["depend"]
    shown |= {"Error_Path": "", "Hold_Types": "u" if is_held else "n", "Join_Path": options.get("j", "n")}
    shown |= {"Keep_Files": options.get("k", "n"), "Mail_Points": options.get("m", "a"), "mtime": now()}
    shown |= {"Output_Path": "", "Priority": int(options.get("p", 0)), "qtime": now()}
    shown |= {"Rerunable": "False" if options.get("r") == "n" else "True", "Resource_List": resources}
    shown |= {"substate": 20 if is_held else 10, "Variable_List": variables(options, queue)}
    if hosts is None:
        asked, there = sum(count * cores for count, cores, _ in chunks), sum(nodes().values())
        why = f"Insufficient amount of resource: ncpus (R: {asked} A: {there} T: {there})"
        shown["comment"] = f"Can Never Run: {why}"
    if not is_held:
        shown["etime"] = now()
    shown["Submit_arguments"] = " ".join(arguments)
    if command:
        tag = "jsdl-hpcpa:"
        shown["executable"] = f"<{tag}Executable>{command[0]}</{tag}Executable>"
        if command[1:]:
            shown["argument_list"] = "".join(f"<{tag}Argument>{word}</{tag}Argument>" for word in command[1:])
    shown |= {"project": options.get("P", "_pbs_project_default"), "Submit_Host": SERVER}
    environment = dict(os.environ) if "V" in options else {}
    environment |= chosen_variables(options.get("v", ""))
    return {"shown": shown, "hosts": hosts, "environment": environment, "shell": options.get("S", "/bin/bash")}


def variables(options, queue):
    """What PBS notes about where the job comes from, with what `-v` names."""
    said = os.environ.get
    noted = {"PBS_O_HOME": said("HOME", "/"), "PBS_O_LANG": said("LANG", "C.UTF-8"), "PBS_O_LOGNAME": user()}
    noted |= {"PBS_O_PATH": said("PATH", ""), "PBS_O_MAIL": f"/var/mail/{user()}"}
    noted |= {"PBS_O_SHELL": said("SHELL", "/bin/bash"), "PBS_O_INTERACTIVE_AUTH_METHOD": "resvport"}
    noted |= {"PBS_O_INTERACTIVE_ENCRYPT_METHOD": "", "PBS_O_WORKDIR": os.getcwd(), "PBS_O_SYSTEM": "Linux"}
    return noted | {"PBS_O_QUEUE": queue, "PBS_O_HOST": SERVER} | chosen_variables(options.get("v", ""))


def chosen_variables(text):
    """`-v A,B=2`: a name alone takes its value from here."""
    chosen = {}
    for word in re.split(r"(?<!\\),", text) if text else []:
        name, equals, value = word.partition("=")
        chosen[name] = value.replace("\\,", ",") if equals else os.environ.get(name, "")
    return chosen


def read_resources(said):
    """The resource list as PBS completes it; chunks as (how many, cores, ranks); and where they may go."""
    said = dict(said)
    place = said.pop("place", None)
    select = said.pop("select", None)
    old = said.pop("nodes", None)
    if old is not None:
        found = re.fullmatch(r"(\d+)(?::ppn=(\d+))?", old)
        if not found or select is not None:
            raise bad_value("nodes")
        ranks = found[2] or "1"
        select, place = f"{found[1]}:ncpus={ranks}:mpiprocs={ranks}", place or "scatter"
    if select is None:
        select = f"1:ncpus={said.get('ncpus', 1)}"
        place = place or "pack"
    chunks = [read_chunk(chunk) for chunk in select.split("+")]
    for name in ("walltime", "cput"):
        if name in said:
            said[name] = spoken_time(seconds(said[name], name))
    resources = {name: typed(name, value) for name, value in said.items()}
    ranks = sum(count * (ranks or 0) for count, _, ranks in chunks)
    if ranks:
        resources["mpiprocs"] = ranks
    resources["ncpus"] = sum(count * cores for count, cores, _ in chunks)
    resources["nodect"] = sum(count for count, _, _ in chunks)
    if old is not None:
        resources["nodes"] = old
    resources |= {"place": place or "free", "select": select}
    return dict(sorted(resources.items())), chunks, place or "free"


def read_chunk(text):
    head, *rest = text.split(":")
    if re.fullmatch(r"[a-z_]+=.+", head):
        head, rest = "1", [head, *rest]
    if not re.fullmatch(r"[1-9]\d*", head) or not all(re.fullmatch(r"[A-Za-z_]\w*=\S+", part) for part in rest):
        raise bad_value("select")
    asked = dict(part.split("=", 1) for part in rest)
    try:
        ranks = int(asked["mpiprocs"]) if "mpiprocs" in asked else None
        return int(head), int(asked.get("ncpus", 1)), ranks
    except ValueError:
        raise bad_value("select") from None


def bad_value(name):
    return Refused(f"Illegal attribute or resource value Resource_List.{name}", BAD_VALUE)


def seconds(text, name):
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise bad_value(name)
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(float(part))
    return total


def spoken_time(total):
    return f"{total // 3600:02}:{total // 60 % 60:02}:{total % 60:02}"


def typed(name, value):
    return int(value) if name in VALUES_WITH_A_NUMBER and value.isdigit() else value


def put(chunks, place):
    """Which chunk goes to which host, as (host, cores, ranks). None if they do not fit."""
    free, placed = dict(nodes()), []
    for count, cores, ranks in chunks:
        for _ in range(count):
            taken = {host for host, _, _ in placed} if place.startswith("scatter") else set()
            fits = [host for host in free if free[host] >= cores and host not in taken]
            if not fits:
                return None
            free[fits[0]] -= cores
            placed.append((fits[0], cores, 1 if ranks is None else ranks))
    return placed


def name_outputs(job, number, options):
    shown = job["shown"]
    name = os.path.basename(shown["Job_Name"])
    for flag, attribute, letter, ending in (("o", "Output_Path", "o", "OU"), ("e", "Error_Path", "e", "ER")):
        path = options.get(flag, f"{name}.{letter}{number}").rpartition(":")[2]
        path = os.path.join(os.getcwd(), path)
        if os.path.isdir(path):
            path = os.path.join(path, f"{number}.{SERVER}.{ending}")
        shown[attribute] = f"{SERVER}:{path}"


# ---------------------------------------------------------------- dependencies


def dependencies(job):
    """Each as (kind, number), where kind is `afterok`, `afternotok`, `afterany` or `after`."""
    for part in job["shown"].get("depend", "").split(","):
        kind, *identifiers = part.split(":")
        for identifier in identifiers if kind.startswith("after") else []:
            yield kind, identifier.partition("@")[0]


def check_dependencies(job):
    wanted = list(dependencies(job))
    for _, identifier in wanted:
        number_of(identifier)
    if wanted:
        named = [f"{kind}:{number_of(one)}.{SERVER}@{SERVER}" for kind, one in wanted]
        job["shown"] |= {"depend": ",".join(named), "job_state": "H", "Hold_Types": "s", "substate": 22}


def is_satisfied(kind, job):
    """True, False, or None while it is open."""
    shown = job["shown"]
    if kind == "after" and "stime" in shown:
        return True
    if shown["job_state"] != "F":
        return None
    went_well = shown.get("Exit_status") == 0
    return {"afterok": went_well, "afternotok": not went_well}.get(kind, True)


# ---------------------------------------------------------------- the job's life


def begin(number):
    """A process of its own looks after the job, whoever submitted it may go."""
    if os.fork() != 0:
        return
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        log = os.open(state("jobs", str(number), "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target, source in ((0, quiet), (1, log), (2, log)):
            os.dup2(source, target)
        os.closerange(3, 1024)
        live(number)
    finally:
        os._exit(0)


def live(number):
    if await_start(number):
        run(number)


def await_start(number):
    """True once the job may run, False if it never will."""
    while True:
        job = load(number)
        if job is None or job["shown"]["job_state"] == "F":
            return False
        decided = [is_satisfied(kind, load(number_of(one))) for kind, one in dependencies(job)]
        if False in decided:
            change(number, job_state="F", substate=92, history_timestamp=int(time.time()))
            return False
        if job["shown"]["Hold_Types"] != "u" and None not in decided and job["hosts"] is not None:
            return True
        time.sleep(0.1)


def run(number):
    job = load(number)
    shown, hosts = job["shown"], job["hosts"]
    begun = time.time()
    where = "+".join(f"({host}:ncpus={cores})" for host, cores, _ in hosts)
    day = time.strftime("%a %b %d at %H:%M")
    with Locked():
        if load(number)["shown"]["job_state"] == "F":
            return
        process = start(number, job)
        shown |= {"job_state": "R", "substate": 42, "Hold_Types": "n", "stime": now(), "mtime": now(), "run_count": 1}
        shown |= {"etime": shown.get("etime", now()), "session_id": process.pid, "jobdir": home()}
        shown |= {"exec_host": "+".join(f"{host}/0" + (f"*{cores}" if cores > 1 else "") for host, cores, _ in hosts)}
        shown |= {"exec_vnode": where, "comment": f"Job run at {day} on {where}", "resources_used": used(shown, begun)}
        store(number, job)
    watch(number, process, begun)


def home():
    return os.environ.get("HOME", "/")


def used(shown, begun):
    cores = shown["Resource_List"]["ncpus"]
    walltime = spoken_time(int(time.time() - begun))
    return {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": cores, "vmem": "0kb", "walltime": walltime}


def start(number, job):
    folder = state("jobs", str(number))
    with open(os.path.join(folder, "nodefile"), "w") as file:
        file.writelines(f"{host}\n" * ranks for host, _, ranks in job["hosts"])
    command = [job["shell"], os.path.join(folder, "script")]
    on = os.environ.get("DAGMAR_FAKE_PBS_ON")
    if on:
        command = [on, job["hosts"][0][0], *command]
    streams = [open(os.path.join(folder, name), "ab") for name in ("OU", "ER")]
    stderr = subprocess.STDOUT if job["shown"]["Join_Path"] == "oe" else streams[1]
    stdout = streams[1] if job["shown"]["Join_Path"] == "eo" else streams[0]
    environment = job_environment(number, job)
    return subprocess.Popen(
        command, cwd=home(), env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        start_new_session=True,
    )


def job_environment(number, job):
    shown = job["shown"]
    cores = str(job["hosts"][0][1])
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {"HOME": home(), "LOGNAME": user(), "USER": user(), "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
    environment["PATH"] = f"{here}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    # By these a test finds again what it started, and its nodes say that root may use MPI there.
    kept = ("DAGMAR_TEST_TOKEN", "DAGMAR_FAKE_PBS", "OMPI_", "PRTE_")
    environment |= {name: value for name, value in os.environ.items() if name.startswith(kept)}
    environment |= job["environment"] | shown["Variable_List"]
    scratch = os.path.join(state("jobs", str(number)), "tmp")
    os.makedirs(scratch, exist_ok=True)
    environment |= {"ENVIRONMENT": "BATCH", "NCPUS": cores, "OMP_NUM_THREADS": cores, "TMPDIR": scratch}
    environment |= {"PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBCOOKIE": f"{number:032X}", "PBS_JOBDIR": home()}
    environment |= {"PBS_JOBID": f"{number}.{SERVER}", "PBS_JOBNAME": shown["Job_Name"], "PBS_MOMPORT": "15003"}
    environment |= {"PBS_NODEFILE": state("jobs", str(number), "nodefile"), "PBS_NODENUM": "0", "PBS_TASKNUM": "1"}
    environment["PBS_QUEUE"] = shown["queue"]
    if "Account_Name" in shown:
        environment["PBS_ACCOUNT"] = shown["Account_Name"]
    return environment


def watch(number, process, begun):
    """Sees the job to its end: by itself, by its walltime, or by `qdel`."""
    limit = load(number)["shown"]["Resource_List"].get("walltime")
    limit = None if limit is None else seconds(limit, "walltime")
    reason = None
    while process.poll() is None:
        elapsed = time.time() - begun
        job = load(number)
        if reason is None and job.get("deleted_by"):
            reason = f"and terminated by {job['deleted_by']}@{SERVER}"
        elif reason is None and limit is not None and elapsed > limit:
            reason = "and exceeded resource walltime"
            name = "OU" if job["shown"]["Join_Path"] == "oe" else "ER"
            with open(state("jobs", str(number), name), "a") as file:
                file.write(f"=>> PBS: job killed: walltime {int(elapsed) + 1} exceeded limit {limit}\n")
        if reason:
            end_session(process)
        time.sleep(0.05)
    finish(number, process.returncode, reason, begun)


def end_session(process):
    """TERM to every process of the job's session, KILL to what is left of it."""
    patience = float(os.environ.get("DAGMAR_FAKE_PBS_PATIENCE", "2"))
    signal_session(process.pid, signal.SIGTERM)
    deadline = time.time() + patience
    while time.time() < deadline and process.poll() is None:
        time.sleep(0.02)
    signal_session(process.pid, signal.SIGKILL)
    process.wait()


def signal_session(session, number):
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == session:
                os.kill(int(entry), number)
        except (ProcessLookupError, PermissionError):
            pass


def finish(number, code, reason, begun):
    job = load(number)
    shown = job["shown"]
    status = code if code >= 0 else 256 - code
    if reason and "walltime" in reason:
        status = -29
    # Only now do the streams come to where they belong.
    for name, attribute in (("OU", "Output_Path"), ("ER", "Error_Path")):
        joined = shown["Join_Path"]
        if (name, joined) in (("ER", "oe"), ("OU", "eo")):
            continue
        target = shown[attribute].partition(":")[2]
        try:
            with open(state("jobs", str(number), name), "rb") as source, open(target, "ab") as file:
                file.write(source.read())
        except OSError as error:
            print(f"{target}: {error}", file=sys.stderr)
    how = reason or ("and finished" if status == 0 else "and failed")
    substate = 91 if reason and "terminated" in reason else 92 if status == 0 else 93
    change(
        number, job_state="F", substate=substate, comment=f"{shown['comment']} {how}", Exit_status=status,
        Stageout_status=1, obittime=now(), history_timestamp=int(time.time()), resources_used=used(shown, begun),
    )


def wait_for_end(number):
    while (shown := load(number)["shown"])["job_state"] != "F":
        time.sleep(0.05)
    return shown.get("Exit_status", 1)


# ---------------------------------------------------------------- qdel


def qdel(arguments):
    options, identifiers = getopt.getopt(arguments, "xW:")
    worst = 0
    for identifier in identifiers:
        try:
            delete(identifier, ("-x", "") in options)
        except Refused as refused:
            print(f"qdel: {refused}", file=sys.stderr)
            worst = refused.code
    return worst


def delete(identifier, also_finished):
    number = number_of(identifier)
    with Locked():
        job = load(number)
        shown = job["shown"]
        if shown["job_state"] == "F":
            if also_finished:
                os.rename(state("jobs", str(number)), state(f"deleted-{number}"))
                return
            raise Refused(f"Job has finished {number}.{SERVER}", FINISHED_JOB)
        job["deleted_by"] = user()
        if shown["job_state"] in "QH":
            shown |= {"job_state": "F", "substate": 91, "history_timestamp": int(time.time()), "mtime": now()}
        store(number, job)


# ---------------------------------------------------------------- qstat

ORDER = """Job_Name Job_Owner resources_used job_state queue server Account_Name Checkpoint ctime depend Error_Path exec_host
exec_vnode Hold_Types Join_Path Keep_Files Mail_Points mtime Output_Path Priority qtime Rerunable Resource_List stime obittime
session_id jobdir substate Variable_List comment etime run_count Stageout_status Exit_status Submit_arguments executable
argument_list history_timestamp project Submit_Host""".split()


def qselect(arguments):
    """The ids of a user's jobs; without `-x` only of those that are not over."""
    options = dict(getopt.getopt(arguments, "xs:u:")[0])
    for number, job in listed("-x" in options).items():
        owner = job["Job_Owner"].partition("@")[0]
        if job["job_state"] in options.get("-s", job["job_state"]) and owner == options.get("-u", owner):
            print(f"{number}.{SERVER}")
    return 0


def listed(with_finished):
    jobs = {number: load(number)["shown"] for number in numbers()}
    forgets = os.environ.get("DAGMAR_FAKE_PBS_HISTORY") == "no"
    return {n: job for n, job in jobs.items() if job["job_state"] != "F" or (with_finished and not forgets)}


def qstat(arguments):
    if arguments == ["--version"]:
        print(f"pbs_version = {VERSION}")
        return 0
    if arguments == ["-Q", "-f"]:
        return print_queues()
    try:
        found, identifiers = getopt.getopt(arguments, "fxF:aw1u:")
    except getopt.GetoptError as error:
        raise Refused(f"{error}\nusage: qstat [-f] [-x] [-F json] [job_identifier...]", 2) from None
    options = dict(found)
    with_finished, code, shown = "-x" in options, 0, {}
    if identifiers:
        for identifier in identifiers:
            try:
                number = number_of(identifier)
                shown[number] = shown_job(number, with_finished)
            except Refused as refused:
                print(f"qstat: {refused}", file=sys.stderr)
                code = refused.code
    else:
        shown = listed(with_finished)
    if options.get("-F") == "json":
        print_json(shown, bool(identifiers), code)
    elif "-f" in options:
        for number, job in shown.items():
            print_full(number, job)
    elif shown:
        print_table(shown)
    return code


def shown_job(number, with_finished):
    job = load(number)["shown"]
    if job["job_state"] == "F" and not with_finished:
        text = "Job has finished, use -x or -H to obtain historical job information"
        raise Refused(f"{number}.{SERVER} {text}", FINISHED_JOB)
    return job


def in_order(job):
    return {name: job[name] for name in ORDER if name in job}


def print_json(shown, is_asked, code):
    if is_asked and not shown and code:
        return
    # Of several that were asked for, the real one answers for the first only.
    if is_asked:
        shown = dict(list(shown.items())[:1])
    answer = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER}
    if shown:
        answer["Jobs"] = {f"{number}.{SERVER}": in_order(job) for number, job in shown.items()}
    print(json.dumps(answer, indent="\t", separators=(",", ":\t"), ensure_ascii=False))


def print_full(number, job):
    print(f"Job Id: {number}.{SERVER}")
    for name, value in in_order(job).items():
        if name == "Variable_List":
            print_folded(f"    {name} = " + ",".join(f"{key}={text}" for key, text in value.items()))
        elif isinstance(value, dict):
            for key, text in value.items():
                print_folded(f"    {name}.{key} = {text}")
        else:
            print_folded(f"    {name} = {value}")
    print()


def print_queues():
    states = {"Transit": "T", "Queued": "Q", "Held": "H", "Waiting": "W", "Running": "R", "Exiting": "E", "Begun": "B"}
    for queue in QUEUES:
        jobs = [job for job in listed(False).values() if job["queue"] == queue]
        counts = [f"{name}:{sum(job['job_state'] == letter for job in jobs)} " for name, letter in states.items()]
        print(f"Queue: {queue}\n    queue_type = Execution\n    total_jobs = {len(jobs)}")
        print_folded(f"    state_count = {''.join(counts)}")
        print("    enabled = True\n    started = True\n")
    return 0


def print_folded(line, width=79):
    """Breaks behind commas where there are some, else anywhere; what follows begins with a tab."""
    begin = ""
    while len(begin) + len(line) > width:
        at = line.rfind(",", 0, width - len(begin)) + 1 or width - len(begin)
        print(begin + line[:at])
        begin, line = "\t", line[at:]
    print(begin + line)


def print_table(shown):
    print("Job id            Name             User              Time Use S Queue")
    print("----------------  ---------------- ----------------  -------- - -----")
    for number, job in shown.items():
        time_used = job["resources_used"]["cput"] if "resources_used" in job else "0"
        name, owner = job["Job_Name"][:15], job["Job_Owner"].partition("@")[0][:15]
        print(f"{f'{number}.{SERVER}':17} {name:16} {owner:17} {time_used:>8} {job['job_state']} {job['queue']:15} ")
