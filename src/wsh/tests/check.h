/* Checks for the unit tests: the first one that fails says where, and ends the program. */

#ifndef WSH_TESTS_CHECK_H
#define WSH_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#define CHECK_TEXT(got, wanted)                                                         \
    do {                                                                                \
        if (strcmp((got), (wanted))) {                                                  \
            fprintf(stderr, "%s:%d: \"%s\", not \"%s\"\n", __FILE__, __LINE__, (got), (wanted)); \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#endif
