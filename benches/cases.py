"""What is measured, case by case: each gives contests. `small` checks results and measures nothing."""

import shutil

from programs import CORES, Contest, Dagmar, Program, Wrong, farm, mpirun, omp, run, spawn_loop

BATCHES = [1, 16, 64, 256]
# What mpi_farm reports: the best of so many.
BEST_OF = 3


def noop(places, small):
    """Each task more, between two sizes: knows no start-up at all."""
    few, many = (1_000, 5_000) if small else (100_000, 1_000_000)
    graphs = {tasks: places.made("trivial", tasks, 1) for tasks in (few, many)}

    def slope(time_of):
        times = {tasks: time_of(tasks) for tasks in (few, many)}
        each = {name: (times[many][name] - times[few][name]) / (many - few) * 1e6 for name in ("time", "cpu")}
        return {"figure": max(each["time"], 1e-4), "cpu_us": each["cpu"]}

    def dagmar(ranks):
        program = Dagmar(places, ranks)

        def time_of(tasks):
            # The values of a million tasks are looked at through a few of them.
            expected = {f"task[{index}]": None for index in (0, tasks // 2, tasks - 1)}
            ran = program.run(graphs[tasks], tasks, expected)
            return {"time": ran["wall"], "cpu": ran["cpu"]}

        return program.name, lambda: slope(time_of)

    def reference(program):
        def time_of(tasks):
            ran = program.run("--tasks", tasks)
            return {"time": ran["seconds"], "cpu": ran["cpu"]}

        return program.name, lambda: slope(time_of)

    loops = [omp(places, "omp_tasks"), omp(places, "omp_tasks", "--depend", 1)]
    contest = Contest("noop, each task more", "us")
    contest.enter(*dagmar(1), against=loops[0].name, bar=0.15)
    for loop in loops:
        contest.enter(*reference(loop))
    for ranks in (2, 3):
        farms = {batch: farm(places, ranks, "--batch", batch) for batch in BATCHES}
        contest.enter(*dagmar(ranks), against=farms[64].name, bar=10)
        for program in farms.values():
            contest.enter(*reference(program))
    yield contest


def chain(places, small):
    """A link of a chain; beside it the round trip between a scheduler and a worker."""
    steps = 500 if small else 10_000
    graph = places.made("chain", 1, steps)
    expected = {f"point[{steps - 1},0]": steps}
    contest = Contest(f"chain of {steps}, a link", "us")
    for ranks in (1, 2, 3):
        program = Dagmar(places, ranks)
        contest.enter(program.name, inside_of(program, graph, steps, expected), most=1)
    for ranks in (2, 3):
        enter_trips(contest, farm(places, ranks, "--mode", "chain"), steps)
    yield contest
    yield exchange(places, steps)


def exchange(places, steps):
    """Two points that need both of the step before, on two workers with a core each: what crosses is
    counted, so that a schedule that keeps both on one worker does not pass for a fast one."""
    # Some 14 us: enough that both workers get one of each step.
    flags = ["--iterations", 8192, "--bytes", 16]
    graph = places.made("all_to_all", 2, steps, *flags)
    checksum, _ = reference_of(places, "all_to_all", 2, steps, flags)
    program, trips = Dagmar(places, 3), farm(places, 3, "--mode", "chain")
    alone = omp(places, "taskbench_omp", "--shape", "no_comm", "--width", 1, "--steps", steps, *flags)

    def crossing():
        ran = program.run(graph, 2 * steps + 1, {"checksum": checksum})
        kernel = alone.run()["seconds"]
        crossed = ran["moved"] / (2 * 16 * (steps - 1))
        return {"figure": max(ran["inside"] - kernel, 1e-9) / steps * 1e6, "crossed_share": crossed}

    contest = Contest(f"two points that need each other, {steps} steps, a step less its kernel", "us")
    contest.enter(program.name, crossing, against=trips.name, bar=2)
    enter_trips(contest, trips, steps)
    return contest


def enter_trips(contest, program, count):
    contest.enter(program.name, lambda: {"figure": program.run("--tasks", count)["us_per_task"]})


def reference_of(places, shape, width, steps, flags):
    """The checksum and the seconds of the same pattern in plain MPI."""
    size = ["--shape", shape, "--width", width, "--steps", steps, *flags]
    ran = Program("taskbench_mpi", [*mpirun(2), places.programs / "taskbench_mpi"]).run(*size)
    return ran["checksum"], ran["seconds"]


def inside_of(program, graph, tasks, expected):
    """From the first task that could start to the last that ended: start-up varies by more than a short
    graph takes, so it cannot be subtracted."""

    def measure():
        return {"figure": program.run(graph, tasks, expected)["inside"] / tasks * 1e6}

    return measure


def net_of(program, graph, tasks, expected):
    def measure():
        ran = program.net(graph, tasks, expected)
        return {"figure": ran["net"] / tasks * 1e6, "cpu_us": ran["net_cpu"] / tasks * 1e6}

    return measure


def shapes(places, small):
    """A tree and a stencil whose values are computed again here, beside a farm without dependencies."""
    leaves = 1 << (8 if small else 15)
    width, steps = (16, 50) if small else (64, 1000)
    last = {f"point[{steps - 1},{point}]": value for point, value in enumerate(last_row(width, steps))}
    top = {f"level_{leaves.bit_length() - 1}[0]": leaves}
    for name, graph, tasks, expected in [
        (f"tree of {leaves} leaves", places.made("tree", leaves, 1), 2 * leaves - 1, top),
        (f"stencil {width} x {steps}", places.made("stencil_1d", width, steps), width * steps, last),
    ]:
        contest = Contest(f"{name}, a task", "us")
        for ranks in (1, 3):
            program = Dagmar(places, ranks)
            contest.enter(program.name, net_of(program, graph, tasks, expected))
        enter_trips(contest, farm(places, 3), tasks)
        yield contest


def last_row(width, steps):
    """What the last points of a stencil are worth, computed without dagmar: the definition stands
    at the top of src/client/formats/make.rs."""

    def first_value(point):
        state = (point * 0x9E37_79B9_7F4A_7C15) % 2**64
        for _ in range(3):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return ((state >> 32) * 1000) >> 32

    row = [first_value(point) for point in range(width)]
    for step in range(1, steps):
        taken = max if step % 2 else min
        row = [taken(row[max(0, point - 1) : point + 2]) for point in range(width)]
    return row


def commands(places, small):
    """`/bin/true`, both streams captured, beside a loop with the same sessions and pipes."""
    count = 50 if small else 2_000
    many = places.written("commands", f"""
        [tasks.true]
        each = {{ number = "1..{count}" }}
        run = ["/bin/true"]
    """)
    loop = spawn_loop(places, CORES)
    contest = Contest(f"/bin/true x {count}, a command", "us")
    for ranks in (1, 3):
        program = Dagmar(places, ranks)
        contest.enter(program.name, net_of(program, many, count, None), against=loop.name, bar=1.15)
    enter_trips(contest, loop, count)
    bare = spawn_loop(places, CORES)
    bare.name, bare.command = bare.name + ", nothing captured", [*bare.command, "--bare", 1]
    enter_trips(contest, bare, count)
    for name, command in rivals(count):
        contest.enter(name, lambda command=command: {"figure": run(command)[1] / count * 1e6}, against=loop.name)
    yield contest
    yield command_chain(places, count // 10)


def rivals(count):
    """Other ways to run many commands, where they are installed."""
    feed = f"seq {count} | "
    if shutil.which("xargs"):
        yield f"xargs -P {CORES}", ["sh", "-c", f"{feed} xargs -P {CORES} -n 1 /bin/true"]
    if shutil.which("parallel"):
        yield f"parallel -j {CORES}", ["sh", "-c", f"{feed} parallel --will-cite -j {CORES} /bin/true"]


def command_chain(places, count):
    graph = places.written("command_chain", f"""
        [tasks.true]
        each = {{ number = "1..{count}" }}
        run = ["/bin/true"]
        after = ["true[{{number-1}}]?"]
    """)
    loop, trips = spawn_loop(places, 1), farm(places, 3, "--mode", "chain")
    contest = Contest(f"{count} times /bin/true, one after the other", "us")
    contest.enter(Dagmar(places, 1).name, net_of(Dagmar(places, 1), graph, count, None), against=loop.name, bar=1.3)
    enter_trips(contest, loop, count)
    both = f"{loop.name} + one MPI round trip"
    contest.enter(Dagmar(places, 3).name, net_of(Dagmar(places, 3), graph, count, None), against=both, bar=1.3)
    contest.enter(both, lambda: {
        "figure": loop.run("--tasks", count)["us_per_task"] + trips.run("--tasks", count)["us_per_task"]
    })
    return contest


def payload(places, small):
    """Large outputs from worker to worker: two workers with a core each make as many, and when all are there a
    checksum needs all of them where it runs. Two stamps, taken between the making and the checksum and after it,
    tell what the moving took, less the same with outputs of 16 bytes. Beside it as many messages of that size,
    each out of memory of its own into new memory that is kept. Either reports the best of three: a virtual machine
    that touches memory which its host has taken back waits for the host, up to a second for this much."""
    program = Dagmar(places, 3)
    total = 16 if small else 1024
    for mebibytes in [1] if small else [1, 16, 64, 256]:
        size, width = mebibytes << 20, max(4, total // mebibytes)

        def ours(size=size, width=width):
            few = moving(places, program, width, 16)

            def once():
                # A worker that joins late may find nothing left to do; then nothing has to cross.
                tries = (moving(places, program, width, size) for _ in range(5))
                many = next((one for one in tries if one["moved"] >= size), None)
                if many is None:
                    raise Wrong(f"{program.name}: nothing of {size} bytes crossed in five runs")
                moved = many["moved"] - few["moved"]
                return moved / 2**20 / max(many["seconds"] - few["seconds"], 1e-9), moved / 2**20

            figure, moved = max(once() for _ in range(BEST_OF))
            return {"figure": figure, "moved_mib": moved}

        def raw(mode, count, *more, size=size):
            ran = farm(places, 2, "--mode", mode, "--bytes", size, *more).run("--tasks", count)
            return {"figure": (size >> 20) / (ran["us_per_task"] / 1e6)}

        contest = Contest(f"outputs of {mebibytes} MiB, worker to worker", "MiB/s", higher_is_better=True)
        stream, pingpong = "MPI messages into memory that is kept", "MPI messages back and forth, memory freed"
        contest.enter(program.name, ours, against=stream, bar=0.8)
        contest.enter(stream, lambda raw=raw, width=width: raw("stream", width // 2))
        contest.enter(pingpong, lambda raw=raw, width=width: raw("pingpong", width // 2, "--fresh", 1))
        yield contest


def moving(places, program, width, size):
    """The seconds between two stamps but those of the checksum, and the bytes that moved."""
    blocks = ", ".join(f'"@block[{number}]"' for number in range(width))
    # What is expected to take long is not looked beyond: no output moves before the first stamp.
    graph = places.written(f"moving_{width}_{size}", f"""
        [tasks.block]
        each = {{ number = "0..{width - 1}" }}
        call = "kernel"
        args = [100000, {size}, "{{number}}"]
        [tasks.begin]
        run = ["date", "+%s.%N"]
        after = ["block"]
        expected = "1h"
        [tasks.checksum]
        call = "checksum"
        args = [{blocks}]
        after = ["begin"]
        [tasks.end]
        run = ["date", "+%s.%N"]
        after = ["checksum"]
    """)
    # The values do not depend on the size.
    checksum, _ = reference_of(places, "no_comm", width, 1, ["--iterations", 100_000, "--bytes", 16])
    told, _, _ = program.start(graph, "begin", "checksum", "end")
    values = {output["key"]: output["value"] for output in told["outputs"]}
    if values["checksum"] != checksum:
        raise Wrong(f"{program.name} {graph.name}: the checksum is {values['checksum']}, not {checksum}")
    groups = {group["name"]: group["total_s"] for group in told["report"]["slowest_groups"]}
    between = float(values["end"]) - float(values["begin"])
    return {"seconds": between - groups["checksum"], "moved": told["report"]["moved_bytes"]}
