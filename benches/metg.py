"""METG(50%): the smallest task of which half the time is still work, on the patterns of Task Bench.

The kernel is shrunk while width and steps stay; granularity is seconds times cores over tasks, and
efficiency is the share of it that the kernel alone takes. All programs have the same cores, kernel,
values and checksum, and each run is checked. Start-up counts for none of them.
"""

from programs import CORES, Contest, Dagmar, Program, Wrong, mpirun, omp

# Task Bench's tree is a fan-out; our tree is a reduction and has no kernel.
PATTERNS = {
    "trivial": "trivial", "no_comm": "no_comm", "stencil_1d": "stencil_1d", "dom": "dom", "tree": "fan_out",
    "fft": "fft", "all_to_all": "all_to_all", "nearest": "nearest", "spread": "spread",
    "random_nearest": "random_nearest",
}
BARRED = ["stencil_1d", "fft", "tree"]
# How long the largest tasks take together: 60 us each in the usual size.
KERNEL_SECONDS = 0.5


class Kernel:
    """How long a turn of the kernel's loop takes when all cores compute."""

    def __init__(self, places):
        turns, steps = 1_000_000, 40
        flags = ["--shape", "no_comm", "--width", CORES, "--steps", steps, "--iterations", turns]
        ran = omp(places, "taskbench_omp", *flags, "--bytes", 16).run()
        self.seconds = ran["seconds"] / steps / turns


class Size:
    """What stays as it is while the kernel shrinks."""

    def __init__(self, pattern, width, steps, size_bytes):
        self.shape, self.width, self.steps, self.bytes = PATTERNS[pattern], width, steps, size_bytes
        self.tasks = width * steps

    def flags(self, iterations):
        return ["--width", self.width, "--steps", self.steps, "--iterations", iterations, "--bytes", self.bytes]


class Plain:
    """A C program. Its checksums, by iterations, are what dagmar's must be."""

    def __init__(self, places, program, launcher, environment=None):
        self.name = " ".join(map(str, [*launcher, program]))
        self.program = Program(self.name, [*launcher, places.programs / program], environment)

    def seconds(self, size, iterations, sums):
        ran = self.program.run("--shape", size.shape, *size.flags(iterations))
        known = sums.setdefault(iterations, ran["checksum"])
        if known != ran["checksum"]:
            raise Wrong(f"{self.name}: {size.shape} has the checksum {ran['checksum']}, not {known}")
        return ran["seconds"]


class Ours:
    """dagmar, from the first task that could start to the last that ended."""

    def __init__(self, places, ranks):
        self.places, self.dagmar = places, Dagmar(places, ranks)
        self.name = self.dagmar.name

    def seconds(self, size, iterations, sums):
        graph = self.places.made(size.shape, size.width, size.steps, *size.flags(iterations)[4:])
        return self.dagmar.run(graph, size.tasks + 1, {"checksum": sums[iterations]})["inside"]


def metg(program, size, kernel, sums):
    """Microseconds; on the line (of logarithms) between the last size that was efficient and the first
    that was not."""

    def measure(iterations):
        work = iterations * kernel.seconds
        granularity = program.seconds(size, iterations, sums) * CORES / size.tasks
        return granularity, work / granularity

    iterations = max(1, int(KERNEL_SECONDS * CORES / size.tasks / kernel.seconds))
    last = measure(iterations)
    while last[1] < 0.5:
        iterations *= 4
        last = measure(iterations)
    while iterations > 1:
        iterations //= 2
        granularity, efficiency = measure(iterations)
        if efficiency < 0.5:
            share = (last[1] - 0.5) / (last[1] - efficiency)
            return last[0] * (granularity / last[0]) ** share * 1e6
        last = (granularity, efficiency)
    return last[0] * 1e6


class Sums(dict):
    """The checksums by iterations, by plain MPI."""

    def __init__(self, places, size):
        self.plain, self.size = Plain(places, "taskbench_mpi", mpirun(CORES)), size

    def __missing__(self, iterations):
        self.plain.seconds(self.size, iterations, known := {})
        self[iterations] = known[iterations]
        return self[iterations]


def contests(places, small, patterns, sizes=(16,)):
    width, steps = 4 * CORES, 20 if small else 1000
    kernel = Kernel(places)
    for size_bytes in sizes:
        for pattern in patterns:
            size = Size(pattern, width, steps if size_bytes < 4096 else max(steps // 10, 20), size_bytes)
            sums = Sums(places, size)
            plain = Plain(places, "taskbench_mpi", mpirun(CORES))
            tasks = Plain(places, "taskbench_omp", [], {"OMP_NUM_THREADS": str(CORES)})
            contest = Contest(f"METG(50%) {pattern}, {size_bytes} B, {width} wide", "us")

            def enter(program, **held):
                measure = lambda program=program, size=size, sums=sums: {"figure": metg(program, size, kernel, sums)}
                contest.enter(program.name, measure, **held)

            for ranks in (1, 2, 3):
                is_barred = pattern in BARRED and ranks > 1 and size_bytes == 16
                held = {"bar": 10, "also": tasks.name} if is_barred else {}
                enter(Ours(places, ranks), against=plain.name, **held)
            enter(plain)
            enter(tasks, against=plain.name)
            yield contest


def usual(places, small):
    yield from contests(places, small, BARRED)


def everything(places, small):
    yield from contests(places, small, PATTERNS, (16, 65536))
