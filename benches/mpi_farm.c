/* The limit that dagmar is compared with: a farm of no-op tasks in plain MPI, with no graph, no
 * keys, no failures and no idle sleep.
 *
 *     mpicc -O2 -Wall -o mpi_farm benches/mpi_farm.c
 *     mpirun -n 3 ./mpi_farm --mode farm --tasks 1000000 --batch 64
 *     mpirun -n 2 ./mpi_farm --mode chain --tasks 100000
 *     mpirun -n 2 ./mpi_farm --mode pingpong --bytes 65536 --tasks 1000
 *     mpirun -n 2 ./mpi_farm --mode stream --bytes 1048576 --tasks 1000
 *
 * farm      rank 0 keeps two batches with every worker, whose answers name the tasks done
 * chain     one task under way at a time, to the workers by turns
 * pingpong  a message of --bytes to rank 1 and back; us_per_task is one way; with --fresh 1 every
 *           receive goes into new memory, as values of a runtime must
 * stream    messages of --bytes to rank 1, each out of memory of its own into new memory that is kept,
 *           as a task receives its inputs; us_per_task is one message
 *
 * Receives are posted before what they receive is asked for. MPI_Init and a first barrier are
 * start-up and counted apart; the best of --rounds rounds is reported, as one line of JSON.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TAG_TASKS = 1, TAG_DONE = 2, DEPTH = 2 };

struct task {
    uint64_t id, arguments[3];
};

/* One of the DEPTH batches that a worker may have. */
struct batch {
    struct task *tasks;
    uint64_t *done;
    MPI_Request sent;
};

static int rank, size;
static long tasks = 100000, batch = 64, bytes = 8, rounds = 3, fresh;
static const char *mode = "farm";
/* What rank 0 streams. */
static char **sources;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *get(size_t length)
{
    void *memory = malloc(length ? length : 1);
    if (!memory)
        MPI_Abort(MPI_COMM_WORLD, 1);
    return memory;
}

static int receive_done(struct batch *one, int worker, MPI_Request *request)
{
    return MPI_Irecv(one->done, (int)batch, MPI_UINT64_T, worker, TAG_DONE, MPI_COMM_WORLD, request);
}

/* Sends up to a batch of tasks, the first of which is `*next`. */
static void send_batch(struct batch *one, int worker, long *next)
{
    long count = tasks - *next < batch ? tasks - *next : batch;
    MPI_Wait(&one->sent, MPI_STATUS_IGNORE);
    for (long i = 0; i < count; i++)
        one->tasks[i].id = (uint64_t)(*next + i);
    *next += count;
    MPI_Isend(one->tasks, (int)(count * (long)sizeof(struct task)), MPI_BYTE, worker, TAG_TASKS,
              MPI_COMM_WORLD, &one->sent);
}

