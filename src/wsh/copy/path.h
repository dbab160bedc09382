/* Where in a tree a copy is, for its messages, and the messages. */

#ifndef WSH_COPY_PATH_H
#define WSH_COPY_PATH_H

#include <stddef.h>

#include "common.h"

#define COPY_PATH_MAX 4096

/* A path for people. What does not fit is left out at its end: programs go by descriptors. */
struct copy_path {
    char text[COPY_PATH_MAX];
    size_t length;
};

/* Adds a component (or, to an empty path, anything); returns what copy_path_leave takes to remove it again. */
size_t copy_path_enter(struct copy_path *path, const char *name);
void copy_path_leave(struct copy_path *path, size_t length);

/* Says one line about a path on stderr: "wsh cp: PATH: …". It waits for its reader, so that no warning is lost.
 * With an error, its text follows. */
void copy_say(const char *path, int error, const char *format, ...) printf_like(3, 4);

#endif
