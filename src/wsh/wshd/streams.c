/* A session's streams; see streams.h. */

#include "streams.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static void close_all(int descriptors[3])
{
    for (size_t i = 0; i < 3; i++)
        close_descriptor(&descriptors[i]);
}

void streams_close_inside(struct streams *streams)
{
    close_all(streams->inside);
}

void streams_close_outside(struct streams *streams)
{
    close_all(streams->outside);
}

/* The program reads the first pipe and writes the others. */
static int open_pipes(struct streams *streams, struct failure *failure)
{
    for (size_t i = 0; i < 3; i++) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) < 0)
            return fail(failure, errno, "making a pipe");
        streams->inside[i] = ends[i ? 1 : 0];
        streams->outside[i] = ends[i ? 0 : 1];
    }
    streams->count = 3;
    return 0;
}

/* The terminal's own end is opened through its master: no path is looked up that a tenant could have a say in. */
static int open_terminal(struct streams *streams, const struct program *program, struct failure *failure)
{
    int *master = &streams->outside[0];
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*master < 0)
        return fail(failure, errno, "making a terminal");
    if (unlockpt(*master) < 0 || (program->has_window && ioctl(*master, TIOCSWINSZ, &program->window) < 0))
        return fail(failure, errno, "preparing a terminal");
    streams->inside[0] = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (streams->inside[0] < 0)
        return fail(failure, errno, "opening a terminal");
    streams->count = 1;
    return 0;
}

int streams_open(struct streams *streams, const struct program *program, struct failure *failure)
{
    *streams = (struct streams){.inside = {-1, -1, -1}, .outside = {-1, -1, -1}};
    int result = program->tty ? open_terminal(streams, program, failure) : open_pipes(streams, failure);
    if (result < 0) {
        streams_close_inside(streams);
        streams_close_outside(streams);
    }
    return result;
}
