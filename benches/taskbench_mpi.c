/* The patterns of Task Bench in plain MPI: nonblocking messages between the owners of points.
 *
 *     mpicc -O2 -Wall -o taskbench_mpi benches/taskbench_mpi.c
 *     mpirun -n 2 ./taskbench_mpi --shape stencil_1d --iterations 100 --bytes 16
 *
 * Every rank owns a stretch of the points and computes them step by step. A point's output goes once
 * to every other rank that needs it. Nothing is decided while it runs, and nothing can fail: this is
 * what a graph costs if it is written by hand as an MPI program.
 */
#include <mpi.h>

#include "taskbench.h"

static int rank, size;
static struct pattern pattern;

/* What one step exchanges: points of the step before, and with whom. */
struct exchange {
    long count, room;
    struct message {
        long point;
        int other;
    } *messages;
};

static struct exchange *receives, *sends;

static long first_of(int owner) { return width * owner / size; }

static int owner_of(long point)
{
    int owner = (int)(point * size / width);
    while (point < first_of(owner))
        owner--;
    while (owner + 1 < size && point >= first_of(owner + 1))
        owner++;
    return owner;
}

static void add(struct exchange *exchange, long point, int other)
{
    for (long i = 0; i < exchange->count; i++)
        if (exchange->messages[i].point == point && exchange->messages[i].other == other)
            return;
    if (exchange->count == exchange->room) {
        exchange->room = exchange->room ? 2 * exchange->room : 4;
        exchange->messages = realloc(exchange->messages, (size_t)exchange->room * sizeof(struct message));
        if (!exchange->messages)
            MPI_Abort(MPI_COMM_WORLD, 1);
    }
    exchange->messages[exchange->count++] = (struct message){ point, other };
}

/* Finds all messages of all steps before the clock runs. */
static void plan(void)
{
    receives = calloc((size_t)steps, sizeof *receives);
    sends = calloc((size_t)steps, sizeof *sends);
    for (long task = width; task < steps * width; task++) {
        int taker = owner_of(task % width);
        for (long i = pattern.first[task]; i < pattern.first[task + 1]; i++) {
            int giver = owner_of(pattern.inputs[i]);
            if (taker == rank && giver != rank)
                add(&receives[task / width], pattern.inputs[i], giver);
            if (giver == rank && taker != rank)
                add(&sends[task / width], pattern.inputs[i], taker);
        }
    }
}

static uint64_t *rows[2];

static uint64_t *output(long step, long point) { return rows[step % 2] + point * words(); }

static MPI_Request *requests;

static void exchange(long step)
{
    int pending = 0, length = (int)(words() * 8);
    for (long i = 0; i < receives[step].count; i++) {
        struct message *one = &receives[step].messages[i];
        MPI_Irecv(output(step - 1, one->point), length, MPI_BYTE, one->other, (int)one->point, MPI_COMM_WORLD,
                  &requests[pending++]);
    }
    for (long i = 0; i < sends[step].count; i++) {
        struct message *one = &sends[step].messages[i];
        MPI_Isend(output(step - 1, one->point), length, MPI_BYTE, one->other, (int)one->point, MPI_COMM_WORLD,
                  &requests[pending++]);
    }
    if (pending)
        MPI_Waitall(pending, requests, MPI_STATUSES_IGNORE);
}

static void one_round(void)
{
    const uint64_t **inputs = get((size_t)width * sizeof *inputs);
    for (long step = 0; step < steps; step++) {
        exchange(step);
        for (long point = first_of(rank), end = first_of(rank + 1); point < end; point++) {
            long task = step * width + point, count = pattern.first[task + 1] - pattern.first[task];
            for (long i = 0; i < count; i++)
                inputs[i] = output(step - 1, pattern.inputs[pattern.first[task] + i]);
            run_task(point, count, inputs, output(step, point));
        }
    }
    free(inputs);
}

/* All outputs of the last step, on rank 0. */
static uint64_t checksum(void)
{
    uint64_t sum = BEGIN;
    for (long point = 0; point < width; point++) {
        int owner = owner_of(point);
        if (owner != 0 && rank == owner)
            MPI_Send(output(steps - 1, point), (int)words() * 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        if (owner != 0 && rank == 0)
            MPI_Recv(output(steps - 1, point), (int)words() * 8, MPI_BYTE, owner, 0, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        if (rank == 0)
            sum = take_in(sum, output(steps - 1, point));
    }
    return sum;
}

int main(int argc, char **argv)
{
    double best = 1e300;
    parse(argc, argv);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    pattern = make_pattern();
    plan();
    requests = get((size_t)(2 * width * size) * sizeof *requests);
    for (int i = 0; i < 2; i++)
        rows[i] = memset(get((size_t)(width * words()) * 8), 0, (size_t)(width * words()) * 8);
    for (long round = 0; round < rounds; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double began = now();
        one_round();
        MPI_Barrier(MPI_COMM_WORLD);
        double took = now() - began;
        best = took < best ? took : best;
    }
    uint64_t sum = checksum();
    if (rank == 0)
        tell("taskbench_mpi", size, best, sum);
    MPI_Finalize();
    return 0;
}
