/* The patterns of Task Bench with OpenMP tasks in one process: one thread makes the tasks, all run
 * them, and `depend` clauses say which need which.
 *
 *     cc -O2 -Wall -fopenmp -o taskbench_omp benches/taskbench_omp.c
 *     OMP_NUM_THREADS=2 ./taskbench_omp --shape stencil_1d --iterations 100 --bytes 16
 */
#include <omp.h>

#include "taskbench.h"

/* Rows of outputs: a step may run ahead of the slowest reader by so many. */
#define ROWS 8

static struct pattern pattern;
static uint64_t *rows[ROWS];

static uint64_t *output(long step, long point) { return rows[step % ROWS] + point * words(); }

static void run_point(long task)
{
    long step = task / width, count = pattern.first[task + 1] - pattern.first[task];
    const uint64_t *inputs[count ? count : 1];
    for (long i = 0; i < count; i++)
        inputs[i] = output(step - 1, pattern.inputs[pattern.first[task] + i]);
    run_task(task % width, count, inputs, output(step, task % width));
}

static void make_tasks(void)
{
    for (long task = 0; task < steps * width; task++) {
        long count = pattern.first[task + 1] - pattern.first[task];
        const long *inputs = pattern.inputs + pattern.first[task];
        uint64_t *before = task < width ? NULL : rows[(task / width - 1) % ROWS];
        uint64_t *result = output(task / width, task % width);
        (void)inputs, (void)before, (void)result;
        if (count == 0) {
#pragma omp task firstprivate(task) depend(out : result[0])
            run_point(task);
        } else {
#pragma omp task firstprivate(task) depend(iterator(i = 0 : count), in : before[inputs[i] * words()]) \
    depend(out : result[0])
            run_point(task);
        }
    }
}

int main(int argc, char **argv)
{
    double best = 1e300;
    int threads = 0;
    parse(argc, argv);
    pattern = make_pattern();
    for (int i = 0; i < ROWS; i++)
        rows[i] = memset(get((size_t)(width * words()) * 8), 0, (size_t)(width * words()) * 8);
    for (long round = 0; round < rounds; round++) {
        double took = 0;
#pragma omp parallel
        {
#pragma omp barrier
#pragma omp master
            {
                threads = omp_get_num_threads();
                double began = now();
                make_tasks();
#pragma omp taskwait
                took = now() - began;
            }
        }
        best = took < best ? took : best;
    }
    uint64_t sum = BEGIN;
    for (long point = 0; point < width; point++)
        sum = take_in(sum, output(steps - 1, point));
    tell("taskbench_omp", threads, best, sum);
    return 0;
}
