/* One direction of a session: bytes from one descriptor to another, never blocking and in bounded memory.
 *
 * Between pipes, and between a pipe and a file, the kernel moves the bytes (splice); elsewhere one buffer of 64 KiB
 * lies between. A side that is not ready stops the other: that is all the flow control there is. */

#ifndef WSH_CLIENT_PUMP_H
#define WSH_CLIENT_PUMP_H

#include <poll.h>

#include "common.h"

#define PUMP_BUFFER (64 << 10)

/* How a descriptor is read or written without blocking. Those of the session are non-blocking; the operator's are
 * shared with other programs, whose setting is not ours to change. */
enum pump_way {
    WAY_PLAIN,  /* non-blocking by itself, or such that it never blocks for long: a file */
    WAY_SOCKET, /* by a flag of each call */
    WAY_PIPE,   /* a pipe of the operator's: what poll allows is at least PIPE_BUF bytes */
};

struct pump {
    int from, to; /* -1: closed */
    enum pump_way from_way, to_way;
    bool splices;
    bool keeps_to; /* `to` is the operator's, and stays open at the end */
    bool cleans;    /* control characters become '?' */
    bool types_end; /* `to` is a terminal: the source's end is typed, as a person would */
    bool from_ready, to_ready;
    bool is_wide;       /* its pipes have been given more room */
    int error;         /* why writing failed, where it did */
    size_t at, end;    /* what is in the buffer */
    uint64_t moved;    /* bytes, in all */
    unsigned char last; /* the last byte that went through the buffer */
    char *buffer;
};

/* From the operator's descriptor into the session, and back. They find out how each is best read or written. */
void pump_into(struct pump *pump, int from, int to);
void pump_out(struct pump *pump, int from, int to);

bool pump_is_open(const struct pump *pump);

/* What has to be waited for: up to two entries. Returns how many. */
size_t pump_wants(const struct pump *pump, struct pollfd *wants);

/* Takes note of what poll has said about them. */
void pump_note(struct pump *pump, const struct pollfd *wants, size_t count);

/* Moves what can be moved, with an end so that other descriptors have their turn: pump_is_ready tells whether there
 * may be more. At the source's end, or where nobody reads any more, the pump closes. */
void pump_move(struct pump *pump);
bool pump_is_ready(const struct pump *pump);

/* Whether bytes wait for whoever reads them. */
bool pump_is_held_up(const struct pump *pump);

void pump_close(struct pump *pump);

#endif
