/* The fuzzer: mutated frames for the parsers and for the sessions' states, each input made from its number alone.
 *
 *   fuzz COUNT [SEED [FIRST]]    FIRST: begin with that input, to see one again */

#include "tests/fuzz.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "wire.h"
#include "wshd/program.h"

void __sanitizer_set_death_callback(void (*callback)(void));

static uint64_t state, seed;
static unsigned long current;

void fuzz_tell_input(void)
{
    fprintf(stderr, "fuzz: input %lu of seed %llu\n", current, (unsigned long long)seed);
}

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint32_t fuzz_below(uint32_t bound)
{
    return bound ? (uint32_t)(next_random() % bound) : 0;
}

/* Numbers at which bounds are missed. */
static uint32_t edge(void)
{
    static const uint32_t edges[] = {0,    1,    3,          4,          5,          7,          8,          9,
                                     4095, 4096, 4097,       0x7fffffff, 0x80000000, 0xfffffff7, 0xfffffff8, 0xffffffff,
                                     255,  256,  0x00400000, 0x00400001, 0xffff};
    return fuzz_once_in(3) ? (uint32_t)next_random() : edges[fuzz_below(sizeof edges / sizeof *edges)];
}

static void put_field(struct wire_writer *writer)
{
    static const char *const texts[] = {"", "a", "sh", "A=b", "=", "A=", "/", "NAME=VALUE=", "long argument, quite"};
    const char *text = texts[fuzz_below(sizeof texts / sizeof *texts)];
    uint16_t tag = (uint16_t)fuzz_below(9);
    if (tag == EXEC_UMASK || tag == EXEC_FLAGS) {
        wire_put_u32(writer, tag, fuzz_below(5));
    } else if (tag == EXEC_WINSIZE) {
        wire_put(writer, tag, "\1\2\3\4", 4);
    } else if (tag == EXEC_RLIMIT) {
        uint8_t limit[24] = {(uint8_t)fuzz_below(20), 0, 0, 0};
        wire_put(writer, tag, limit, sizeof limit);
    } else {
        wire_put_text(writer, tag, text);
    }
}

static void put_exec(struct wire_writer *writer)
{
    wire_put_text(writer, EXEC_ARG, "true");
    for (uint32_t fields = fuzz_below(6); fields; fields--)
        put_field(writer);
}

static void put_frame(struct wire_writer *writer)
{
    static const uint16_t types[] = {FRAME_EXEC, FRAME_EXEC, FRAME_EXEC, FRAME_PING, FRAME_SIGNAL, FRAME_SIGNAL};
    uint16_t type = types[fuzz_below(sizeof types / sizeof *types)];
    wire_begin(writer, fuzz_once_in(12) ? (uint16_t)edge() : type, fuzz_once_in(20) ? (uint16_t)edge() : WIRE_VERSION);
    if (type == FRAME_EXEC) {
        if (fuzz_once_in(3))
            put_exec(writer);
        else
            wire_put_text(writer, EXEC_ARG, "true");
        if (fuzz_once_in(2))
            wire_put_u32(writer, EXEC_FLAGS, fuzz_below(4));
    } else if (type == FRAME_SIGNAL) {
        wire_raw(writer, (uint8_t[]){(uint8_t)(1 + fuzz_below(64)), (uint8_t)fuzz_below(2), 0, 0}, 4);
    }
    wire_end(writer);
}

static void damage(uint8_t *bytes, size_t *length)
{
    size_t at = fuzz_below((uint32_t)*length);
    uint32_t number = edge();
    switch (fuzz_below(5)) {
    case 0:
        bytes[at] ^= (uint8_t)(1 << fuzz_below(8));
        break;
    case 1:
        bytes[at] = (uint8_t)number;
        break;
    case 2: /* a number somewhere, most often a length */
        memcpy(bytes + at, &number, *length - at < sizeof number ? *length - at : sizeof number);
        break;
    case 3:
        *length = at;
        break;
    default: /* something is there twice, or is missing */
        memmove(bytes + at, bytes + *length / 2, *length - *length / 2 < *length - at ? *length / 2 : *length - at);
    }
}

size_t fuzz_frames(uint8_t bytes[FUZZ_BYTES])
{
    size_t length = 0;
    for (uint32_t frames = 1 + fuzz_below(3); frames && length < FUZZ_BYTES; frames--) {
        struct wire_writer writer;
        wire_writer_init(&writer, bytes + length, FUZZ_BYTES - length);
        put_frame(&writer);
        if (!writer.error)
            length += writer.length;
    }
    for (uint32_t times = fuzz_once_in(2) ? 1 + fuzz_below(3) : 0; times && length; times--)
        damage(bytes, &length);
    return length;
}

/* What was accepted is what can be used: strings that end inside of the payload. */
static void check_program(struct wire_frame *frame)
{
    const char *why;
    struct program program;
    size_t used = 0;
    int result = program_parse(&program, frame, &why);
    HOLDS(result == (why ? -EPROTO : 0));
    if (!result) {
        HOLDS(program.argv[0]);
        for (char **word = program.argv; *word; word++)
            used += strlen(*word) + 1;
        for (char **word = program.variables; *word; word++) {
            HOLDS(strchr(*word, '=') > *word);
            used += strlen(*word) + 1;
        }
        used += program.cwd ? strlen(program.cwd) + 1 : 0;
        HOLDS(used <= frame->length && program.rlimit_count <= PROGRAM_RLIMITS && program.umask <= 0777);
    }
    program_free(&program);
}

void fuzz_parsers(void)
{
    uint8_t bytes[FUZZ_BYTES];
    size_t length = fuzz_frames(bytes);
    struct wire_budget budget = {.left = 8192};
    struct wire_reader reader;
    wire_reader_init(&reader, 1, (uint16_t)(1 + fuzz_below(2)), &budget);
    for (size_t done = 0; done < length;) {
        uint8_t *at;
        size_t wanted;
        wire_want(&reader, &at, &wanted);
        HOLDS(wanted);
        size_t now = wanted < length - done ? wanted : length - done;
        now = 1 + fuzz_below((uint32_t)now);
        memcpy(at, bytes + done, now);
        done += now;
        int result = wire_got(&reader, now);
        if (result == WIRE_WHOLE)
            check_program(&reader.frame);
        if (result < 0 || result == WIRE_WHOLE)
            wire_reader_reset(&reader);
    }
    wire_reader_reset(&reader);
    HOLDS(budget.left == 8192);
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 50000;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    current = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    __sanitizer_set_death_callback(fuzz_tell_input);
    time_t start = time(NULL);
    for (unsigned long end = current + count; current < end; current++) {
        state = seed * 0x2545f4914f6cdd1d ^ current;
        next_random();
        if (fuzz_once_in(2))
            fuzz_parsers();
        else
            fuzz_sessions();
    }
    printf("fuzz: %lu inputs of seed %llu in %ld s, none did harm\n", count, (unsigned long long)seed,
           (long)(time(NULL) - start));
    return 0;
}