static void hand_out(void)
{
    int slots = (size - 1) * DEPTH, ready;
    struct batch *batches = get((size_t)slots * sizeof *batches);
    MPI_Request *answers = get((size_t)slots * sizeof *answers);
    MPI_Status *statuses = get((size_t)slots * sizeof *statuses);
    int *which = get((size_t)slots * sizeof *which);
    long next = 0, done = 0;
    uint64_t sum = 0;

    for (int i = 0; i < slots; i++) {
        batches[i].tasks = calloc((size_t)batch, sizeof(struct task));
        batches[i].done = get((size_t)batch * sizeof(uint64_t));
        batches[i].sent = MPI_REQUEST_NULL;
        answers[i] = MPI_REQUEST_NULL;
    }
    /* All workers get their first batch before any gets its second. */
    for (int depth = 0; depth < DEPTH; depth++)
        for (int worker = 1; worker < size && next < tasks; worker++) {
            int i = (worker - 1) * DEPTH + depth;
            receive_done(&batches[i], worker, &answers[i]);
            send_batch(&batches[i], worker, &next);
        }
    while (done < tasks) {
        MPI_Waitsome(slots, answers, &ready, which, statuses);
        for (int k = 0; k < ready; k++) {
            int i = which[k], worker = i / DEPTH + 1, count;
            MPI_Get_count(&statuses[k], MPI_UINT64_T, &count);
            for (int t = 0; t < count; t++)
                sum += batches[i].done[t];
            done += count;
            if (next < tasks) {
                receive_done(&batches[i], worker, &answers[i]);
                send_batch(&batches[i], worker, &next);
            }
        }
    }
    if (sum != (uint64_t)tasks * ((uint64_t)tasks - 1) / 2) {
        fprintf(stderr, "mpi_farm: a task was lost or done twice\n");
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (int worker = 1; worker < size; worker++)
        MPI_Send(NULL, 0, MPI_BYTE, worker, TAG_TASKS, MPI_COMM_WORLD);
    for (int i = 0; i < slots; i++) {
        MPI_Wait(&batches[i].sent, MPI_STATUS_IGNORE);
        free(batches[i].tasks);
        free(batches[i].done);
    }
    free(batches), free(answers), free(statuses), free(which);
}

static void work(void)
{
    int length = (int)((size_t)batch * sizeof(struct task)), got;
    struct task *in[DEPTH];
    uint64_t *out[DEPTH];
    MPI_Request arriving[DEPTH], leaving[DEPTH];

    for (int i = 0; i < DEPTH; i++) {
        in[i] = get((size_t)length);
        out[i] = get((size_t)batch * sizeof(uint64_t));
        leaving[i] = MPI_REQUEST_NULL;
        MPI_Irecv(in[i], length, MPI_BYTE, 0, TAG_TASKS, MPI_COMM_WORLD, &arriving[i]);
    }
    for (int i = 0;; i = (i + 1) % DEPTH) {
        MPI_Status status;
        MPI_Wait(&arriving[i], &status);
        MPI_Get_count(&status, MPI_BYTE, &got);
        int count = got / (int)sizeof(struct task);
        if (count == 0) {
            /* The end: the receive that is posted for the next batch is not needed. */
            int other = (i + 1) % DEPTH;
            MPI_Cancel(&arriving[other]);
            MPI_Wait(&arriving[other], MPI_STATUS_IGNORE);
            break;
        }
        MPI_Wait(&leaving[i], MPI_STATUS_IGNORE);
        for (int t = 0; t < count; t++)
            out[i][t] = in[i][t].id;
        MPI_Irecv(in[i], length, MPI_BYTE, 0, TAG_TASKS, MPI_COMM_WORLD, &arriving[i]);
        MPI_Isend(out[i], count, MPI_UINT64_T, 0, TAG_DONE, MPI_COMM_WORLD, &leaving[i]);
    }
    for (int i = 0; i < DEPTH; i++) {
        MPI_Wait(&leaving[i], MPI_STATUS_IGNORE);
        free(in[i]);
        free(out[i]);
    }
}

static void chain(void)
{
    for (long n = 0; n < tasks; n++) {
        int worker = 1 + (int)(n % (size - 1));
        struct task task = { .id = (uint64_t)n };
        uint64_t done;
        MPI_Request answer;
        if (rank == 0) {
            MPI_Irecv(&done, 1, MPI_UINT64_T, worker, TAG_DONE, MPI_COMM_WORLD, &answer);
            MPI_Send(&task, (int)sizeof task, MPI_BYTE, worker, TAG_TASKS, MPI_COMM_WORLD);
            MPI_Wait(&answer, MPI_STATUS_IGNORE);
        } else if (rank == worker) {
            MPI_Recv(&task, (int)sizeof task, MPI_BYTE, 0, TAG_TASKS, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(&task.id, 1, MPI_UINT64_T, 0, TAG_DONE, MPI_COMM_WORLD);
        }
    }
}

static void pingpong(void)
{
    static char *kept, *sent;
    if (!kept) {
        kept = memset(get((size_t)bytes), 1, (size_t)bytes);
        sent = memset(get((size_t)bytes), 1, (size_t)bytes);
    }
    for (long n = 0; n < tasks && rank < 2; n++) {
        char *to = fresh ? get((size_t)bytes) : kept;
        if (rank == 0)
            MPI_Send(sent, (int)bytes, MPI_BYTE, 1, TAG_TASKS, MPI_COMM_WORLD);
        MPI_Recv(to, (int)bytes, MPI_BYTE, 1 - rank, TAG_TASKS, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(to, (int)bytes, MPI_BYTE, 0, TAG_TASKS, MPI_COMM_WORLD);
        if (fresh)
            free(to);
    }
}

static char **blocks(void)
{
    char **all = get((size_t)tasks * sizeof *all);
    for (long n = 0; n < tasks; n++)
        all[n] = get((size_t)bytes);
    return all;
}

static void drop(char **all)
{
    for (long n = 0; n < tasks; n++)
        free(all[n]);
    free(all);
}

/* Up to three messages are under way. Rank 1 asks for memory when it is about to receive into it. */
static void stream(void)
{
    enum { WINDOW = 3 };
    MPI_Request under_way[WINDOW] = { MPI_REQUEST_NULL, MPI_REQUEST_NULL, MPI_REQUEST_NULL };
    char **all = rank == 0 ? sources : get((size_t)tasks * sizeof *all);

    for (long n = 0; n < tasks && rank < 2; n++) {
        MPI_Request *one = &under_way[n % WINDOW];
        MPI_Wait(one, MPI_STATUS_IGNORE);
        if (rank == 0) {
            MPI_Isend(all[n], (int)bytes, MPI_BYTE, 1, TAG_TASKS, MPI_COMM_WORLD, one);
        } else {
            all[n] = get((size_t)bytes);
            MPI_Irecv(all[n], (int)bytes, MPI_BYTE, 0, TAG_TASKS, MPI_COMM_WORLD, one);
        }
    }
    MPI_Waitall(WINDOW, under_way, MPI_STATUSES_IGNORE);
    if (rank == 1) {
        char word = 1;
        MPI_Send(&word, 1, MPI_BYTE, 0, TAG_DONE, MPI_COMM_WORLD);
        for (long n = 0; n < tasks; n++)
            if (all[n][0] != (char)n || all[n][bytes - 1] != (char)n)
                MPI_Abort(MPI_COMM_WORLD, 1);
        drop(all);
    } else if (rank == 0) {
        char word;
        MPI_Recv(&word, 1, MPI_BYTE, 1, TAG_DONE, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
}

static void one_round(void)
{
    if (!strcmp(mode, "chain"))
        chain();
    else if (!strcmp(mode, "stream"))
        stream();
    else if (!strcmp(mode, "pingpong"))
        pingpong();
    else if (rank == 0)
        hand_out();
    else
        work();
}

static void usage(void)
{
    fprintf(stderr, "usage: mpirun -n RANKS mpi_farm [--mode farm|chain|pingpong|stream] [--tasks N] [--batch B]"
                    " [--bytes N] [--fresh 0|1] [--rounds N]\n");
    exit(2);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            usage();
        if (!strcmp(argv[i], "--mode"))
            mode = argv[i + 1];
        else if (!strcmp(argv[i], "--tasks"))
            tasks = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--batch"))
            batch = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--bytes"))
            bytes = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--fresh"))
            fresh = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--rounds"))
            rounds = atol(argv[i + 1]);
        else
            usage();
    }
    if (tasks < 1 || batch < 1 || bytes < 0 || rounds < 1)
        usage();
    if (strcmp(mode, "farm") && strcmp(mode, "chain") && strcmp(mode, "pingpong") && strcmp(mode, "stream"))
        usage();
}

int main(int argc, char **argv)
{
    double best = 1e300, startup;

    parse(argc, argv);
    startup = now();
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size < 2) {
        fprintf(stderr, "mpi_farm: at least two ranks are needed\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    if (!strcmp(mode, "stream") && rank == 0) {
        sources = blocks();
        for (long n = 0; n < tasks; n++)
            memset(sources[n], (int)n, (size_t)bytes);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    startup = now() - startup;
    for (long round = 0; round < rounds; round++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double began = MPI_Wtime();
        one_round();
        double took = MPI_Wtime() - began;
        best = took < best ? took : best;
    }
    if (rank == 0) {
        int pingpongs = !strcmp(mode, "pingpong"), has_bytes = pingpongs || !strcmp(mode, "stream");
        double each = best * 1e6 / (double)tasks / (pingpongs ? 2 : 1);
        printf("{\"program\":\"mpi_farm\",\"mode\":\"%s\",\"tasks\":%ld,\"batch\":%ld,\"bytes\":%ld,"
               "\"fresh\":%ld,\"ranks\":%d,\"rounds\":%ld,\"startup_seconds\":%.6f,\"seconds\":%.6f,"
               "\"us_per_task\":%.4f}\n",
               mode, tasks, batch, has_bytes ? bytes : (long)sizeof(struct task), fresh, size, rounds, startup,
               best, each);
    }
    MPI_Finalize();
    return 0;
}
