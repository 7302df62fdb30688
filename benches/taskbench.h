/* The dependence patterns of Task Bench with a kernel of a known length, shared by the limit programs
 * in plain MPI and with OpenMP tasks. The same patterns, kernel and values as `dagmar graph make
 * SHAPE --iterations N --bytes B`, whose sources (client/formats/make/pattern.rs, worker/function/
 * kernel.rs) have the reasons: the checksum at the end is the same number in all three.
 */
#ifndef TASKBENCH_H
#define TASKBENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long width = 16, steps = 1000, iterations = 100, bytes = 16, rounds = 1;
static const char *shape = "stencil_1d";

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *get(size_t length)
{
    void *memory = malloc(length ? length : 1);
    if (!memory) {
        fprintf(stderr, "taskbench: no memory\n");
        exit(1);
    }
    return memory;
}

/* ------------------------------------------------------------------ patterns */

static uint64_t mix(uint64_t value)
{
    return value * 6364136223846793005u + 1442695040888963407u;
}

struct chance {
    uint64_t state;
};

static uint32_t below(struct chance *chance, uint32_t limit)
{
    chance->state = mix(chance->state);
    return (uint32_t)(((chance->state >> 32) * limit) >> 32);
}

static struct chance chance_at(long step, long point)
{
    uint64_t place = ((uint64_t)step << 32) | (uint64_t)point;
    return (struct chance){ mix(mix(place * 0x9E3779B97F4A7C15u)) };
}

static int by_number(const void *left, const void *right)
{
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static long around(long point, long reach, long *inputs)
{
    long count = 0;
    for (long other = point - reach; other <= point + reach; other++)
        if (other >= 0 && other < width)
            inputs[count++] = other;
    return count;
}

static long fft(long step, long point, long *inputs)
{
    long rounds_of = 0, count = 0;
    while ((1L << rounds_of) < width)
        rounds_of++;
    long distance = 1L << ((step - 1) % (rounds_of ? rounds_of : 1));
    for (long other = point - distance; other <= point + distance; other += distance)
        if (other >= 0 && other < width)
            inputs[count++] = other;
    return count;
}

/* The points of the step before that a point needs, in order, each once. Their count. */
static long inputs_of(long step, long point, long *inputs)
{
    long count = 0, unique = 0;
    struct chance chance = chance_at(step, point);
    if (step == 0 || !strcmp(shape, "trivial"))
        return 0;
    if (!strcmp(shape, "no_comm") || !strcmp(shape, "chain"))
        inputs[count++] = point;
    else if (!strcmp(shape, "stencil_1d"))
        return around(point, 1, inputs);
    else if (!strcmp(shape, "nearest"))
        return around(point, 2, inputs);
    else if (!strcmp(shape, "fft"))
        return fft(step, point, inputs);
    else if (!strcmp(shape, "fan_out"))
        inputs[count++] = point / 2;
    else if (!strcmp(shape, "dom")) {
        if (point > 0)
            inputs[count++] = point - 1;
        inputs[count++] = point;
    } else if (!strcmp(shape, "all_to_all"))
        for (long other = 0; other < width; other++)
            inputs[count++] = other;
    else if (!strcmp(shape, "spread"))
        for (long part = 0; part < 5; part++)
            inputs[count++] = (point + part * ((width + 4) / 5)) % width;
    else if (!strcmp(shape, "random")) {
        inputs[count++] = point;
        inputs[count++] = below(&chance, (uint32_t)width);
        inputs[count++] = below(&chance, (uint32_t)width);
    } else if (!strcmp(shape, "random_nearest")) {
        long near[5], all = around(point, 2, near);
        for (long i = 0; i < all; i++)
            if (below(&chance, 2) == 1 || near[i] == point)
                inputs[count++] = near[i];
    } else {
        fprintf(stderr, "taskbench: there is no shape `%s`\n", shape);
        exit(2);
    }
    qsort(inputs, (size_t)count, sizeof *inputs, by_number);
    for (long i = 0; i < count; i++)
        if (i == 0 || inputs[i] != inputs[unique - 1])
            inputs[unique++] = inputs[i];
    return unique;
}

/* All inputs of all points, found before the clock runs. */
struct pattern {
    long *first; /* of a point's inputs, by step * width + point; one more at the end */
    long *inputs;
};

static struct pattern make_pattern(void)
{
    long points = steps * width, room = points * 5, at = 0;
    long *few = get((size_t)(width > 5 ? width : 5) * sizeof(long));
    struct pattern pattern = { get((size_t)(points + 1) * sizeof(long)), get((size_t)room * sizeof(long)) };
    for (long point = 0; point < points; point++) {
        long count = inputs_of(point / width, point % width, few);
        pattern.first[point] = at;
        if (at + count > room) {
            room = 2 * room + count;
            pattern.inputs = realloc(pattern.inputs, (size_t)room * sizeof(long));
            if (!pattern.inputs)
                exit(1);
        }
        memcpy(pattern.inputs + at, few, (size_t)count * sizeof(long));
        at += count;
    }
    pattern.first[points] = at;
    free(few);
    return pattern;
}

/* ------------------------------------------------------------------ kernel */

#define BEGIN 0x9E3779B97F4A7C15u

static volatile double one = 1.0;

static uint64_t compute(void)
{
    double number = one;
    uint64_t bits;
    for (long i = 0; i < iterations; i++)
        number = number * 0.999999 + 0.000002;
    memcpy(&bits, &number, sizeof bits);
    return bits;
}

static long words(void)
{
    long count = (bytes + 7) / 8;
    return count ? count : 1;
}

static uint64_t take_in(uint64_t value, const uint64_t *input)
{
    if (input[0] != input[words() - 1]) {
        fprintf(stderr, "taskbench: an input is damaged: its ends differ\n");
        exit(1);
    }
    return mix(value ^ input[0]);
}

/* One task: takes its inputs, computes, fills its output. */
static void run_task(long point, long count, const uint64_t *const *inputs, uint64_t *output)
{
    uint64_t value = BEGIN;
    if (count == 0)
        value = mix(value ^ (uint64_t)point);
    for (long i = 0; i < count; i++)
        value = take_in(value, inputs[i]);
    value ^= compute();
    for (long i = 0, all = words(); i < all; i++)
        output[i] = value;
}

/* ------------------------------------------------------------------ flags, result */

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--shape"))
            shape = value;
        else if (!strcmp(argv[i], "--width"))
            width = atol(value);
        else if (!strcmp(argv[i], "--steps"))
            steps = atol(value);
        else if (!strcmp(argv[i], "--iterations"))
            iterations = atol(value);
        else if (!strcmp(argv[i], "--bytes"))
            bytes = atol(value);
        else if (!strcmp(argv[i], "--rounds"))
            rounds = atol(value);
        else {
            fprintf(stderr, "usage: [--shape NAME] [--width N] [--steps N] [--iterations N] [--bytes N]"
                            " [--rounds N]\n");
            exit(2);
        }
    }
    if (width < 1 || steps < 1 || iterations < 0 || bytes < 0 || rounds < 1)
        exit(2);
}

static void tell(const char *program, int workers, double seconds, uint64_t checksum)
{
    printf("{\"program\":\"%s\",\"shape\":\"%s\",\"width\":%ld,\"steps\":%ld,\"iterations\":%ld,\"bytes\":%ld,"
           "\"workers\":%d,\"rounds\":%ld,\"seconds\":%.6f,\"us_per_task\":%.4f,\"checksum\":%lld}\n",
           program, shape, width, steps, iterations, bytes, workers, rounds, seconds,
           seconds * 1e6 / (double)(width * steps), (long long)checksum);
}

#endif
