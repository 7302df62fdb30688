"""Steps with files as their targets, as in Luigi: a step whose file is there is not done again.

    python file_targets.py DIRECTORY
"""

import os
import sys

import dagmar


@dagmar.delayed
def write(target, lines):
    """The step itself. Its file is there as a whole or not at all."""
    with open(target + ".part", "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    os.replace(target + ".part", target)
    return target


@dagmar.delayed
def total(target, sources):
    """A step that reads what others have written."""
    values = [int(line) for source in sources for line in open(source)]
    with open(target + ".part", "w") as file:
        file.write(f"{sum(values)}\n")
    os.replace(target + ".part", target)
    return target


def unless_there(step, target, *inputs):
    """The step, or its file if that is there."""
    return target if os.path.exists(target) else step(target, *inputs)


def main():
    directory = os.path.abspath(sys.argv[1])
    os.makedirs(directory, exist_ok=True)
    parts = [unless_there(write, os.path.join(directory, f"part-{n}"), range(n * 10, n * 10 + 10)) for n in range(5)]
    to_do = sum(not isinstance(part, str) for part in parts)
    result = unless_there(total, os.path.join(directory, "total"), parts)
    (result,) = dagmar.compute(result)
    print(f"{to_do} parts were missing; the total is {open(result).read().strip()}")


if __name__ == "__main__":
    main()
