/* The fuzzer's parts: chance, inputs, and the two things that are fed with them. */

#ifndef WSH_TESTS_FUZZ_H
#define WSH_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FUZZ_BYTES 2048

/* Like assert, but tells which input it was. */
#define HOLDS(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
            fuzz_tell_input();                                                         \
            _Exit(1);                                                                  \
        }                                                                              \
    } while (0)

void fuzz_tell_input(void);

/* A number below `bound`, or 0. */
uint32_t fuzz_below(uint32_t bound);

/* True once in `n` times. */
static inline int fuzz_once_in(uint32_t n)
{
    return fuzz_below(n) == 0;
}

/* Writes frames such as a client might send, and then damages some. Returns how many bytes. */
size_t fuzz_frames(uint8_t bytes[FUZZ_BYTES]);

/* Feeds one input to the parsers of frames and of EXEC. */
void fuzz_parsers(void);

/* Lets some clients send their inputs to the sessions, while programs start, fail, end and are reaped. */
void fuzz_sessions(void);

#endif
