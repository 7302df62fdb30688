/* What a task costs a shared-memory library that does nothing else: a loop that makes empty OpenMP
 * tasks, which all threads run. The reference for dagmar in one process.
 *
 *     cc -O2 -Wall -fopenmp -o omp_tasks benches/omp_tasks.c
 *     OMP_NUM_THREADS=2 ./omp_tasks --tasks 1000000
 *
 * Where many tasks wait already, libgomp runs a new one at once instead of keeping it. With --depend 1
 * every task writes a place of its own, which it declares: then none is run at once.
 *
 * The best of --rounds rounds is reported, as one line of JSON. Every task adds one to a count of its
 * thread, so that none can be left out.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    long count;
    char unshared[120];
} counts[256];

static long tasks = 1000000, rounds = 3, depend;
static char places[1 << 16];

static double one_round(void)
{
    double took = 0;
    memset(counts, 0, sizeof counts);
#pragma omp parallel
#pragma omp master
    {
        double began = omp_get_wtime();
        for (long i = 0; i < tasks; i++) {
            if (depend) {
#pragma omp task depend(out : places[i % (1 << 16)])
                counts[omp_get_thread_num() % 256].count++;
            } else {
#pragma omp task
                counts[omp_get_thread_num() % 256].count++;
            }
        }
#pragma omp taskwait
        took = omp_get_wtime() - began;
    }
    return took;
}

int main(int argc, char **argv)
{
    double best = 1e300;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--tasks"))
            tasks = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--depend"))
            depend = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--rounds"))
            rounds = atol(argv[i + 1]);
    }
    if (argc % 2 == 0 || tasks < 1 || rounds < 1) {
        fprintf(stderr, "usage: omp_tasks [--tasks N] [--depend 0|1] [--rounds N]\n");
        return 2;
    }
    for (long round = 0; round < rounds; round++) {
        double took = one_round();
        long count = 0;
        for (int i = 0; i < 256; i++)
            count += counts[i].count;
        if (count != tasks) {
            fprintf(stderr, "omp_tasks: %ld of %ld tasks ran\n", count, tasks);
            return 1;
        }
        best = took < best ? took : best;
    }
    printf("{\"program\":\"omp_tasks\",\"tasks\":%ld,\"depend\":%ld,\"threads\":%d,\"rounds\":%ld,\"seconds\":%.6f,"
           "\"us_per_task\":%.4f}\n",
           tasks, depend, omp_get_max_threads(), rounds, best, best * 1e6 / (double)tasks);
    return 0;
}
