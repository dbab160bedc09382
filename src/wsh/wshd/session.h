/* The control socket's connections: each is one session, or one ping.
 *
 *   FIRST     the first frame is awaited, for a limited time
 *   RUNNING   a program was started; only SIGNAL may come
 *
 * A connection ends with its last frame (EXITED, ERROR or PONG), or with what its client does: closing, a frame
 * that is not allowed, not reading. None of that ends more than the connection, but for the session's program
 * where the client has asked for that. */

#ifndef WSHD_SESSION_H
#define WSHD_SESSION_H

#include "child.h"
#include "loop.h"
#include "wire.h"

/* Bytes of payload that all connections together may have on their way. */
#define SESSIONS_PAYLOAD_MAX (16u << 20)
#define SESSIONS_BUCKETS 64

struct session;

/* All sessions of the instance. */
struct sessions {
    struct loop *loop;
    const struct inherited *inherited; /* for the programs */
    int memory_counter;                /* see memory.h; or -1 */
    struct wire_budget budget;
    unsigned running;
    bool ending;
    struct session *first, *last; /* every connection that awaits its first frame, the oldest first */
    struct session *by_pid[SESSIONS_BUCKETS];
};

void sessions_init(struct sessions *sessions, struct loop *loop, const struct inherited *inherited,
                   int memory_counter);

/* Takes over a connection, a non-blocking socket. */
void sessions_accept(struct sessions *sessions, int socket);

/* Milliseconds until the next connection has to have sent its first frame; -1: none has to. */
int sessions_timeout(const struct sessions *sessions);

/* Ends the connections whose time is over. */
void sessions_expire(struct sessions *sessions);

/* A child was reaped: tells its session, if it has one. */
void sessions_reaped(struct sessions *sessions, pid_t pid, int status);

/* The instance's own program has ended: from now on, what dies by SIGKILL was killed by us. */
void sessions_ending(struct sessions *sessions);

/* Tells all connections that are left that the instance ends. */
void sessions_close(struct sessions *sessions);

#endif
