/* A session's streams: three pipes, or a terminal, made inside of the container.
 *
 * Their far ends go to the client, so that bytes never pass through wshd and nothing of the client's comes in. */

#ifndef WSHD_STREAMS_H
#define WSHD_STREAMS_H

#include <stddef.h>

#include "common.h"
#include "program.h"

struct streams {
    int inside[3];  /* stdin, stdout and stderr of the program; of a terminal only the first is open */
    int outside[3]; /* what the client gets: `count` of them */
    size_t count;
};

/* Makes them as the program asks; a terminal has its window's size from the start. Returns 0 or -errno, with
 * nothing left open. */
int streams_open(struct streams *streams, const struct program *program, struct failure *failure);

void streams_close_inside(struct streams *streams);
void streams_close_outside(struct streams *streams);

#endif
