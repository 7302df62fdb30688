/* The limit for command tasks: start /bin/true, take what it prints through pipes, wait for it.
 *
 *     cc -O2 -Wall -o spawn_loop benches/spawn_loop.c
 *     ./spawn_loop --tasks 5000 --parallel 2
 *
 * Each child leads a session, and so a process group, of its own, reads /dev/null and writes two
 * pipes, which are read to their ends: what every captured command of dagmar has. `--bare 1` leaves
 * all of that out: posix_spawn and waitpid. `--parallel` loops run in processes of their own. The
 * best of --rounds is reported, as one line of JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long tasks = 2000, parallel = 1, rounds = 3, bare;
static char *command[] = { "/bin/true", NULL };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void need(int error, const char *what)
{
    if (error) {
        fprintf(stderr, "spawn_loop: %s: %s\n", what, strerror(error));
        exit(1);
    }
}

/* Reads what both pipes hold until the child has closed them. */
static void read_both(const int *ends)
{
    char printed[4096];
    struct pollfd watched[2] = { { ends[0], POLLIN, 0 }, { ends[1], POLLIN, 0 } };
    for (int open = 2; open > 0;) {
        need(poll(watched, 2, -1) < 0 ? errno : 0, "poll");
        for (int i = 0; i < 2; i++)
            if (watched[i].revents && read(watched[i].fd, printed, sizeof printed) <= 0) {
                watched[i].fd = -1;
                open--;
            }
    }
}

static void wait_for(pid_t child)
{
    int status;
    need(waitpid(child, &status, 0) < 0 ? errno : 0, "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "spawn_loop: %s ended with status %d\n", command[0], status);
        exit(1);
    }
}

static void run_bare(void)
{
    pid_t child;
    need(posix_spawn(&child, command[0], NULL, NULL, command, environ), "posix_spawn");
    wait_for(child);
}

static void run_captured(const posix_spawnattr_t *attributes)
{
    posix_spawn_file_actions_t actions;
    int out[2], err[2];
    pid_t child;

    need(pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) ? errno : 0, "pipe2");
    need(posix_spawn_file_actions_init(&actions), "posix_spawn_file_actions_init");
    need(posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0), "addopen");
    need(posix_spawn_file_actions_adddup2(&actions, out[1], 1), "adddup2");
    need(posix_spawn_file_actions_adddup2(&actions, err[1], 2), "adddup2");
    need(posix_spawn(&child, command[0], &actions, attributes, command, environ), "posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    read_both((int[]){ out[0], err[0] });
    close(out[0]);
    close(err[0]);
    wait_for(child);
}

static void loop(long count)
{
    posix_spawnattr_t attributes;
    need(posix_spawnattr_init(&attributes), "posix_spawnattr_init");
    need(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID), "setflags");
    for (long i = 0; i < count; i++)
        if (bare)
            run_bare();
        else
            run_captured(&attributes);
    posix_spawnattr_destroy(&attributes);
}

static double one_round(void)
{
    double began = now();
    int status, failed = 0;
    for (long p = 0; p < parallel; p++) {
        pid_t child = fork();
        need(child < 0 ? errno : 0, "fork");
        if (child == 0) {
            loop(tasks / parallel + (p < tasks % parallel));
            _exit(0);
        }
    }
    for (long p = 0; p < parallel; p++)
        failed |= wait(&status) < 0 || status != 0;
    if (failed)
        exit(1);
    return now() - began;
}

static long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 1) {
        fprintf(stderr, "usage: spawn_loop [--tasks N] [--parallel N] [--bare 1] [--rounds N]\n");
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    double best = 1e300;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--tasks"))
            tasks = number(value);
        else if (!strcmp(argv[i], "--parallel"))
            parallel = number(value);
        else if (!strcmp(argv[i], "--rounds"))
            rounds = number(value);
        else if (!strcmp(argv[i], "--bare"))
            bare = number(value);
        else
            number("");
    }
    for (long round = 0; round < rounds; round++) {
        double took = one_round();
        best = took < best ? took : best;
    }
    printf("{\"program\":\"spawn_loop\",\"tasks\":%ld,\"parallel\":%ld,\"bare\":%ld,\"rounds\":%ld,\"seconds\":%.6f,"
           "\"us_per_task\":%.2f}\n",
           tasks, parallel, bare, rounds, best, best * 1e6 / (double)tasks);
    return 0;
}
